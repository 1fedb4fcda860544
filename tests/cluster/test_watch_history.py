"""A watch that begins where the API server has no history any more. Last of the folder: a young one remembers all."""

from __future__ import annotations

from typing import Any

import pytest
from tests.cluster.conftest import wait_for

from pilotlight.platform.kubernetes.api import Api
from pilotlight.platform.kubernetes.errors import GoneError
from pilotlight.platform.kubernetes.kinds import CONFIG_MAP, Key, Kind
from pilotlight.platform.kubernetes.mirror import Mirror

FIRST = "1"
"""The version of a server's first change."""
COMPACTED_SECONDS = 400
"""An API server drops what is older than five minutes, every five minutes."""
LABEL = {"test": "history"}


def forgot(api: Api, namespace: str) -> bool:
    try:
        next(api.watch(CONFIG_MAP, FIRST, namespace))
    except GoneError:
        return True
    return False


@pytest.fixture
def forgetful_server(api: Api, namespace: str) -> None:
    """Every namespace has a ConfigMap of Kubernetes' own, so that a watch that remembers has something to tell."""
    wait_for(lambda: forgot(api, namespace), "the API server drops its first versions", COMPACTED_SECONDS)


class Forgetful(Api):
    """Its first watch begins where the server has no history any more."""

    asked: int = 0

    def watch(self, kind: Kind, version: str, namespace: str = "", labels: str = "", fields: str = "") -> Any:
        self.asked += 1
        return super().watch(kind, FIRST if self.asked == 1 else version, namespace, labels, fields)


@pytest.mark.timeout(COMPACTED_SECONDS + 60)
@pytest.mark.usefixtures("forgetful_server")
def test_a_mirror_lists_again_when_its_place_in_history_is_gone(api: Api, namespace: str) -> None:
    forgetful = Forgetful.connect()
    assert isinstance(forgetful, Forgetful)
    told: list[Key] = []
    mirror = Mirror(forgetful, CONFIG_MAP, told.append, namespace=namespace, labels="test=history")
    mirror.start()
    assert mirror.wait(60)

    metadata = {"namespace": namespace, "name": "late", "labels": LABEL}
    api.create(CONFIG_MAP, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})

    wait_for(lambda: mirror.get(namespace, "late"), "what came after", 60)
    mirror.close()
    assert forgetful.asked >= 2
    assert told == [Key(namespace, "late")]
