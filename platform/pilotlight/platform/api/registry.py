"""The registry's routes over the parts that the API has: who calls, which buckets there are, what must be kept."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import BaseRoute

from pilotlight.activator.values import Caller
from pilotlight.platform.api.operations import authenticate
from pilotlight.platform.api.services import Services
from pilotlight.platform.control.errors import PlatformError
from pilotlight.platform.registry.errors import NotAllowedError
from pilotlight.platform.registry.http import registry_routes
from pilotlight.platform.registry.registry import Registry
from pilotlight.platform.registry.rights import Caller as RegistryCaller
from pilotlight.platform.registry.tokens import Tokens, with_tokens
from pilotlight.platform.values import AuditRecord


def model_routes(services: Services, secret: bytes | None = None) -> Sequence[BaseRoute]:
    """For `make_app`. `secret` signs upload tokens; without one they end with this process."""
    tokens = Tokens(secret or secrets.token_bytes())
    return registry_routes(
        lambda bucket: _registry(services, bucket),
        with_tokens(lambda request: _authorize(services, request), tokens, services.keyring.in_force),
        lambda: _live_digests(services),
        lambda caller, action, subject: _record(services, caller, action, subject),
        tokens=tokens,
    )


def _registry(services: Services, bucket: str) -> Registry | None:
    try:
        return Registry(services.shelf.store(bucket), bucket)
    except PlatformError as error:
        raise NotAllowedError(error.message) from None
    except ValueError:
        return None


async def _authorize(services: Services, request: Request) -> Caller:
    try:
        return authenticate(request, services.keyring)
    except PlatformError as error:
        raise HTTPException(error.status, error.message, {"www-authenticate": "Bearer"}) from None


def _live_digests(services: Services) -> Iterable[str]:
    """What a collection of the registry must keep: every model of every function and of every replica."""
    functions = {(function.id, function.revision) for function in services.functions.all()}
    used = functions | {(record.function, record.revision) for record in services.replicas.live()}
    for revision in services.functions.revisions():
        if (revision.function, revision.name) in used:
            yield revision.template.digest
            yield from (digest for _, digest in revision.template.adapters)


def _record(services: Services, caller: RegistryCaller, action: str, subject: str) -> None:
    services.records.audited(AuditRecord(services.clock.now(), caller.key, action, subject))
