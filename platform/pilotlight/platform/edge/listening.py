"""The activator's ports: HTTP, HTTPS with certificates that change while it runs, and one for probes and metrics."""

from __future__ import annotations

import asyncio
import socket
from base64 import b64decode
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import structlog

from pilotlight.activator.tls import BadCertificateError, Certificate, Certificates
from pilotlight.platform.dispatch import App
from pilotlight.platform.kubernetes.api import Api
from pilotlight.platform.kubernetes.errors import KubernetesError
from pilotlight.platform.kubernetes.kinds import SECRET, Key
from pilotlight.platform.kubernetes.knative.ingress import is_ours
from pilotlight.platform.kubernetes.knative.rules import read
from pilotlight.platform.kubernetes.mirror import Mirror
from pilotlight.platform.kubernetes.settings import ActivatorSettings
from pilotlight.platform.listening import Server, doors, listen, server

LOOK_SECONDS = 30.0
"""A renewed certificate is served within so long."""
CHAIN, PRIVATE_KEY = "tls.crt", "tls.key"

log = structlog.get_logger(__name__)


class Listeners:
    """`serve` until cancelled; HTTPS begins as soon as there is a certificate."""

    def __init__(self, app: App, inside: App, settings: ActivatorSettings, api: Api, ingresses: Mirror) -> None:
        """`inside`: probes and metrics, for the cluster's own."""
        self._app = app
        self._inside = inside
        self._settings = settings
        self._api = api
        self._ingresses = ingresses
        self._certificates: Certificates | None = None
        self._secrets: dict[Key, Certificate] = {}
        self._servers: list[Server] = []

    async def serve(self) -> None:
        """Raises OSError when a port is taken."""
        settings = self._settings
        plain = listen(settings.host, settings.http_port)
        inside = listen(settings.host, settings.health_port)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._run(server(self._app), plain))
            tasks.create_task(self._run(server(self._inside), inside))
            tasks.create_task(self._https(tasks))

    async def close(self) -> None:
        for each in self._servers:
            each.should_exit = True

    async def _run(self, runs: Server, listener: socket.socket) -> None:
        self._servers.append(runs)
        await runs.serve(sockets=doors(listener))

    async def _https(self, tasks: asyncio.TaskGroup) -> None:
        while True:
            try:
                await asyncio.to_thread(self._refresh)
            except BadCertificateError as error:
                log.error("no HTTPS yet", error=str(error))
            if self._certificates is not None:
                break
            await asyncio.sleep(LOOK_SECONDS)
        listener = listen(self._settings.host, self._settings.https_port)
        tasks.create_task(self._run(server(self._app, self._certificates.ssl_context()), listener))
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await asyncio.to_thread(self._refresh)

    def _refresh(self) -> None:
        """Raises BadCertificateError for the very first one."""
        hosts = self._of_ingresses()
        default = self._of_folder(self._settings.certificates) or next(iter(hosts.values()), None)
        if default is None:
            return
        if self._certificates is None:
            self._certificates = Certificates(default)
        for refused in self._certificates.replace(default, hosts):
            log.error("certificate refused", host=refused.host, error=str(refused))

    def _of_ingresses(self) -> Mapping[str, Certificate]:
        found: dict[str, Certificate] = {}
        for ingress in self._ingresses.objects.values():
            for wanted in read(ingress).certificates if is_ours(ingress) else ():
                certificate = self._of_secret(wanted.secret)
                if certificate is not None:
                    found |= dict.fromkeys(wanted.hosts, certificate)
        return found

    def _of_secret(self, key: Key) -> Certificate | None:
        """As it was last read, while the API server is away."""
        try:
            data = self._api.get(SECRET, *key).get("data") or {}
            self._secrets[key] = Certificate(b64decode(data[CHAIN]), b64decode(data[PRIVATE_KEY]))
        except KubernetesError as error:
            log.warning("certificate cannot be read", secret=str(key), error=str(error))
        except (KeyError, ValueError):
            log.error("not a certificate", secret=str(key), expected=f"{CHAIN} and {PRIVATE_KEY}")
        return self._secrets.get(key)

    def _of_folder(self, folder: Path | None) -> Certificate | None:
        if folder is not None:
            with suppress(OSError):
                return Certificate((folder / CHAIN).read_bytes(), (folder / PRIVATE_KEY).read_bytes())
        return None
