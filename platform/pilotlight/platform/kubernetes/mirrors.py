"""All that a leader watches."""

from __future__ import annotations

from collections.abc import Callable

from pilotlight.platform.kubernetes.api import Api
from pilotlight.platform.kubernetes.errors import UnreachableError
from pilotlight.platform.kubernetes.kinds import (
    DEPLOYMENT,
    ENDPOINT_SLICE,
    FUNCTION,
    FUNCTION_LABEL,
    INGRESS,
    KNATIVE_SERVICE,
    NODE,
    POD,
    POD_AUTOSCALER,
    REVISION,
    SERVERLESS_SERVICE,
    Key,
)
from pilotlight.platform.kubernetes.mirror import Mirror

SYNC_SECONDS = 60.0
ACTIVATOR_SERVICE = "pilotlight-activator"


class Mirrors:
    """Functions, what was made for them, nodes, and the activators there are."""

    def __init__(self, api: Api, namespace: str, changed: Callable[[], None]) -> None:
        """`namespace`: the platform's own; `changed` is called from many threads."""

        def news(_key: Key) -> None:
            changed()

        self.functions = Mirror(api, FUNCTION, news)
        self.services = Mirror(api, KNATIVE_SERVICE, news, labels=FUNCTION_LABEL)
        self.revisions = Mirror(api, REVISION, news, labels=FUNCTION_LABEL)
        self.autoscalers = Mirror(api, POD_AUTOSCALER, news, labels=FUNCTION_LABEL)
        self.serverless = Mirror(api, SERVERLESS_SERVICE, news, labels=FUNCTION_LABEL)
        self.ingresses = Mirror(api, INGRESS, news, labels=FUNCTION_LABEL)
        self.deployments = Mirror(api, DEPLOYMENT, news, labels=FUNCTION_LABEL)
        self.pods = Mirror(api, POD, news, labels=FUNCTION_LABEL)
        self.nodes = Mirror(api, NODE, lambda _: None)
        mine = f"kubernetes.io/service-name={ACTIVATOR_SERVICE}"
        self.activators = Mirror(api, ENDPOINT_SLICE, news, namespace=namespace, labels=mine)
        self._all = (
            self.functions,
            self.services,
            self.revisions,
            self.autoscalers,
            self.serverless,
            self.ingresses,
            self.deployments,
            self.pods,
            self.nodes,
            self.activators,
        )

    def start(self) -> None:
        """Returns when all have been read once. Raises UnreachableError."""
        for mirror in self._all:
            mirror.start()
        for mirror in self._all:
            if not mirror.wait(SYNC_SECONDS):
                kind = mirror.kind.plural
                raise UnreachableError(f"LIST {kind}", 0, "Timeout", f"no answer within {SYNC_SECONDS:.0f} s")

    def close(self) -> None:
        for mirror in self._all:
            mirror.close()

    def activators_ready(self) -> int:
        """Activators that take requests."""
        return sum(
            bool(endpoint.get("conditions", {}).get("ready"))
            for found in self.activators.objects.values()
            for endpoint in found.get("endpoints") or ()
        )
