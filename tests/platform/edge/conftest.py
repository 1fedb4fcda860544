"""What the API server shows of one function, and one that a test can take away."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.platform.edge.apiserver import ApiServer

from pilotlight.activator.values import FunctionId
from pilotlight.platform.edge.views import Endpoint, View
from pilotlight.platform.kubernetes.kinds import FUNCTION_LABEL, Key, Object, key_of
from pilotlight.platform.kubernetes.knative.names import INGRESS_CLASS, OUR_INGRESS_CLASS
from pilotlight.platform.kubernetes.status import Published, PublishedRevision

CHAT = FunctionId("team", "chat")
MakeView = Callable[..., View]


def revision(number: int, **changes: Any) -> PublishedRevision:
    base: dict[str, Any] = {"task": "generate", "model": "chat", "source": "", "context": 100 * number, "slots": number}
    return PublishedRevision(**{"revision": f"chat-{number:05}", **base, **changes})


class Holder:
    """Objects as a mirror has them."""

    def __init__(self) -> None:
        self.objects: dict[Key, Object] = {}

    def get(self, namespace: str, name: str) -> Object | None:
        return self.objects.get(Key(namespace, name))

    def put(self, found: Object) -> Key:
        self.objects[key_of(found)] = found
        return key_of(found)

    def drop(self, namespace: str, name: str) -> Key:
        self.objects.pop(Key(namespace, name), None)
        return Key(namespace, name)


def function(name: FunctionId, *revisions: PublishedRevision, **metadata: Any) -> dict[str, Any]:
    """A Function object with the route that its status tells; `revisions`: its own first."""
    told = Published(**dict(revisions[0]), revisions=revisions[1:]).model_dump(mode="json", by_alias=True)
    return {
        "metadata": {"namespace": name.namespace, "name": name.name, **metadata},
        "spec": {"task": "generate"},
        "status": {"route": told},
    }


def slice_of(owner: FunctionId, of: str, pod: str, ip: str = "10.0.0.1", ready: bool = True) -> dict[str, Any]:
    """The EndpointSlice, of the same name, that has one pod of a revision."""
    labels = {
        FUNCTION_LABEL: owner.name,
        "serving.knative.dev/revision": of,
        "networking.internal.knative.dev/serviceType": "Private",
    }
    endpoint = {"addresses": [ip], "targetRef": {"name": pod}, "conditions": {"ready": ready, "terminating": False}}
    return {"metadata": {"namespace": owner.namespace, "name": pod, "labels": labels}, "endpoints": [endpoint]}


def ingress(
    owner: FunctionId, *hosts: str, class_name: str = OUR_INGRESS_CLASS, visibility: str = "ExternalIP", **spec: Any
) -> dict[str, Any]:
    """All traffic of its hosts goes to one revision."""
    paths = [{"splits": [{"serviceName": "chat-00002", "percent": 100}]}]
    return {
        "metadata": {
            "namespace": owner.namespace,
            "name": owner.name,
            "labels": {FUNCTION_LABEL: owner.name},
            "annotations": {INGRESS_CLASS: class_name},
        },
        "spec": {"rules": [{"hosts": list(hosts), "visibility": visibility, "http": {"paths": paths}}], **spec},
    }


def make_view(
    own: PublishedRevision,
    *others: PublishedRevision,
    pods: dict[str, list[Endpoint]] | None = None,
    leaving: tuple[str, ...] = (),
    hosts: Any = (),
) -> View:
    """`pods`: by revision."""
    told = Published(**dict(own), revisions=others, leaving=leaving)
    return View(CHAT, told, pods or {}, {}, 10, hosts)


@pytest.fixture(name="make_view")
def _make_view() -> MakeView:
    return make_view


@pytest.fixture
def api_server() -> Iterator[ApiServer]:
    server = ApiServer()
    yield server
    server.away()
