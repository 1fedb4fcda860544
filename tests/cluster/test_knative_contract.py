"""Our side of Knative's contract on a real cluster: Services at zero, scaling, ingresses, revisions, deletion.

The shells are driven by the test itself, as the operator does it. No operator is needed, and one that leads the cluster
is not in the way: the classes here are not its own.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from kubernetes import client, config
from tests.platform.conftest import make_template

from pilotlight.activator.values import FunctionId
from pilotlight.platform.clock import SystemClock
from pilotlight.platform.kubernetes.api import Api
from pilotlight.platform.kubernetes.errors import NotFoundError
from pilotlight.platform.kubernetes.kinds import (
    CONFIG_MAP,
    DEPLOYMENT,
    FUNCTION_LABEL,
    INGRESS,
    KNATIVE_SERVICE,
    NAMESPACE,
    POD,
    POD_AUTOSCALER,
    REVISION,
    SECRET,
    SERVERLESS_SERVICE,
    SERVICE,
    Key,
    Kind,
    Object,
    annotations_of,
    condition,
    owner_reference,
)
from pilotlight.platform.kubernetes.knative import names
from pilotlight.platform.kubernetes.knative.autoscaler import Autoscaler, Sources
from pilotlight.platform.kubernetes.knative.ingress import Ingresses
from pilotlight.platform.kubernetes.knative.kpa import Bounds, KnativeBounds
from pilotlight.platform.kubernetes.knative.rules import read
from pilotlight.platform.kubernetes.knative.scaling import Wanted
from pilotlight.platform.kubernetes.knative.service import PodPlan, knative_service, revision_secret, service_change
from pilotlight.platform.kubernetes.mirror import Mirror
from pilotlight.platform.values import Policy, Revision
from pilotlight.runtime.podspec import pod_environment
from pilotlight.runtime.spec import EngineSpec, ReplicaSpec

KUBECONFIG = os.environ.get("PILOTLIGHT_TEST_KUBECONFIG", "")
IMAGE = os.environ.get("PILOTLIGHT_TEST_IMAGE", "pilotlight.local/control:dev")
pytestmark = pytest.mark.skipif(not KUBECONFIG, reason="PILOTLIGHT_TEST_KUBECONFIG names no cluster with Knative")

MADE = (KNATIVE_SERVICE, REVISION, POD_AUTOSCALER, SERVERLESS_SERVICE, INGRESS, DEPLOYMENT, POD, SECRET, SERVICE)
"""Kinds of which something is made for a function."""
ROUND_SECONDS = 1.0
"""The shells look again after so long even without news, as in the operator."""
CHAT = "chat"
CLASS = "contract-test.pilotlight.dev"
INGRESS_CLASS = "contract-test.pilotlight.ingress"

Until = Callable[[Callable[[], bool], str], None]


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    settings = client.Configuration()
    config.load_kube_config(config_file=KUBECONFIG, client_configuration=settings)
    settings.connection_pool_maxsize = 32  # a watch holds a connection
    api = Api(client.ApiClient(settings))
    yield api
    api.close()


@dataclass
class Driver:
    """Reconciles with every change that a mirror shows, as the operator does."""

    api: Api
    namespace: str
    wanted: dict[Key, Wanted] = field(default_factory=dict)
    bounds: dict[Key, Bounds] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.changed = threading.Event()
        self.ended = False
        self.mirrors = {
            kind: Mirror(self.api, kind, lambda _: self.changed.set(), namespace=self.namespace, labels=FUNCTION_LABEL)
            for kind in (POD_AUTOSCALER, SERVERLESS_SERVICE, DEPLOYMENT, POD, INGRESS, REVISION)
        }
        sources = (self.mirrors[kind] for kind in (POD_AUTOSCALER, SERVERLESS_SERVICE, DEPLOYMENT, POD))
        self.autoscaler = Autoscaler(self.api, Sources(*sources), SystemClock(), CLASS)
        self.ingresses = Ingresses(self.api, self.mirrors[INGRESS], SystemClock(), class_name=INGRESS_CLASS)
        self.knative_bounds = KnativeBounds(self.api, self.mirrors[REVISION])
        self.thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        for mirror in self.mirrors.values():
            mirror.start()
            assert mirror.wait(30)
        self.thread.start()

    def close(self) -> None:
        self.ended = True
        self.changed.set()
        self.thread.join()
        for shell in (self.autoscaler, self.ingresses, self.knative_bounds):
            shell.close()
        for mirror in self.mirrors.values():
            mirror.close()

    def scale(self, revision: str, replicas: int, minimum: int = 0) -> None:
        self.wanted = {**self.wanted, Key(self.namespace, revision): Wanted(replicas, minimum)}
        self.changed.set()

    def reconcile(self) -> None:
        for problems in (
            self.autoscaler.reconcile(self.wanted),
            self.knative_bounds.reconcile(self.bounds),
            self.ingresses.reconcile(routable=True),
        ):
            self.problems += problems.values()

    def _run(self) -> None:
        while not self.ended:
            self.changed.wait(ROUND_SECONDS)
            self.changed.clear()
            self.reconcile()


@dataclass
class World:
    """One namespace with the function `chat` in it."""

    api: Api
    namespace: str
    driver: Driver
    owner: Object
    until: Until

    def plan(self, number: int = 1, autoscaler: str = "pilotlight", cpus: float = 0.05) -> PodPlan:
        template = make_template(
            options={"max_num_seqs": 4, "max_model_len": 1024},
            context=1024,
            memory_bytes=256 * 2**20,
            cpus=cpus,
            autoscaler=autoscaler,
        )
        function, name = FunctionId(self.namespace, CHAT), f"{CHAT}-{number:05}"
        revision = Revision(function, name, number, 0.0, "k" * 64, template)
        spec = ReplicaSpec(
            "", str(function), name, "generate", "s3://models", template.digest, (CHAT,), EngineSpec("simulated")
        )
        return PodPlan(self.owner, revision, Policy(maximum=3), IMAGE, pod_environment(spec))

    def deploy(self, plan: PodPlan) -> None:
        """As the operator does it, but for a stand-in of the Function object: its kind need not be installed here."""
        service, secret = self.service(plan), revision_secret(plan, {})
        for made in (service, secret):
            made["metadata"]["ownerReferences"] = [owner_reference(self.owner, CONFIG_MAP)]
        self.api.apply(SECRET, secret)
        try:
            current = self.api.get(KNATIVE_SERVICE, self.namespace, CHAT)
        except NotFoundError:
            self.api.create(KNATIVE_SERVICE, service)
        else:
            changes = service_change(plan, current)
            template = service["spec"]["template"]
            body = [{**each, "value": template} for each in changes if each["path"] == "/spec/template"]
            self.api.patch(KNATIVE_SERVICE, self.namespace, CHAT, body)

    def service(self, plan: PodPlan) -> dict[str, Any]:
        """Of this test's classes."""
        service = knative_service(plan)
        service["metadata"]["annotations"][names.INGRESS_CLASS] = INGRESS_CLASS
        if not plan.kpa:
            service["spec"]["template"]["metadata"]["annotations"][names.CLASS] = CLASS
        return service

    def get(self, kind: Kind, name: str) -> Object:
        return self.api.get(kind, self.namespace, name)

    def patch(self, kind: Kind, name: str, body: Any, subresource: str = "") -> None:
        self.api.patch(kind, self.namespace, name, body, subresource)

    def state(self, kind: Kind, name: str, type_: str) -> tuple[str, str]:
        """Status and reason of a condition; of an object that has not seen its last change, nothing."""
        try:
            found = self.get(kind, name)
        except NotFoundError:
            return "", ""
        if found.get("status", {}).get("observedGeneration") != found["metadata"]["generation"]:
            return "", ""
        each = condition(found, type_)
        return each.get("status", ""), each.get("reason", "")

    def wait(self, kind: Kind, name: str, type_: str, *wanted: str) -> None:
        def reached() -> bool:
            return self.state(kind, name, type_)[: len(wanted)] == wanted

        self.until(reached, f"{kind.kind} {name}: {type_} {wanted}")

    def pods(self, revision: str = "") -> tuple[Object, ...]:
        labels = f"{names.REVISION_LABEL}={revision}" if revision else FUNCTION_LABEL
        return self.api.list(POD, self.namespace, labels=labels).items

    def left(self) -> list[str]:
        return [
            f"{kind.kind} {found['metadata']['name']}"
            for kind in MADE
            for found in self.api.list(kind, self.namespace, labels=FUNCTION_LABEL).items
        ]


@pytest.fixture
def world(api: Api, until: Until) -> Iterator[World]:
    namespace = f"k-{secrets.token_hex(3)}"
    api.create(NAMESPACE, {"metadata": {"name": namespace}})
    owner = api.create(CONFIG_MAP, {"metadata": {"name": "owner", "namespace": namespace}})
    driver = Driver(api, namespace)
    driver.start()
    try:
        yield World(api, namespace, driver, owner, until)
    finally:
        driver.close()
        api.delete(NAMESPACE, "", namespace)


@pytest.fixture
def chat(world: World) -> World:
    """Deployed, ready, at zero."""
    world.deploy(world.plan())
    world.wait(KNATIVE_SERVICE, CHAT, "Ready", "True")
    return world


def test_a_new_function_is_ready_at_zero_behind_the_activator(chat: World) -> None:
    assert chat.pods() == ()
    assert chat.state(POD_AUTOSCALER, "chat-00001", "Active") == ("False", "NoTraffic")
    assert chat.state(INGRESS, CHAT, "Ready") == ("True", "")
    assert chat.get(SERVICE, CHAT)["spec"]["externalName"].startswith("pilotlight-activator.")


def test_from_zero_to_one_and_back_the_service_stays_ready(chat: World) -> None:
    chat.driver.scale("chat-00001", 1)
    chat.wait(POD_AUTOSCALER, "chat-00001", "Active", "True")
    assert len(chat.pods("chat-00001")) == 1
    chat.wait(REVISION, "chat-00001", "Active", "True")

    chat.driver.scale("chat-00001", 0)
    chat.wait(POD_AUTOSCALER, "chat-00001", "Active", "False", "NoTraffic")
    chat.wait(REVISION, "chat-00001", "Active", "False", "NoTraffic")
    chat.until(lambda: chat.pods() == (), "no pod is left")
    assert chat.state(REVISION, "chat-00001", "Ready")[0] == "True"
    assert chat.state(KNATIVE_SERVICE, CHAT, "Ready")[0] == "True"
    assert chat.driver.problems == []


def test_at_rest_nothing_is_written(chat: World) -> None:
    """Knative's controllers still have a word or two to say after Ready; each look must come to an end of its own."""

    def quiet() -> bool:
        before = chat.api.calls
        chat.driver.reconcile()
        return chat.api.calls == before

    chat.until(quiet, "a look that writes nothing")
    assert chat.driver.problems == []


def test_foreign_edits_are_healed(chat: World) -> None:
    revision = "chat-00001"
    chat.patch(DEPLOYMENT, f"{revision}-deployment", [{"op": "add", "path": "/spec/replicas", "value": 2}], "scale")
    chat.patch(SERVERLESS_SERVICE, revision, {"spec": {"mode": "Serve"}})
    chat.patch(POD_AUTOSCALER, revision, {"status": {"conditions": [], "desiredScale": 9}}, "status")
    chat.patch(INGRESS, CHAT, {"status": {"conditions": []}}, "status")
    chat.driver.scale(revision, 0)

    chat.until(
        lambda: (
            chat.get(DEPLOYMENT, f"{revision}-deployment")["spec"]["replicas"] == 0
            and chat.get(SERVERLESS_SERVICE, revision)["spec"]["mode"] == "Proxy"
            and chat.get(POD_AUTOSCALER, revision)["status"]["desiredScale"] == 0
        ),
        "everything is as it was",
    )
    chat.wait(POD_AUTOSCALER, revision, "Active", "False", "NoTraffic")
    chat.wait(INGRESS, CHAT, "Ready", "True")
    chat.wait(KNATIVE_SERVICE, CHAT, "Ready", "True")
    assert chat.driver.problems == []


def test_a_serverless_service_that_was_deleted_is_made_again(chat: World) -> None:
    uid = chat.get(SERVERLESS_SERVICE, "chat-00001")["metadata"]["uid"]

    chat.api.delete(SERVERLESS_SERVICE, chat.namespace, "chat-00001")

    def made_again() -> bool:
        try:
            return bool(chat.get(SERVERLESS_SERVICE, "chat-00001")["metadata"]["uid"] != uid)
        except NotFoundError:
            return False

    chat.until(made_again, "another ServerlessService")
    chat.driver.scale("chat-00001", 1)
    chat.wait(POD_AUTOSCALER, "chat-00001", "Ready", "True")
    assert chat.state(REVISION, "chat-00001", "Ready")[0] == "True"


def test_a_count_that_nobody_speaks_of_is_left_alone(chat: World) -> None:
    chat.driver.scale("chat-00001", 1)
    chat.wait(POD_AUTOSCALER, "chat-00001", "Active", "True")

    chat.driver.wanted = {}
    chat.driver.reconcile()

    assert chat.get(DEPLOYMENT, "chat-00001-deployment")["spec"]["replicas"] == 1
    assert chat.state(POD_AUTOSCALER, "chat-00001", "Active")[0] == "True"


def test_traffic_follows_a_new_revision_unless_users_say_otherwise(chat: World) -> None:
    chat.deploy(chat.plan(number=2))
    chat.wait(KNATIVE_SERVICE, CHAT, "Ready", "True")
    chat.until(lambda: chat.get(KNATIVE_SERVICE, CHAT)["status"]["latestReadyRevisionName"] == "chat-00002", "ready")
    rules = read(chat.get(INGRESS, CHAT))
    assert rules.problem == ""
    assert {split for rule in rules.hosts for split in rule.splits} == set()
    assert f"chat.{chat.namespace}.svc.cluster.local" in rules.cluster_local

    traffic = [
        {"latestRevision": True, "percent": 75},
        {"revisionName": "chat-00001", "percent": 25, "tag": "old"},
    ]
    chat.patch(KNATIVE_SERVICE, CHAT, {"spec": {"traffic": traffic}})
    chat.wait(KNATIVE_SERVICE, CHAT, "Ready", "True")
    rules = read(chat.get(INGRESS, CHAT))

    splits = {
        rule.hosts[0].split(".")[0]: {split.revision: split.percent for split in rule.splits} for rule in rules.hosts
    }
    assert splits == {CHAT: {"chat-00002": 75, "chat-00001": 25}, "old-chat": {"chat-00001": 100}}
    assert rules.function == Key(chat.namespace, CHAT)

    # The operator's next look, and its next revision, leave the users' traffic alone.
    chat.deploy(chat.plan(number=3))
    chat.wait(KNATIVE_SERVICE, CHAT, "Ready", "True")
    assert [each["percent"] for each in chat.get(KNATIVE_SERVICE, CHAT)["spec"]["traffic"]] == [75, 25]


def test_a_newer_operator_that_builds_pods_differently_is_not_refused(chat: World) -> None:
    plan = chat.plan()

    chat.deploy(replace(plan, environment={**plan.environment, "NEW": "1"}))

    assert chat.state(KNATIVE_SERVICE, CHAT, "Ready")[0] == "True"


def test_deletion_leaves_nothing(chat: World) -> None:
    chat.driver.scale("chat-00001", 1)
    chat.wait(POD_AUTOSCALER, "chat-00001", "Active", "True")

    chat.api.delete(CONFIG_MAP, chat.namespace, "owner")

    chat.until(lambda: chat.left() == [], "nothing of the function is left")
    assert chat.pods() == ()


def test_knatives_own_autoscaler_is_told_its_bounds(world: World) -> None:
    world.driver.bounds = {Key(world.namespace, "chat-00001"): Bounds(minimum=0, maximum=2, target=3)}
    world.deploy(world.plan(autoscaler="kpa"))
    world.wait(KNATIVE_SERVICE, CHAT, "Ready", "True")

    def told() -> bool:
        found = annotations_of(world.get(POD_AUTOSCALER, "chat-00001"))
        return [found.get(name) for name in (names.MIN_SCALE, names.MAX_SCALE, names.TARGET)] == ["0", "2", "3"]

    world.until(told, "the bounds have come to the PodAutoscaler")
    assert world.state(POD_AUTOSCALER, "chat-00001", "Active") == ("False", "NoTraffic")
    assert world.driver.problems == []
