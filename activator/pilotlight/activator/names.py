"""Which function a request means: by name, `namespace/name`, either with `:adapter`, or by host.

Names of functions that a caller may not call are never told.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from pilotlight.activator.errors import invalid, other_model, unknown_model
from pilotlight.activator.traffic import Address, HostRule, chosen, normal
from pilotlight.activator.values import Caller, FunctionId, Route

_LONGEST_NAME = 512  # characters: two 63-character labels and an adapter, with room


@dataclass(frozen=True, slots=True)
class Target:
    """The function that a request goes to, and the adapter that it asks for."""

    route: Route
    adapter: str = ""

    @property
    def model(self) -> str:
        """The engine's name for it."""
        return self.adapter or self.route.model


class Directory:
    """The functions by every name they answer to."""

    def __init__(self, routes: Mapping[FunctionId, Route]) -> None:
        self.routes: dict[FunctionId, Route] = {}
        self._by_name: dict[str, list[FunctionId]] = {}
        self._by_host: dict[str, dict[FunctionId, list[HostRule]]] = {}
        self.change(routes)

    def change(self, routes: Mapping[FunctionId, Route | None]) -> None:
        """None: the function is gone. With ten thousand functions only those that have changed are looked at."""
        for function, route in routes.items():
            before = self.routes.pop(function, None)
            if before is None or route is None or before.hosts != route.hosts:
                self._forget(function, before)
                self._note(function, route)
            if route is not None:
                self.routes[function] = route

    def listed(self, caller: Caller) -> list[tuple[str, Route]]:
        """Every name shown to this caller by `/v1/models`: the bare one where it is unambiguous, else the full one."""
        shown: list[tuple[str, Route]] = []
        for route in self._callable(caller):
            alone = len(self._by_bare_name(route.function.name, caller)) == 1
            name = route.function.name if alone else str(route.function)
            shown.append((name, route))
            shown.extend((f"{name}:{adapter}", route) for adapter in route.adapters)
        return shown

    def resolve(self, model: str, caller: Caller) -> Target:
        """The function that `model` names among those that the caller may call.

        Raises `RefusedError`: 404 with the nearest name, 400 when a bare name fits several namespaces.
        """
        name, _, adapter = model.partition(":")
        found = self._found(name, caller)
        if len(found) > 1:
            candidates = ", ".join(f"`{route.function}`" for route in found)
            raise invalid(f"The model `{model}` is ambiguous: say one of {candidates}.", "model", "ambiguous_model")
        if not found:
            raise unknown_model(model, self._nearest(model, caller))
        return self._target(found[0], model, adapter, caller)

    def resolve_within(self, function: FunctionId, model: str | None, caller: Caller, host: str = "") -> Target:
        """The same under `/f/{namespace}/{name}` or on a function's `host`: `model` is optional, and names no other."""
        route = self.routes.get(function)
        if route is None or not caller.may_call(function):
            raise unknown_model(str(function), self._nearest(str(function), caller))
        if model is None:
            return Target(route)
        if model in route.adapters:
            return Target(route, model)
        name, _, adapter = model.partition(":")
        if name not in (function.name, str(function), route.model):
            raise other_model(model, host, function) if host else unknown_model(model, str(function))
        return self._target(route, model, adapter, caller)

    def at_host(self, host: str, headers: Iterable[tuple[bytes, bytes]] = ()) -> tuple[FunctionId, Address] | None:
        """The function that a `Host` header stands for, and by which of its rules; None: it stands for none."""
        name = normal(host)
        found = self._by_host.get(name)
        if found is None:
            return None
        # A host that several functions claim is the first one's, by name: it must not change hands by chance.
        function = min(found)
        rule = chosen(found[function], {key.decode("latin-1"): value.decode("latin-1") for key, value in headers})
        return function, Address(name, rule.headers if rule is not None else ())

    def _note(self, function: FunctionId, route: Route | None) -> None:
        if route is None:
            return
        insort(self._by_name.setdefault(function.name, []), function)
        for rule in route.hosts:
            for host in map(normal, rule.hosts):
                self._by_host.setdefault(host, {}).setdefault(function, []).append(rule)

    def _forget(self, function: FunctionId, route: Route | None) -> None:
        if route is None:
            return
        self._by_name[function.name].remove(function)
        if not self._by_name[function.name]:
            del self._by_name[function.name]
        for host in {normal(host) for rule in route.hosts for host in rule.hosts}:
            del self._by_host[host][function]
            if not self._by_host[host]:
                del self._by_host[host]

    def _found(self, name: str, caller: Caller) -> list[Route]:
        namespace, slash, rest = name.partition("/")
        if not slash:
            return self._by_bare_name(name, caller)
        route = self.routes.get(FunctionId(namespace, rest))
        return [route] if route is not None and caller.may_call(route.function) else []

    def _by_bare_name(self, name: str, caller: Caller) -> list[Route]:
        return [self.routes[function] for function in self._by_name.get(name, ()) if caller.may_call(function)]

    def _callable(self, caller: Caller) -> list[Route]:
        return [self.routes[function] for function in sorted(self.routes) if caller.may_call(function)]

    def _target(self, route: Route, model: str, adapter: str, caller: Caller) -> Target:
        if not adapter:
            return Target(route)
        if adapter not in route.adapters:
            raise unknown_model(model, self._nearest(model, caller))
        return Target(route, adapter)

    def _nearest(self, model: str, caller: Caller) -> str | None:
        """The most similar name that this caller may see; a wrong adapter still finds its function."""
        if len(model) > _LONGEST_NAME:
            return None
        names = [name for name, _ in self.listed(caller)]
        names += [str(route.function) for route in self._callable(caller)]
        close = get_close_matches(model, names, n=1) or get_close_matches(model.partition(":")[0], names, n=1)
        return close[0] if close else None
