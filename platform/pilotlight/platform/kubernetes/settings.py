"""How a cluster's processes run: all of it from the environment, decided once at the edge."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError

from pilotlight.platform.settings import SettingsError

NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
DEFAULT_NAMESPACE = "pilotlight-system"
PREFIX = "PILOTLIGHT_"
KEY_LENGTH = 32


def _long_enough(key: SecretStr) -> SecretStr:
    if len(key.get_secret_value()) < KEY_LENGTH:
        raise ValueError(f"expected at least {KEY_LENGTH} characters")
    return key


class ProcessSettings(BaseModel):
    """What operator and activator share; each field is an environment variable, `PILOTLIGHT_` before its name."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    namespace: str = DEFAULT_NAMESPACE
    pod_name: str
    """Of this process."""
    database_url: SecretStr
    master_key: Annotated[SecretStr, AfterValidator(_long_enough)]
    """Engine keys are derived from it."""
    state: Path = Path("/var/lib/pilotlight")
    """Scratch space: the ledger's spool, tokenizers."""
    tls: Path = Path("/etc/pilotlight/tls")
    """Folder of the Secret `pilotlight-tls`."""
    spool_bytes: Annotated[int, Field(ge=2**20)] = 256 * 2**20
    """Disk that the ledger may use while the database is away."""
    max_held: Annotated[int, Field(ge=1)] = 1000
    """Requests of one function that may wait, in all activators together."""
    start_seconds: Annotated[float, Field(gt=0)] = 1800.0
    """A cold start that takes longer is failed."""


class OperatorSettings(ProcessSettings):
    """The control plane."""

    runtime_image: str
    simulated_image: str
    host: str = "0.0.0.0"  # noqa: S104 - a pod's own address; nobody gets in without a certificate of ours
    control_port: int = 9443
    health_port: int = 8081
    admin_key: SecretStr | None = None
    drain_seconds: Annotated[float, Field(gt=0)] = 120.0
    patience_seconds: Annotated[float, Field(ge=0)] = 60.0
    """How long a pod may find no node."""
    cache_bytes: Annotated[int, Field(ge=0)] = 20 * 2**30


class ActivatorSettings(ProcessSettings):
    """The data plane."""

    host: str = "0.0.0.0"  # noqa: S104 - a pod's own address, behind its Service
    http_port: int = 8080
    https_port: int = 8443
    health_port: int = 8081
    """Probes and metrics, for the cluster's own."""
    control_url: str = "https://pilotlight-control.pilotlight-system.svc:9443"
    shutdown_seconds: Annotated[float, Field(ge=0)] = 3600.0
    """How long streams may take to finish when this process is told to end."""
    grace_seconds: Annotated[float, Field(ge=0)] = 5.0
    """New requests are still taken for so long then: load balancers learn late."""
    fail_open_seconds: Annotated[float, Field(gt=0)] = 5.0
    """Without a word from the operator for so long, an activator starts first replicas itself."""
    certificates: Path | None = None
    """Folder with `tls.crt` and `tls.key` for HTTPS; none: plain HTTP only, and what ingresses bring."""


S = TypeVar("S", bound=ProcessSettings)


def read(kind: type[S], environment: Mapping[str, str] = os.environ) -> S:
    """Raises SettingsError, with the variable's name and never its value."""
    given = {name.removeprefix(PREFIX).lower(): value for name, value in environment.items() if name.startswith(PREFIX)}
    given.setdefault("pod_name", environment.get("HOSTNAME", ""))
    if NAMESPACE_FILE.is_file():
        given.setdefault("namespace", NAMESPACE_FILE.read_text().strip())
    try:
        return kind.model_validate({name: value for name, value in given.items() if value})
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        variable = PREFIX + str(first["loc"][0]).upper()
        raise SettingsError(f"{variable}: {first['msg'].removeprefix('Value error, ').lower()}") from None
