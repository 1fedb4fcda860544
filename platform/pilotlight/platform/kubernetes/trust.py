"""The certificates of the link between our own processes, kept in Secrets and renewed by whoever leads."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path

from pilotlight.activator.values import Clock
from pilotlight.platform.kubernetes.api import Api
from pilotlight.platform.kubernetes.errors import ConflictError, NotFoundError
from pilotlight.platform.kubernetes.kinds import MANAGED_BY, SECRET
from pilotlight.platform.link.certificates import Pair, Role, authority_of, files, leaf_of
from pilotlight.platform.link.tls import store

AUTHORITY = "pilotlight-ca"
"""Readable for operators alone: whoever has it can be anybody."""
ACTIVATORS = "pilotlight-tls"
"""What activators mount."""


class Trust:
    """Blocking. `refresh` makes what is missing and renews what is due."""

    def __init__(self, api: Api, namespace: str, folder: Path, names: Collection[str], clock: Clock) -> None:
        """`folder`: where this operator's own certificate is written; `names`: under which it is reached."""
        self._api = api
        self._namespace = namespace
        self._folder = folder
        self._names = names
        self._clock = clock

    def refresh(self) -> None:
        """Raises KubernetesError, CertificateError."""
        now = datetime.fromtimestamp(self._clock.now(), UTC)
        authority = self._authority(now)
        own = leaf_of(self._read_folder(), authority, Role.OPERATOR, self._names, now)
        store(self._folder, files(authority, own))
        held = self._read(ACTIVATORS)
        theirs = leaf_of(held or {}, authority, Role.ACTIVATOR, (), now)
        self._write(ACTIVATORS, files(authority, theirs), held)

    def _authority(self, now: datetime) -> Pair:
        """Of several operators that start at once, the first one's counts for all."""
        held = self._read(AUTHORITY)
        pair = authority_of(held or {}, now)
        try:
            self._write(AUTHORITY, {"ca.crt": pair.certificate_pem, "ca.key": pair.key_pem}, held)
        except ConflictError:
            return authority_of(self._read(AUTHORITY) or {}, now)
        return pair

    def _read_folder(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self._folder.glob("*.*") if path.is_file()}

    def _read(self, name: str) -> dict[str, bytes] | None:
        """None: there is no such Secret."""
        try:
            found = self._api.get(SECRET, self._namespace, name)
        except NotFoundError:
            return None
        return {key: b64decode(value) for key, value in (found.get("data") or {}).items()}

    def _write(self, name: str, wanted: Mapping[str, bytes], held: Mapping[str, bytes] | None) -> None:
        if wanted == held:
            return
        data = {key: b64encode(value).decode() for key, value in wanted.items()}
        if held is not None:
            self._api.patch(SECRET, self._namespace, name, {"data": data})
            return
        metadata = {"namespace": self._namespace, "name": name, "labels": dict(MANAGED_BY)}
        body = {"apiVersion": SECRET.api_version, "kind": SECRET.kind, "metadata": metadata, "data": data}
        self._api.create(SECRET, body)
