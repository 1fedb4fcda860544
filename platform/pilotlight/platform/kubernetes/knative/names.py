"""Annotations, labels and classes of Knative's contract that we write or read."""

from __future__ import annotations

import hashlib

CLASS = "autoscaling.knative.dev/class"
OUR_CLASS = "pilotlight.dev"
KNATIVE_CLASS = "kpa.autoscaling.knative.dev"
METRIC = "autoscaling.knative.dev/metric"
INITIAL_SCALE = "autoscaling.knative.dev/initial-scale"
MIN_SCALE = "autoscaling.knative.dev/min-scale"
MAX_SCALE = "autoscaling.knative.dev/max-scale"
TARGET = "autoscaling.knative.dev/target"
BURST_CAPACITY = "autoscaling.knative.dev/target-burst-capacity"
RETENTION = "autoscaling.knative.dev/scale-to-zero-pod-retention-period"
PROGRESS_DEADLINE = "serving.knative.dev/progress-deadline"
FULL_DUPLEX = "features.knative.dev/http-full-duplex"
"""Without it queue-proxy now and then closes its connection to the engine when an answer begins, and breaks it off."""

INGRESS_CLASS = "networking.knative.dev/ingress.class"
OUR_INGRESS_CLASS = "pilotlight.ingress.networking.knative.dev"
ROLLOUT = "networking.internal.knative.dev/rollout"

REVISION_LABEL = "serving.knative.dev/revision"
"""On everything that Knative makes for a revision, pods included."""

_LONGEST = 63
_DIGEST = 32


def secret_name(revision: str) -> str:
    """Of the Secret that a revision's pods have their environment from."""
    return f"{revision}-pilotlight"


def deployment_name(revision: str) -> str:
    """Knative's name of a revision's Deployment: what is too long ends in its MD5 (kmeta.ChildName)."""
    suffix = "-deployment"
    if len(revision) <= _LONGEST - len(suffix):
        return revision + suffix
    digest = hashlib.md5(revision.encode(), usedforsecurity=False).hexdigest()
    return revision[: _LONGEST - _DIGEST - len(suffix)] + digest + suffix
