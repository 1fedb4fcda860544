"""What a replica's pod is given and where it listens: agreed here by who makes the pod and by `runtime.pod`.

The engine key is not among it: it comes from a Secret, as KEY_VARIABLE. Nor are the store's credentials, which have the
AWS names. Knative gives PORT.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pilotlight.runtime.codec import BadDocumentError, dump, parse_spec
from pilotlight.runtime.spec import ReplicaSpec

SPEC_VARIABLE = "PILOTLIGHT_REPLICA_SPEC"
KEY_VARIABLE = "PILOTLIGHT_ENGINE_KEY"
PORT_VARIABLE = "PORT"
STATUS_PORT_VARIABLE = "PILOTLIGHT_STATUS_PORT"
TERMINATION_LOG_VARIABLE = "PILOTLIGHT_TERMINATION_LOG"
ENGINE_PORT = 8080
STATUS_PORT = 8500
STATUS_TARGET = "/status"
TERMINATION_LOG = "/dev/termination-log"
TERMINATION_BYTES = 4096
"""More of it Kubernetes does not keep."""
SCRATCH_FOLDER = "/tmp"  # noqa: S108  an empty volume of the pod, which nobody shares
"""Where an emptyDir has to be mounted: the root file system is read-only."""
CACHE_FOLDER = f"{SCRATCH_FOLDER}/cache"
SHARED_MEMORY_FOLDER = "/dev/shm"  # noqa: S108  an empty volume in memory
"""Where another one has to be, with medium Memory: the engine's processes talk through it."""
COMMAND = ("python3", "-m", "pilotlight.runtime.pod")
USER_ID = 65532
HEALTH_TARGET = "/health"
"""On the engine's port, for the kubelet's probes; needs no key."""


@dataclass(frozen=True)
class PodSettings:
    """What a pod's environment says."""

    spec: ReplicaSpec
    engine_port: int
    status_port: int


def pod_environment(spec: ReplicaSpec) -> dict[str, str]:
    """The container's environment; the same for all pods of a revision.

    A pod sees only its own devices, numbered from 0, whatever the spec calls them, and is pinned by the kubelet.
    """
    told = dataclasses.replace(
        spec,
        replica="",
        engine=dataclasses.replace(spec.engine, key=""),
        cpus=(),
        devices=tuple(str(number) for number in range(len(spec.devices))),
        cache_folder=spec.cache_folder or CACHE_FOLDER,
        created_at=0.0,
    )
    # Engines and their libraries keep their caches below the home of a user that has a name.
    scratch = {"HOME": SCRATCH_FOLDER, "TMPDIR": SCRATCH_FOLDER, "USER": "pilotlight"}
    return {SPEC_VARIABLE: dump(told).decode()} | scratch


def read_environment(environment: Mapping[str, str], hostname: str) -> PodSettings:
    """The other way round; the replica is called by the host's name, which is the pod's. Raises BadDocumentError."""
    document = _given(environment, SPEC_VARIABLE).encode()
    try:
        spec = parse_spec(document)
    except BadDocumentError as error:
        raise BadDocumentError(SPEC_VARIABLE, str(error)) from None
    if spec.engine.key:
        raise BadDocumentError(SPEC_VARIABLE, f"engine.key: a key must come from a Secret as {KEY_VARIABLE}, not here")
    return PodSettings(
        spec=dataclasses.replace(
            spec,
            replica=hostname,
            engine=dataclasses.replace(spec.engine, key=_given(environment, KEY_VARIABLE)),
            orphan_seconds=math.inf,  # the kubelet ends pods; nobody need ask for their status
        ),
        engine_port=_port(environment, PORT_VARIABLE, ENGINE_PORT),
        status_port=_port(environment, STATUS_PORT_VARIABLE, STATUS_PORT),
    )


def termination_log(environment: Mapping[str, str]) -> Path:
    return Path(environment.get(TERMINATION_LOG_VARIABLE) or TERMINATION_LOG)


def termination_message(reason: str, lines: tuple[str, ...]) -> bytes:
    """The reason, then as many of the last lines as Kubernetes keeps."""
    text = reason.encode()[: TERMINATION_BYTES // 2]
    kept: list[bytes] = []
    room = TERMINATION_BYTES - len(text)
    for line in reversed(lines):
        data = b"\n" + line.encode()
        if len(data) > room:
            break
        kept.append(data)
        room -= len(data)
    return (text + b"".join(reversed(kept))).decode("utf-8", "ignore").encode()


def _given(environment: Mapping[str, str], name: str) -> str:
    value = environment.get(name, "")
    if not value:
        raise BadDocumentError(name, "is not set")
    return value


def _port(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name) or str(default)
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) < 65536):
        raise BadDocumentError(name, f"{text[:20]!r} is no port: expected 1 to 65535")
    return int(text)
