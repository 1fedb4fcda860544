"""The simulated engine, as the supervisor sees it; no model is fetched for it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from pilotlight.runtime.engines.protocol import PORT_TAKEN, BadEngineSpecError, Launch, Place, Signal
from pilotlight.runtime.simulated.launch import command, environment
from pilotlight.runtime.simulated.options import OptionError
from pilotlight.runtime.spec import Phase, ReplicaSpec
from pilotlight.runtime.wire import Request

_LINE = re.compile(r"pilotlight-simulated phase=(import|load|warmup) progress=([0-9.]{1,8})")
_DROPPED_PREFIXES = ("AWS_", "PILOTLIGHT_")


class SimulatedEngine:
    needs_model = False
    load_route = ("/load", "server_load")

    def launch(self, spec: ReplicaSpec, place: Place, inherited: Mapping[str, str]) -> Launch:
        try:
            line = command(place.port, spec.served_names, spec.engine.options, host=place.host)
        except OptionError as error:
            raise BadEngineSpecError(str(error)) from None
        kept = {name: value for name, value in inherited.items() if not name.startswith(_DROPPED_PREFIXES)}
        return Launch(tuple(line), kept | environment(spec.engine.key) | dict(spec.engine.environment))

    def read(self, line: str) -> Signal | None:
        found = _LINE.search(line)
        return Signal(Phase(found[1]), float(found[2])) if found else None

    def cause(self, lines: Sequence[str], exit_code: int | None) -> str:
        said = [line for line in lines if line.startswith("pilotlight-simulated: ")]
        if any("Address already in use" in line for line in lines):
            return PORT_TAKEN
        if said:
            return said[-1].removeprefix("pilotlight-simulated: ")
        return (
            f"the engine ended with exit status {exit_code}" if exit_code is not None else "the engine does not answer"
        )

    def warmups(self, spec: ReplicaSpec) -> Sequence[Request]:  # noqa: ARG002  the protocol's signature
        return ()
