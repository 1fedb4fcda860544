"""The template of Secrets has what the processes read."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import yaml

from pilotlight.platform.install.rendering import manifests
from pilotlight.platform.install.secrets import KEYS, needed
from pilotlight.platform.kubernetes.kinds import Object


def test_the_template_names_every_secret_and_key_that_is_read(rendered: Callable[[str], Sequence[Object]]) -> None:
    documents = yaml.safe_load_all((manifests() / "base" / "secrets.template.yaml").read_text())
    template = {found["metadata"]["name"]: tuple(found["stringData"]) for found in documents}
    read = needed(rendered("overlays/production"))

    assert template.keys() == read.keys()
    assert all(set(keys) <= set(template[name]) for name, keys in read.items())
    assert template == {name: KEYS[name] for name in template}


def test_a_component_asks_for_the_secret_that_it_reads(rendered: Callable[[str], Sequence[Object]]) -> None:
    assert needed(rendered("production+https")).keys() - needed(rendered("overlays/production")).keys() == {
        "pilotlight-external-tls"
    }
