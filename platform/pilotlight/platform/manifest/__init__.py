"""The Function manifest: what users write, read with every error named and placed."""

from pilotlight.platform.manifest.engine import Engine
from pilotlight.platform.manifest.errors import Finding, ManifestError
from pilotlight.platform.manifest.loading import load, parse
from pilotlight.platform.manifest.model import (
    API_VERSION,
    Adapter,
    Function,
    Metadata,
    Resources,
    Scale,
    Slo,
    Spec,
)
from pilotlight.platform.manifest.pod import Pod, Toleration
from pilotlight.platform.manifest.references import (
    HubReference,
    ModelReference,
    RegistryReference,
    parse_reference,
)
from pilotlight.platform.manifest.units import ByteSize, Duration, UnitError

__all__ = [
    "API_VERSION",
    "Adapter",
    "ByteSize",
    "Duration",
    "Engine",
    "Finding",
    "Function",
    "HubReference",
    "ManifestError",
    "Metadata",
    "ModelReference",
    "Pod",
    "RegistryReference",
    "Resources",
    "Scale",
    "Slo",
    "Spec",
    "Toleration",
    "UnitError",
    "load",
    "parse",
    "parse_reference",
]
