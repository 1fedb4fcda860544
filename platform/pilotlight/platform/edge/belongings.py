"""Which objects belong to which function, kept current one at a time: with ten thousand functions nobody looks at all
of them for the sake of one."""

from __future__ import annotations

from collections import defaultdict

from pilotlight.platform.kubernetes.kinds import FUNCTION_LABEL, Key, Object, labels_of
from pilotlight.platform.kubernetes.mirror import Objects


class Belongings:
    """Objects of one kind by the function that their label names. For one thread."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._owner: dict[Key, Key] = {}
        self._of: dict[Key, dict[Key, Object]] = defaultdict(dict)

    def look(self, key: Key) -> set[Key]:
        """Take in an object as it is now; the functions whose belongings have changed with it."""
        found = self._objects.get(*key)
        before, after = self._owner.pop(key, None), _owner(found)
        if before is not None:
            del self._of[before][key]
            if not self._of[before]:
                del self._of[before]
        if found is not None and after is not None:
            self._owner[key] = after
            self._of[after][key] = found
        return {owner for owner in (before, after) if owner is not None}

    def look_at_all(self) -> None:
        for key in self._owner.keys() | self._objects.objects.keys():
            self.look(key)

    def of(self, function: Key) -> list[Object]:
        """By name."""
        known = self._of.get(function, {})
        return [known[key] for key in sorted(known)]


def _owner(found: Object | None) -> Key | None:
    name = labels_of(found).get(FUNCTION_LABEL) if found is not None else None
    return Key(found["metadata"]["namespace"], name) if found is not None and name else None
