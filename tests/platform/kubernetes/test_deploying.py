"""`pilotlight deploy` against a cluster: the object is written, and what the operator makes of it is told."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pilotlight.activator.values import Caller, FunctionId
from pilotlight.platform.control.deploying import Deployer
from pilotlight.platform.control.errors import (
    ForbiddenError,
    MissingError,
    ModelError,
    RefusedError,
    UnavailableError,
)
from pilotlight.platform.database.connection import Database, DatabaseError
from pilotlight.platform.database.functions import Functions
from pilotlight.platform.kubernetes.applying import Applier, Outcome
from pilotlight.platform.kubernetes.deploying import WAIT_SECONDS, ObjectDeployer
from pilotlight.platform.kubernetes.errors import InvalidError, KubernetesError, NotFoundError, UnreachableError
from pilotlight.platform.kubernetes.kinds import FUNCTION, Key, key_of
from pilotlight.platform.manifest import Function as Manifest
from pilotlight.platform.manifest import parse
from pilotlight.platform.shelf import Shelf
from pilotlight.recommender import Machine

if TYPE_CHECKING:
    from tests.platform.kubernetes.conftest import ScriptedApi

ADMIN = Caller("key-admin", None, admin=True)
TEAM_B = Caller("key-b", frozenset({"team-b"}))
CHAT = FunctionId("team-a", "chat")


def manifest(name: str = "chat", **spec: Any) -> Manifest:
    metadata = {"name": name, "namespace": "team-a"}
    whole = {"model": "s3://models/tiny:v1", "engine": {"kind": "simulated"}, **spec}
    return parse(
        {"apiVersion": "pilotlight.dev/v1alpha1", "kind": "Function", "metadata": metadata, "spec": whole}, "test"
    )


class Failing(Deployer):
    """One that raises what it is told to."""

    error: Exception | None = None

    def apply(self, manifests: Any, caller: Caller) -> Any:
        if self.error is not None:
            raise self.error
        return super().apply(manifests, caller)


class Desk:
    """A cluster whose operator looks at the objects whenever one was written."""

    def __init__(self, api: ScriptedApi, folder: Path, database: Database, clock: Any) -> None:
        self.api, self.clock = api, clock
        self.functions = Functions(database)
        self.deployer = Failing(
            self.functions, Shelf(folder.as_uri(), folder), lambda: Machine(2**34, 4), clock, lambda: None
        )
        self.applier = Applier(self.deployer, self.functions, clock)
        self.dead = False
        stand_in: Any = api
        self.objects = ObjectDeployer(stand_in, self.functions, self._outcome, self._again, clock)

    def _outcome(self, key: Key) -> Outcome | None:
        if self.dead:
            self.clock.time += WAIT_SECONDS
        return self.applier.outcomes.get(key)

    def _again(self, key: Key) -> None:
        if not self.dead:
            self.applier.again(key)
            self.look()

    def look(self) -> None:
        objects = {key_of(found): found for found in self.api.made(FUNCTION)}
        content = {"apiVersion": FUNCTION.api_version, "kind": FUNCTION.kind}
        self.applier.reconcile({key: {**content, **found} for key, found in objects.items()})

    def apply(self, *manifests: Manifest, caller: Caller = ADMIN) -> Sequence[tuple[str, str]]:
        """What became of each, and its revision."""
        return [(each.change, each.function.revision) for each in self.objects.apply(manifests, caller)]


@pytest.fixture
def desk(api: ScriptedApi, tmp_path: Path, database: Database, clock: Any) -> Desk:
    return Desk(api, tmp_path, database, clock)


def test_a_new_function_an_equal_one_and_a_changed_one_are_told_apart(desk: Desk) -> None:
    assert desk.apply(manifest()) == [("created", "chat-00001")]
    assert desk.apply(manifest()) == [("unchanged", "chat-00001")]
    assert desk.apply(manifest(scale={"max": 3})) == [("updated", "chat-00001")]
    assert desk.apply(manifest(engine={"kind": "simulated", "maxModelLen": 128})) == [("updated", "chat-00002")]


def test_all_are_checked_before_any_is_written(desk: Desk) -> None:
    desk.apply(manifest("a"), manifest("b"))

    verbs = [(verb, name) for verb, _, name in desk.api.calls]
    assert verbs == [("dry run", "a"), ("dry run", "b"), ("apply", "a"), ("apply", "b")]
    desk.api.failing["dry run"] = InvalidError("PATCH", 422, "Invalid", "spec.scale: too big")
    with pytest.raises(RefusedError, match=r"team-a/c: spec\.scale: too big"):
        desk.apply(manifest("c"))
    assert desk.functions.get(FunctionId("team-a", "c")) is None


def test_a_key_of_another_namespace_writes_and_deletes_nothing(desk: Desk) -> None:
    desk.apply(manifest())
    desk.api.calls.clear()

    with pytest.raises(ForbiddenError):
        desk.apply(manifest(scale={"max": 9}), caller=TEAM_B)
    with pytest.raises(ForbiddenError):
        desk.objects.delete(CHAT, TEAM_B)

    assert desk.api.calls == []


def test_a_refusal_is_told_in_its_words(desk: Desk) -> None:
    desk.deployer.error = ModelError("there is no model s3://models/tiny:v1")

    with pytest.raises(RefusedError, match="there is no model"):
        desk.apply(manifest())


def test_one_that_was_refused_is_tried_anew_when_it_is_applied_again(desk: Desk) -> None:
    desk.deployer.error = ModelError("there is no model s3://models/tiny:v1")
    with pytest.raises(RefusedError):
        desk.apply(manifest())
    desk.deployer.error = ModelError("it is broken")
    with pytest.raises(RefusedError, match="it is broken"):
        desk.apply(manifest())
    desk.deployer.error = None

    assert desk.apply(manifest()) == [("created", "chat-00001")]


def test_an_old_verdict_on_an_object_of_the_same_name_does_not_count(desk: Desk) -> None:
    desk.apply(manifest())
    desk.apply(manifest(scale={"max": 3}))
    desk.api.delete(FUNCTION, *CHAT)
    desk.dead = True

    with pytest.raises(UnavailableError, match="not taken up"):
        desk.apply(manifest())


def test_what_nobody_expected_may_be_tried_again(desk: Desk) -> None:
    desk.deployer.error = DatabaseError("writing", "connection refused")

    with pytest.raises(UnavailableError, match="connection refused"):
        desk.apply(manifest())


def test_an_operator_that_takes_nothing_up_is_not_waited_for_for_ever(desk: Desk) -> None:
    desk.dead = True

    with pytest.raises(UnavailableError, match="kubectl describe fn"):
        desk.apply(manifest())


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (NotFoundError("PATCH", 404, "NotFound", 'namespaces "team-a" not found'), RefusedError, "kubectl create ns"),
        (InvalidError("PATCH", 422, "Invalid", "spec.scale"), RefusedError, "spec.scale"),
        (UnreachableError("PATCH", 0, "NoAnswer", "refused"), UnavailableError, "does not take team-a/chat"),
    ],
)
def test_what_the_api_server_says_is_passed_on(
    desk: Desk, error: KubernetesError, kind: type[Exception], words: str
) -> None:
    desk.api.failing["apply"] = error

    with pytest.raises(kind, match=words):
        desk.apply(manifest())


def test_a_function_is_deleted_as_its_object(desk: Desk) -> None:
    desk.apply(manifest())

    desk.objects.delete(CHAT, ADMIN)
    desk.look()

    assert desk.functions.all() == ()
    with pytest.raises(MissingError, match="there is no function team-a/chat"):
        desk.objects.delete(CHAT, ADMIN)


def test_one_that_was_never_taken_can_be_deleted(desk: Desk) -> None:
    desk.deployer.error = ModelError("there is no model")
    with pytest.raises(RefusedError):
        desk.apply(manifest())

    desk.objects.delete(CHAT, ADMIN)

    assert desk.api.made(FUNCTION) == []


def test_an_api_server_that_is_away_does_not_delete(desk: Desk) -> None:
    desk.apply(manifest())
    desk.api.failing["delete"] = UnreachableError("DELETE", 0, "NoAnswer", "refused")

    with pytest.raises(UnavailableError, match="does not delete team-a/chat"):
        desk.objects.delete(CHAT, ADMIN)
