"""The template of Secrets has what the processes read."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import yaml

from pilotlight.platform.install.rendering import manifests
from pilotlight.platform.install.secrets import GRAFANA, KEYS, needed
from pilotlight.platform.kubernetes.kinds import Object


def test_the_template_names_every_secret_and_key_that_is_read(rendered: Callable[[str], Sequence[Object]]) -> None:
    documents = yaml.safe_load_all((manifests() / "base" / "secrets.template.yaml").read_text())
    template = {found["metadata"]["name"]: tuple(found["stringData"]) for found in documents}
    read = needed(rendered("overlays/production"))

    assert template.keys() == read.keys()
    assert all(set(keys) <= set(template[name]) for name, keys in read.items())
    assert template == {name: keys for name, keys in KEYS.items() if name != GRAFANA}
