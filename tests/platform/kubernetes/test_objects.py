"""What is made for a function, what of others is left alone, and what its object waits for before it goes."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from tests.platform.conftest import make_template

from pilotlight.activator.values import FunctionId
from pilotlight.platform.control.specs import SpecSettings
from pilotlight.platform.kubernetes.errors import UnreachableError
from pilotlight.platform.kubernetes.kinds import FUNCTION, KNATIVE_SERVICE, SECRET, SERVICE_ACCOUNT, Key, key_of
from pilotlight.platform.kubernetes.knative.service import Timeouts
from pilotlight.platform.kubernetes.objects import AGAIN_SECONDS, FINALIZER, FunctionObjects, ObjectSettings
from pilotlight.platform.values import Function, Policy, Revision

if TYPE_CHECKING:
    from tests.platform.kubernetes.conftest import Holder, ScriptedApi

CHAT = FunctionId("team-a", "chat")
KEY = Key(*CHAT)
SETTINGS = ObjectSettings("runtime:1", "control:1", {"AWS_REGION": "here"}, Timeouts(), SpecSettings(""))
TEMPLATE = make_template()


class Stage:
    """One Function object in the API server, and the mirrors as the test lets them catch up."""

    def __init__(self, api: ScriptedApi, services: Holder, pods: Holder, clock: Any) -> None:
        self.api, self.services, self.pods, self.clock = api, services, pods, clock
        self.pod: dict[str, Any] = {}
        self.number = 1
        self.known = True
        self.objects = self.new_leader()
        api.create(FUNCTION, {"metadata": {"namespace": "team-a", "name": "chat"}})
        api.calls.clear()

    def new_leader(self) -> FunctionObjects:
        stand_in: Any = self.api
        self.objects = FunctionObjects(stand_in, self.services, self.pods, SETTINGS, self.clock)
        return self.objects

    def current(self, function: FunctionId) -> tuple[Function, Revision] | None:
        revision = self.revision(function, f"chat-{self.number:05}")
        found = Function(CHAT, {}, Policy(), revision.name, 0.0, 0.0)
        return (found, revision) if self.known and function == CHAT else None

    def revision(self, function: FunctionId, name: str) -> Revision:
        template = replace(TEMPLATE, pod=self.pod)
        return Revision(function, name, int(name[-5:]), 0.0, f"key-of-{name}", template)

    def reconcile(self, catch_up: bool = True) -> list[tuple[str, str, str]]:
        """The calls of one look; `catch_up`: the mirror sees what was written."""
        self.api.calls.clear()
        self.objects.reconcile({key_of(found): found for found in self.api.made(FUNCTION)}, self.current, self.revision)
        calls = list(self.api.calls)
        if catch_up:
            ours = [found for found in self.api.made(KNATIVE_SERVICE) if found["metadata"].get("labels")]
            self.services.objects = {key_of(found): found for found in ours}
        return calls

    def secrets(self) -> list[str]:
        """Those that one look writes."""
        return [name for _, plural, name in self.reconcile() if plural == "secrets"]

    def delete(self) -> None:
        self.api.patch(FUNCTION, *CHAT, {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}})

    def finalizers(self) -> list[str]:
        [found] = self.api.made(FUNCTION)
        return list(found["metadata"].get("finalizers") or ())


@pytest.fixture
def stage(api: ScriptedApi, holder: Callable[..., Holder], clock: Any) -> Stage:
    return Stage(api, holder(), holder(), clock)


def foreign_service(stage: Stage) -> None:
    stage.api.create(KNATIVE_SERVICE, {"metadata": {"namespace": "team-a", "name": "chat"}})


def test_the_finalizer_is_there_before_anything_is_made(stage: Stage) -> None:
    calls = stage.reconcile()

    assert [(verb, plural) for verb, plural, _ in calls] == [
        ("patch", "functions"),
        ("apply", "secrets"),
        ("create", "services"),
    ]
    assert stage.finalizers() == [FINALIZER]
    assert stage.objects.problems == {}


def test_a_finalizer_that_cannot_be_set_keeps_all_else_from_being_made(stage: Stage) -> None:
    stage.api.failing["patch"] = UnreachableError("PATCH", 0, "NoAnswer", "refused")

    stage.reconcile()

    assert not stage.api.made(KNATIVE_SERVICE)
    assert stage.objects.problems == {KEY: "refused"}


def test_finalizers_of_others_stay(stage: Stage) -> None:
    stage.api.patch(FUNCTION, *CHAT, {"metadata": {"finalizers": ["example.org/theirs"]}})

    stage.reconcile()
    assert stage.finalizers() == ["example.org/theirs", FINALIZER]
    stage.delete()
    stage.services.objects = {}
    stage.reconcile(catch_up=False)

    assert stage.finalizers() == ["example.org/theirs"]


def test_an_object_without_a_revision_yet_gets_nothing_but_its_finalizer(stage: Stage) -> None:
    stage.known = False

    assert [verb for verb, _, _ in stage.reconcile()] == ["patch"]


def test_a_second_look_writes_nothing(stage: Stage) -> None:
    stage.reconcile()

    assert stage.reconcile() == []


def test_the_secret_is_written_once_by_each_leader(stage: Stage) -> None:
    stage.reconcile()
    stage.new_leader()

    assert stage.reconcile() == [("apply", "secrets", "chat-00001-pilotlight")]
    assert stage.reconcile() == []


def pod(namespace: str, name: str) -> dict[str, Any]:
    metadata = {"namespace": namespace, "name": name, "uid": name, "labels": {"pilotlight.dev/function": "chat"}}
    return {"metadata": metadata, "status": {}}


def waiting(uid: str, revision: str, secret: str) -> dict[str, Any]:
    """A pod that a Secret keeps from starting, as Kubernetes tells it."""
    made = pod("team-a", uid)
    made["metadata"]["labels"]["serving.knative.dev/revision"] = revision
    waits = {"reason": "CreateContainerConfigError", "message": f'secret "{secret}" not found'}
    return {**made, "status": {"containerStatuses": [{"name": "user", "state": {"waiting": waits}}]}}


@pytest.mark.parametrize("revision", ["chat-00001", "chat-00002"], ids=["an older revision", "the newest one"])
def test_a_secret_that_is_gone_is_written_again_once_a_pod_lacks_it(stage: Stage, revision: str) -> None:
    for stage.number in (1, 2):
        stage.reconcile()
    secret = f"{revision}-pilotlight"
    stage.api.delete(SECRET, "team-a", secret)
    assert stage.secrets() == []

    for uid in ("pod-1", "pod-2"):
        stage.pods.put(waiting(uid, revision, secret))
        assert stage.secrets() == [secret]
        assert stage.secrets() == [], "it takes Kubernetes a while to try again"
    values = {each["metadata"]["name"]: each["data"] for each in stage.api.made(SECRET)}
    assert b64decode(values[secret]["PILOTLIGHT_ENGINE_KEY"]).decode() == f"key-of-{revision}"

    stage.pods.put(waiting("pod-3", revision, "of-users"))
    assert stage.secrets() == []


def test_a_secret_that_is_gone_again_while_the_same_pod_waits_is_written_again(stage: Stage) -> None:
    secret = "chat-00001-pilotlight"
    stage.reconcile()
    stage.clock.time += AGAIN_SECONDS
    assert stage.secrets() == [], "no pod lacks it"
    stage.pods.put(waiting("pod-1", "chat-00001", secret))

    for _ in range(2):
        stage.api.delete(SECRET, "team-a", secret)
        assert stage.secrets() == [secret]
        stage.clock.time += AGAIN_SECONDS / 2
        assert stage.secrets() == [], "it takes Kubernetes a while to try again"
        stage.clock.time += AGAIN_SECONDS / 2


def test_a_service_is_changed_only_for_a_new_revision(stage: Stage) -> None:
    stage.reconcile()
    stage.number = 2

    assert stage.reconcile() == [("apply", "secrets", "chat-00002-pilotlight"), ("patch", "services", "chat")]


def test_a_service_that_the_mirror_does_not_have_yet_is_no_problem(stage: Stage) -> None:
    stage.reconcile(catch_up=False)

    stage.reconcile()

    assert stage.objects.problems == {}
    assert stage.reconcile() == []


def test_a_service_of_somebody_else_is_a_problem_in_words_and_stays_as_it_is(stage: Stage) -> None:
    foreign_service(stage)

    stage.reconcile()
    stage.reconcile()

    assert stage.objects.problems == {
        KEY: "there is a Knative Service chat that is not ours; delete it, or name the function otherwise"
    }
    [service] = stage.api.made(KNATIVE_SERVICE)
    assert "spec" not in service
    stage.api.delete(KNATIVE_SERVICE, *CHAT)
    stage.reconcile()
    assert stage.objects.problems == {}


def test_a_service_account_that_is_missing_is_a_problem_in_words(stage: Stage) -> None:
    stage.pod = {"serviceAccountName": "reader"}

    stage.reconcile()
    assert "there is no ServiceAccount reader in team-a" in stage.objects.problems[KEY]
    stage.api.create(SERVICE_ACCOUNT, {"metadata": {"namespace": "team-a", "name": "reader"}})
    stage.reconcile()

    assert stage.objects.problems == {}
    assert len(stage.api.made(KNATIVE_SERVICE)) == 1


def test_an_object_that_has_changed_meanwhile_is_left_to_the_next_look(stage: Stage) -> None:
    def label() -> None:
        stage.api.patch(FUNCTION, *CHAT, {"metadata": {"labels": {"a": "b"}}})

    stage.api.before["patch"] = label

    stage.reconcile()
    assert stage.finalizers() == []
    stage.reconcile()

    assert stage.finalizers() == [FINALIZER]
    assert stage.objects.problems == {}


def test_the_object_goes_when_service_and_pods_are_gone(stage: Stage) -> None:
    stage.reconcile()
    stage.pods.put(pod("team-a", "p"))
    stage.pods.put(pod("team-b", "q"))
    stage.delete()

    assert stage.reconcile() == [("delete", "services/foreground", "chat")]
    assert stage.reconcile() == [], "a pod runs"
    assert stage.finalizers() == [FINALIZER]
    stage.pods.objects = {key: found for key, found in stage.pods.objects.items() if key.namespace == "team-b"}
    assert stage.reconcile() == [("patch", "functions", "chat")]
    assert stage.finalizers() == []


def test_a_service_that_is_going_is_not_deleted_again(stage: Stage) -> None:
    stage.reconcile()
    stage.delete()
    [service] = stage.api.made(KNATIVE_SERVICE)
    service["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"

    assert stage.reconcile() == []


def test_problems_of_what_is_gone_are_forgotten(stage: Stage) -> None:
    foreign_service(stage)
    stage.reconcile()

    stage.objects.reconcile({}, stage.current, stage.revision)

    assert stage.objects.problems == {}


def test_the_engine_key_is_in_the_secret_and_nowhere_else(stage: Stage) -> None:
    stage.reconcile()

    [service] = stage.api.made(KNATIVE_SERVICE)
    assert "key-of-chat-00001" not in str(service)
    [secret] = stage.api.made(SECRET)
    assert secret["metadata"]["ownerReferences"][0]["name"] == "chat"
