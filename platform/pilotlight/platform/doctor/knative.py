"""Judgements of Knative's version and settings. Pure."""

from __future__ import annotations

import re

from pilotlight.platform.doctor.facts import Facts
from pilotlight.platform.doctor.findings import Finding, ok, problem, warning
from pilotlight.platform.kubernetes.kinds import labels_of
from pilotlight.platform.kubernetes.knative.names import OUR_INGRESS_CLASS

OLDEST = (1, 19)
TESTED = "1.21"
COMPONENTS = ("activator", "autoscaler", "controller", "webhook")
REQUEST_SECONDS = 3600
"""The functions' timeout, from the preset for language models."""
KNATIVE_MOST_SECONDS = 600
"""`max-revision-timeout-seconds` where it is not set."""
FEATURES = {
    "nodeSelector": "kubernetes.podspec-nodeselector",
    "tolerations": "kubernetes.podspec-tolerations",
    "priorityClassName": "kubernetes.podspec-priorityclassname",
    "runtimeClassName": "kubernetes.podspec-runtimeclassname",
}
"""By the field of a manifest's `spec.pod` that needs it."""


def version(facts: Facts) -> Finding:
    check, expected = (
        "Knative Serving",
        f"release {OLDEST[0]}.{OLDEST[1]} or later (tested: {TESTED}), all of it available",
    )
    if not facts.knative:
        why = facts.unread.get("knative", "not installed: there are no Deployments in knative-serving")
        return problem(
            check, why, expected, f"install Knative Serving {TESTED} or later; no ingress controller is needed"
        )
    away = [name for name in COMPONENTS if not _available(facts.knative, name)]
    if away:
        what_next = "`kubectl -n knative-serving get pods` says what keeps them"
        return problem(check, f"not available: {', '.join(away)}", expected, what_next)
    label = next((labels_of(found).get("app.kubernetes.io/version", "") for found in facts.knative), "")
    numbers = re.match(r"v?(\d+)\.(\d+)", label)
    if numbers is None:
        what_next = f"make sure that it is of release line {OLDEST[0]}.{OLDEST[1]} or later"
        return warning(check, f"version {label or 'not told'}, which cannot be compared", expected, what_next)
    if (int(numbers[1]), int(numbers[2])) < OLDEST:
        return problem(check, f"version {label}", expected, "upgrade Knative Serving, one minor release at a time")
    return ok(check, f"version {label}", expected)


def zero_initial_scale(facts: Facts) -> Finding:
    found = _setting(facts, "config-autoscaler", "allow-zero-initial-scale", "false")
    check, expected = "start at zero", "allow-zero-initial-scale: true in config-autoscaler"
    if facts.config is None:
        return _unread(facts, check, expected)
    if found == "true":
        return ok(check, found, expected)
    what_next = _patch("config-autoscaler", "allow-zero-initial-scale", "true")
    return problem(check, f"{found}: Knative refuses functions that begin at zero", expected, what_next)


def features(facts: Facts) -> Finding:
    """Only what the functions that are there use must be on; the rest is said."""
    check = "pod features"
    expected = "the flag in config-features of each field that functions use under spec.pod"
    if facts.config is None:
        return _unread(facts, check, expected)
    used = {name for found in facts.functions or () for name in FEATURES if found["spec"].get("pod", {}).get(name)}
    off = {name for name, flag in FEATURES.items() if _setting(facts, "config-features", flag, "disabled") != "enabled"}
    if missing := sorted(used & off):
        what_next = "; ".join(_patch("config-features", FEATURES[name], "enabled") for name in missing)
        return problem(check, f"used and off: {', '.join(missing)}", expected, what_next)
    if off:
        what_next = (
            f"needed once a function places its pods: {_patch('config-features', FEATURES[min(off)], 'enabled')}"
        )
        return warning(check, f"off, and used by no function: {', '.join(sorted(off))}", expected, what_next)
    return ok(check, "all on", expected)


def ingress_class(facts: Facts) -> Finding:
    check, expected = "ingress class", f"ingress-class: {OUR_INGRESS_CLASS} in config-network"
    if facts.config is None:
        return _unread(facts, check, expected)
    found = _setting(facts, "config-network", "ingress-class", "istio.ingress.networking.knative.dev")
    if found == OUR_INGRESS_CLASS:
        return ok(check, found, expected)
    what_next = (
        f"{_patch('config-network', 'ingress-class', OUR_INGRESS_CLASS)}; or let that ingress send the functions' "
        "hosts to the Service pilotlight-activator in pilotlight-system, or use scale.autoscaler: kpa. Not tested with "
        "a real Kourier, Istio or Contour"
    )
    return warning(check, f"{found}: requests by a function's own host name pass that one", expected, what_next)


def timeouts(facts: Facts) -> Finding:
    """From the load balancer to the pod, the least is what counts."""
    check = "timeouts"
    expected = (
        f"max-revision-timeout-seconds of {REQUEST_SECONDS} in config-defaults, and Knative's activator ends no sooner"
    )
    if facts.config is None:
        return _unread(facts, check, expected)
    text = _setting(facts, "config-defaults", "max-revision-timeout-seconds", str(KNATIVE_MOST_SECONDS))
    most = int(text) if text.isdigit() else KNATIVE_MOST_SECONDS
    if most < REQUEST_SECONDS:
        found = f"{most} s: a stream that takes longer is cut"
        return warning(check, found, expected, _patch("config-defaults", "max-revision-timeout-seconds", "3600"))
    grace = _grace(facts.knative or ())
    if grace < most:
        what_next = (
            f"set terminationGracePeriodSeconds of knative-serving/activator to {most}; only kpa functions pass it"
        )
        return warning(check, f"{most} s, but Knative's activator ends after {grace} s", expected, what_next)
    found = f"{most} s; idle timeouts of load balancers in front of it are not known"
    return ok(check, found, expected)


DEFAULT_REGISTRY = "the default registry"


def digests(facts: Facts) -> Finding:
    check = "image digests"
    expected = "images by digest, from a registry that Knative can ask, or one in registries-skipping-tag-resolving"
    if facts.config is None:
        return _unread(facts, check, expected)
    images = images_of_functions(facts)
    skipped = _setting(facts, "config-deployment", "registries-skipping-tag-resolving", "").split(",")
    asked = [image for image in images if "@sha256:" not in image and _registry(image) not in map(str.strip, skipped)]
    if not images:
        return ok(check, "not installed yet, so there is no image to look at", expected)
    if asked:
        skip = _patch("config-deployment", "registries-skipping-tag-resolving", _registry(asked[0]))
        what_next = f"nothing where Knative's controller reaches the registry; else {skip}"
        return warning(check, f"Knative resolves {', '.join(asked)} when a function is deployed", expected, what_next)
    return ok(check, f"{', '.join(images)}: nothing to resolve", expected)


def images_of_functions(facts: Facts) -> tuple[str, ...]:
    """What the operator runs functions with."""
    names = ("PILOTLIGHT_RUNTIME_IMAGE", "PILOTLIGHT_SIMULATED_IMAGE")
    return tuple(
        sorted(
            {
                variable["value"]
                for found in facts.system or ()
                for container in found["spec"]["template"]["spec"]["containers"]
                for variable in container.get("env", ())
                if variable["name"] in names
            }
        )
    )


def _registry(image: str) -> str:
    """As Knative and containerd read a reference: a first part without a dot or port is no host.

    Images without a host are of containerd's default registry, which nobody lists among those to skip.
    """
    first, slash, _ = image.partition("/")
    return first if slash and (set(".:") & set(first) or first == "localhost") else DEFAULT_REGISTRY


def _available(deployments: object, name: str) -> bool:
    assert isinstance(deployments, list | tuple)
    return any(
        found["metadata"]["name"] == name and found.get("status", {}).get("availableReplicas", 0)
        for found in deployments
    )


def _grace(deployments: object) -> int:
    assert isinstance(deployments, list | tuple)
    graces = [
        int(found["spec"]["template"]["spec"].get("terminationGracePeriodSeconds", 30))
        for found in deployments
        if found["metadata"]["name"] == "activator"
    ]
    return min(graces, default=0)


def _setting(facts: Facts, config: str, key: str, default: str) -> str:
    """Knative reads flags in any case."""
    value = (facts.config or {}).get(config, {}).get(key, default)
    return value.lower() if value.lower() in ("true", "false", "enabled", "disabled") else value


def _patch(config: str, key: str, value: str) -> str:
    return f'`kubectl -n knative-serving patch configmap {config} --type merge -p \'{{"data":{{"{key}":"{value}"}}}}\'`'


def _unread(facts: Facts, check: str, expected: str) -> Finding:
    return warning(
        check, f"not read: {facts.unread.get('config', '')}", expected, "run it as someone who may read knative-serving"
    )
