"""All that the handlers work with, and who may see what."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from pilotlight.activator.values import Caller, Clock, Demand, FunctionId
from pilotlight.platform.control.cluster import Cluster
from pilotlight.platform.control.deploying import Applied
from pilotlight.platform.control.errors import MissingError, UnavailableError
from pilotlight.platform.control.state import Known
from pilotlight.platform.database.functions import Functions
from pilotlight.platform.database.recommendations import Recommendations
from pilotlight.platform.database.records import Records
from pilotlight.platform.database.replicas import Replicas
from pilotlight.platform.database.usage import UsageRows
from pilotlight.platform.keys import Keyring
from pilotlight.platform.manifest import Function as Manifest
from pilotlight.platform.shelf import Shelf
from pilotlight.platform.values import Function


class Loop(Protocol):
    """The control loop, for looking at."""

    @property
    def known(self) -> Known: ...

    def eta(self, function: FunctionId) -> dict[str, float]: ...

    async def caught_up(self) -> None:
        """Raises TimeoutError."""


class Deploys(Protocol):
    """Blocking; see `control.deploying.Deployer`."""

    def apply(self, manifests: Sequence[Manifest], caller: Caller) -> tuple[Applied, ...]: ...

    def delete(self, function: FunctionId, caller: Caller) -> None: ...


@dataclass(frozen=True)
class Services:
    """One platform's parts."""

    functions: Functions
    replicas: Replicas
    records: Records
    recommendations: Recommendations
    usage: UsageRows
    keyring: Keyring
    deployer: Deploys
    shelf: Shelf
    cluster: Cluster
    loop: Loop
    settle: Callable[[], None]
    """Bring the ledger's rows into the database, so that a reader finds what has just ended."""
    demand: Callable[[], Mapping[FunctionId, Demand]]
    clock: Clock
    refusal: Callable[[FunctionId], str] = lambda _: ""
    """Why a function that somebody has declared was not taken; empty: nobody has, or it was."""

    def visible(self, caller: Caller, function: FunctionId) -> Function:
        """Raises MissingError, also for what this key may not see: it must not learn that it is there."""
        seen = sees(caller, function)
        found = self.functions.get(function) if seen else None
        if found is None:
            if seen and (refusal := self.refusal(function)):
                raise MissingError(f"{function} is declared, but cannot be served: {refusal}")
            raise MissingError(f"there is no function {function}")
        return found

    async def caught_up(self) -> None:
        """Whoever applied a function may call it from here on. Raises UnavailableError."""
        try:
            await self.loop.caught_up()
        except TimeoutError:
            raise UnavailableError("it is written down, but the control loop has not taken it up yet") from None

    def log(self, replica: str, tail: int, follow: bool) -> AsyncIterator[bytes]:
        return self.cluster.log(replica, tail, follow)


def sees(caller: Caller, function: FunctionId) -> bool:
    return caller.admin or caller.may_call(function)


def namespaces(caller: Caller) -> frozenset[str] | None:
    """None: every one."""
    return None if caller.admin else caller.namespaces


def parse_function(text: str) -> FunctionId:
    """pre: `NAMESPACE/NAME`, as the shapes check."""
    return FunctionId(*text.split("/", 1))
