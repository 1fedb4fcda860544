"""The component finds what it watches, and its parts find each other. Its images were not run."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from pilotlight.platform.install.rendering import deployments
from pilotlight.platform.kubernetes.kinds import Object, annotations_of, labels_of
from pilotlight.platform.kubernetes.settings import ActivatorSettings, OperatorSettings

META = "__meta_kubernetes_pod_"


@pytest.fixture
def objects(rendered: Callable[[str], Sequence[Object]]) -> Sequence[Object]:
    return rendered("dev+observability")


def configuration(objects: Sequence[Object], part: str, file: str) -> Any:
    found = next(
        each for each in objects
        if each["kind"] == "ConfigMap" and each["metadata"]["name"].startswith(f"pilotlight-{part}-")
    )  # fmt: skip
    return yaml.safe_load(found["data"][file])


# What Prometheus scrapes


def discovered(objects: Sequence[Object]) -> Iterator[dict[str, str]]:
    """The labels of each port of each pod, as discovery by pods has them."""
    for deployment in deployments(objects):
        template = deployment["spec"]["template"]
        of_pod = {
            **{_label("annotation", name): value for name, value in annotations_of(template).items()},
            **{_label("label", name): value for name, value in labels_of(template).items()},
            f"{META}name": deployment["metadata"]["name"],
        }
        for container in template["spec"]["containers"]:
            for port in container.get("ports", ()):
                number = str(port["containerPort"])
                yield {**of_pod, f"{META}container_port_number": number, "__address__": f"10.0.0.1:{number}"}


def _label(kind: str, name: str) -> str:
    return f"{META}{kind}_" + re.sub(r"\W", "_", name)


def relabelled(labels: dict[str, str], rules: Sequence[Mapping[str, Any]]) -> dict[str, str] | None:
    """As Prometheus does it with the rules that we use; None: it is not scraped."""
    for rule in rules:
        action, regex = rule.get("action", "replace"), str(rule.get("regex", "(.*)"))
        assert not re.search(r"\\[1-9]", regex), "Prometheus' regular expressions have no references back"
        value = rule.get("separator", ";").join(labels.get(name, "") for name in rule["source_labels"])
        match = re.fullmatch(regex, value)
        if action == "keep" and match is None:
            return None
        if action == "keepequal" and labels.get(rule["target_label"], "") != value:
            return None
        if action == "replace" and match is not None:
            labels = {**labels, rule["target_label"]: match[1]}
        assert action in ("keep", "keepequal", "replace"), "this reading knows no other"
    return labels


def test_prometheus_scrapes_the_health_port_of_both_processes_and_nothing_else(objects: Sequence[Object]) -> None:
    (job,) = configuration(objects, "prometheus", "prometheus.yml")["scrape_configs"]
    found = [kept for each in discovered(objects) if (kept := relabelled(each, job["relabel_configs"])) is not None]

    assert sorted((each["component"], each["__address__"], each["__metrics_path__"]) for each in found) == [
        (f"pilotlight-{name}", f"10.0.0.1:{settings.model_fields['health_port'].default}", "/metrics")
        for name, settings in (("activator", ActivatorSettings), ("operator", OperatorSettings))
    ]


def test_prometheus_takes_its_configuration(objects: Sequence[Object], tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not on the PATH")
    path, content = tmp_path / "prometheus.yml", configuration(objects, "prometheus", "prometheus.yml")

    def problem() -> str:
        path.write_text(yaml.safe_dump(content))
        # Without its syntax alone it would look for the account's token.
        words = [promtool, "check", "config", "--syntax-only", str(path)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr if done.returncode else ""

    found = problem()
    if "kubernetes_sd_configs not found" in found:  # some distributions leave it out: then all but this is checked
        del content["scrape_configs"][0]["kubernetes_sd_configs"]
        found = problem()
    assert found == ""


# How the parts find each other


def addresses(objects: Sequence[Object]) -> Iterator[tuple[str, int]]:
    """Host and port of everything that a part is told to ask."""
    for source in configuration(objects, "grafana", "datasources.yaml")["datasources"]:
        url = urlsplit(source["url"])
        assert url.hostname is not None
        assert url.port is not None
        yield url.hostname, url.port
    for exporter in configuration(objects, "collector", "collector.yaml")["exporters"].values():
        host, _, port = exporter["endpoint"].partition(":")
        yield host, int(port)


def listening(objects: Sequence[Object]) -> set[tuple[str, int]]:
    """Part and port of everything that a part's configuration opens."""
    collector, tempo = (configuration(objects, part, f"{part}.yaml") for part in ("collector", "tempo"))
    received = [*collector["receivers"]["otlp"]["protocols"].values(), collector["extensions"]["health_check"]]
    return {
        *(("pilotlight-collector", int(each["endpoint"].rpartition(":")[2])) for each in received),
        ("pilotlight-tempo", tempo["server"]["http_listen_port"]),
        *(
            ("pilotlight-tempo", int(each["endpoint"].rpartition(":")[2]))
            for each in tempo["distributor"]["receivers"]["otlp"]["protocols"].values()
        ),
        # Their own defaults.
        ("pilotlight-prometheus", 9090),
        ("pilotlight-grafana", 3000),
    }


def test_whoever_asks_finds_a_service_that_leads_to_a_port_that_is_listened_at(objects: Sequence[Object]) -> None:
    services = {found["metadata"]["name"]: found["spec"] for found in objects if found["kind"] == "Service"}
    pods = {found["metadata"]["name"]: found["spec"]["template"] for found in deployments(objects)}
    asked = list(addresses(objects))
    assert len(asked) == 3
    for host, port in asked:
        service = services[host]
        target = next(each["targetPort"] for each in service["ports"] if each["port"] == port)
        (name,) = (name for name, pod in pods.items() if service["selector"].items() <= labels_of(pod).items())
        ports = {each["name"]: each["containerPort"] for each in pods[name]["spec"]["containers"][0]["ports"]}
        assert (name, ports[target]) in listening(objects)


def test_every_port_that_a_part_declares_is_listened_at(objects: Sequence[Object]) -> None:
    parts = {name for name, _ in listening(objects)}
    declared = {
        (found["metadata"]["name"], port["containerPort"])
        for found in deployments(objects)
        if found["metadata"]["name"] in parts
        for port in found["spec"]["template"]["spec"]["containers"][0]["ports"]
    }
    assert declared == listening(objects)


@pytest.mark.parametrize(
    ("part", "file"), [("prometheus", "prometheus.yml"), ("collector", "collector.yaml"), ("tempo", "tempo.yaml")]
)
def test_a_part_is_pointed_at_its_own_configuration(objects: Sequence[Object], part: str, file: str) -> None:
    (spec,) = (
        found["spec"]["template"]["spec"]
        for found in deployments(objects)
        if found["metadata"]["name"] == f"pilotlight-{part}"
    )
    (container,) = spec["containers"]
    (told,) = (each.partition("=")[2] for each in container["args"] if re.match(r"--?config", each))
    mounts = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
    volume = next(each for each in spec["volumes"] if each["name"] == "config")
    data = next(
        each["data"]
        for each in objects
        if each["metadata"]["name"] == volume["configMap"]["name"] and each["kind"] == "ConfigMap"
    )

    assert told == f"{mounts['config']}/{file}"
    assert file in data
