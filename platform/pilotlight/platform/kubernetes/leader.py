"""The operator that leads: the same control loop, API and tables as on one machine, over a Kubernetes cluster."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress

import structlog

from pilotlight.activator.values import FunctionId
from pilotlight.platform.api.app import make_app
from pilotlight.platform.api.metrics import registry as fleet_metrics
from pilotlight.platform.api.registry import model_routes
from pilotlight.platform.api.services import Services
from pilotlight.platform.clock import SystemClock
from pilotlight.platform.control.cluster import RevisionId
from pilotlight.platform.control.controller import Controller, LoopSettings, Stores
from pilotlight.platform.control.deploying import Deployer
from pilotlight.platform.control.specs import SpecSettings
from pilotlight.platform.control.world import Room
from pilotlight.platform.database.connection import Database, DatabaseError
from pilotlight.platform.database.functions import Functions
from pilotlight.platform.database.recommendations import Recommendations
from pilotlight.platform.database.records import Keys
from pilotlight.platform.database.replicas import Replicas
from pilotlight.platform.database.usage import UsageRows
from pilotlight.platform.dispatch import App
from pilotlight.platform.keys import Keyring
from pilotlight.platform.kubernetes.api import Api
from pilotlight.platform.kubernetes.applying import Applier
from pilotlight.platform.kubernetes.cluster import KubernetesCluster, PodSettings
from pilotlight.platform.kubernetes.deploying import ObjectDeployer
from pilotlight.platform.kubernetes.errors import KubernetesError
from pilotlight.platform.kubernetes.events import Events, ToldRecords
from pilotlight.platform.kubernetes.kinds import CONFIG_MAP, Key, Object, condition
from pilotlight.platform.kubernetes.knative.autoscaler import Autoscaler, Sources
from pilotlight.platform.kubernetes.knative.ingress import Ingresses
from pilotlight.platform.kubernetes.knative.kpa import KnativeBounds
from pilotlight.platform.kubernetes.knative.reading import IngressRules
from pilotlight.platform.kubernetes.knative.service import CREDENTIALS, Timeouts, most_seconds
from pilotlight.platform.kubernetes.mirrors import ACTIVATOR_SERVICE, Mirrors
from pilotlight.platform.kubernetes.nodes import machine_of
from pilotlight.platform.kubernetes.objects import FunctionObjects, ObjectSettings
from pilotlight.platform.kubernetes.publishing import Publisher
from pilotlight.platform.kubernetes.scaler import KnativeScaler
from pilotlight.platform.kubernetes.secrets import EngineKeys, upload_secret
from pilotlight.platform.kubernetes.settings import OperatorSettings
from pilotlight.platform.link.app import link_app
from pilotlight.platform.link.hub import Hub
from pilotlight.platform.recommending.advising import Advisor
from pilotlight.platform.settings import QUEUE_SECONDS, allowed_buckets
from pilotlight.platform.shelf import Shelf
from pilotlight.platform.values import Function, Revision
from pilotlight.recommender import Machine

UNBOUNDED = Room(memory_bytes=0, cpus=0, devices={}, elsewhere=True)
STORAGE_NAMES = ("AWS_ENDPOINT_URL_S3", "AWS_REGION", *sorted(CREDENTIALS))
KNATIVE_NAMESPACE = "knative-serving"
KEYS_SECONDS = 2.0
"""A key that another process has made or revoked is known within so long."""
LOST = "its activator was lost before the request ended"
LOOK_SECONDS = 10.0
"""Objects are compared with what should be at least so often."""
ABANDONED_SECONDS = 60.0
"""Between two looks for activators that are gone for good."""

log = structlog.get_logger(__name__)


class Leader:
    """Every part, in the order in which they need each other."""

    def __init__(self, settings: OperatorSettings, api: Api, storage: Mapping[str, str] = os.environ) -> None:
        """Blocks until the database is reached. Raises DatabaseError."""
        self.settings = settings
        self.clock = SystemClock()
        self._api = api
        self._running_loop: asyncio.AbstractEventLoop | None = None
        self.mirrors = Mirrors(api, settings.namespace, self._news_from_thread)
        engine_keys = EngineKeys(settings.master_key.get_secret_value())
        self.database = Database(settings.database_url.get_secret_value())
        self.functions = Functions(self.database, engine_keys)
        self.events = Events(api, self.mirrors.functions.get)
        self.stores = Stores(self.functions, Replicas(self.database), ToldRecords(self.database, self.events))
        self.usage = UsageRows(self.database)
        self.keyring = Keyring(Keys(self.database), self.clock)
        self.shelf = Shelf("s3", settings.state / "tokenizers", allowed_buckets())
        self.applier = Applier(
            Deployer(self.functions, self.shelf, self._machine, self.clock, lambda: None, in_cluster=True),
            self.functions,
            self.clock,
        )
        self.hub = Hub(settings.pod_name, self.clock, self.mirrors.activators_ready, lambda _: settings.max_held)
        self.publisher = self._publisher(api)
        self.scaler = self._scaler(api)
        self.cluster = KubernetesCluster(
            api,
            self.mirrors.pods,
            self.mirrors.deployments,
            self.scaler,
            engine_keys,
            self._news,
            self.clock,
            PodSettings(settings.drain_seconds, settings.patience_seconds),
            self._blocked,
        )
        self.ingresses = Ingresses(api, self.mirrors.ingresses, self.clock, _activator(settings.namespace))
        self.objects = FunctionObjects(
            api,
            self.mirrors.services,
            self.mirrors.pods,
            _object_settings(settings, storage, self._timeouts()),
            self.clock,
        )
        self._rules = IngressRules(lambda: self.mirrors.ingresses.objects)
        self.controller = Controller(
            self.cluster,
            self.stores,
            self.publisher,
            self.hub.cause,
            self.clock,
            _loop_settings(settings),
            self._shared,
        )
        self.recommendations = Recommendations(self.database)
        self.advisor = Advisor(self.controller.follower, self.recommendations, self.stores.records, self.clock)
        self._to_apply, self._to_write = asyncio.Event(), asyncio.Event()

    def _publisher(self, api: Api) -> Publisher:
        mirrors, outcome = self.mirrors, self.applier.outcomes.get
        return Publisher(
            api, mirrors.functions, mirrors.services, outcome, self.hub.demand, self.clock, self.events.refused
        )

    def _scaler(self, api: Api) -> KnativeScaler:
        mirrors = self.mirrors
        sources = Sources(mirrors.autoscalers, mirrors.serverless, mirrors.deployments, mirrors.pods)
        bounds = KnativeBounds(api, mirrors.revisions)
        return KnativeScaler(Autoscaler(api, sources, self.clock), bounds, mirrors.autoscalers)

    def app(self) -> App:
        """Reports of activators, and the control API behind them."""
        return link_app(
            self.hub,
            self.controller.wake,
            self.controller.lost,
            leader=lambda: self.settings.pod_name,
            me=self.settings.pod_name,
            api=self._api_app(),
        )

    async def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Read everything once, and take over what runs. Raises KubernetesError, DatabaseError."""
        self._running_loop = loop
        if self.settings.admin_key is not None:
            await asyncio.to_thread(self.keyring.put_admin, self.settings.admin_key.get_secret_value())
        await asyncio.to_thread(self.mirrors.start)
        self.publisher.watch(self.controller.known, self.controller.eta, self._problem, self.advisor.recommended)
        await self._apply_objects()
        await self.controller.adopt()

    async def run(self) -> None:
        """Until cancelled, or until one part fails for good."""
        async with asyncio.TaskGroup() as tasks:
            for work in (
                self.controller.run(),
                self.advisor.run(),
                self.cluster.run(),
                self.publisher.run(),
                self._look_forever(self._to_apply, self._next_try, self._apply_objects),
                self._look_forever(self._to_write, lambda: LOOK_SECONDS, self._write_objects),
                self._keys_forever(),
                self._abandoned_forever(),
            ):
                tasks.create_task(work)

    async def close(self) -> None:
        """Nothing ends in the cluster: another one takes over."""
        self.mirrors.close()
        await self.cluster.close()
        self.publisher.close()
        self.events.close()
        self.scaler.close()
        self.ingresses.close()
        await asyncio.to_thread(self.database.close)

    # News

    def _news_from_thread(self) -> None:
        if self._running_loop is not None:
            with suppress(RuntimeError):  # it has ended
                self._running_loop.call_soon_threadsafe(self._news)

    def _news(self) -> None:
        self._to_apply.set()
        self._to_write.set()
        self.controller.look()
        self.cluster.news()

    # Work beside the control loop

    async def _look_forever(
        self, news: asyncio.Event, patience: Callable[[], float], look: Callable[[], Awaitable[None]]
    ) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(patience()):
                    await news.wait()
            news.clear()
            try:
                await look()
            except (DatabaseError, KubernetesError) as error:
                log.error("objects could not be looked at; they are again", error=str(error))
            except Exception:
                log.exception("objects could not be looked at; they are again")

    async def _apply_objects(self) -> None:
        if await asyncio.to_thread(self.applier.reconcile, self.mirrors.functions.objects):
            self.controller.changed()

    async def _write_objects(self) -> None:
        """Beside the above: neither a slow model store nor Knative's slow webhooks hold up the other."""
        revision = self._revision
        await asyncio.to_thread(self.objects.reconcile, self.mirrors.functions.objects, self._current, revision)
        await asyncio.to_thread(self.ingresses.reconcile, self.mirrors.activators_ready() > 0)

    def _next_try(self) -> float:
        due = self.applier.next_try()
        return LOOK_SECONDS if due is None else min(LOOK_SECONDS, max(0.05, due - self.clock.monotonic()))

    def _current(self, function: FunctionId) -> tuple[Function, Revision] | None:
        known = self.controller.known.functions.get(function)
        revision = self.controller.known.revisions.get((function, known.revision)) if known else None
        return (known, revision) if known and revision else None

    def _revision(self, function: FunctionId, name: str) -> Revision | None:
        return self.controller.known.revisions.get((function, name))

    def _problem(self, function: FunctionId, revisions: Collection[str]) -> str:
        return self.objects.problems.get(Key(*function)) or self.scaler.problem(function.namespace, revisions)

    def _blocked(self, at: RevisionId) -> str:
        revision = self.mirrors.revisions.get(at.function.namespace, at.name)
        if revision is None:
            return self.objects.problems.get(Key(*at.function), "")
        verdict = condition(revision, "Ready")
        return verdict.get("message", "") if verdict.get("status") == "False" else ""

    def _refusal(self, function: FunctionId) -> str:
        outcome = self.applier.outcomes.get(Key(*function))
        return next((each.message for each in outcome.judgements if each.status == "False"), "") if outcome else ""

    def _again(self, key: Key) -> None:
        self.applier.again(key)
        self._news_from_thread()

    def _shared(self) -> Mapping[FunctionId, Collection[str]]:
        return {FunctionId(*key): revisions for key, revisions in self._rules.shared().items()}

    async def _keys_forever(self) -> None:
        while True:
            await asyncio.sleep(KEYS_SECONDS)
            await asyncio.to_thread(self.keyring.refresh)

    async def _abandoned_forever(self) -> None:
        while True:
            await asyncio.sleep(ABANDONED_SECONDS)
            with suppress(DatabaseError):  # the next look closes them
                await asyncio.to_thread(self.usage.close_abandoned, self.clock.now(), LOST)

    # What the parts are given

    def _machine(self) -> Machine:
        return machine_of(self.mirrors.nodes.objects.values())

    def _timeouts(self) -> Timeouts:
        try:
            found: Object | None = self._api.get(CONFIG_MAP, KNATIVE_NAMESPACE, "config-defaults")
        except KubernetesError as error:
            log.warning("Knative's defaults could not be read; its own are taken", error=str(error))
            found = None
        return Timeouts(most=most_seconds(found))

    def _api_app(self) -> App:
        deployer = ObjectDeployer(self._api, self.functions, self.applier.outcomes.get, self._again, self.clock)
        services = Services(
            functions=self.functions,
            replicas=self.stores.replicas,
            records=self.stores.records,
            recommendations=self.recommendations,
            usage=self.usage,
            keyring=self.keyring,
            deployer=deployer,
            shelf=self.shelf,
            cluster=self.cluster,
            loop=self.controller,
            settle=lambda: None,
            demand=self.hub.demand,
            clock=self.clock,
            refusal=self._refusal,
        )
        secret = upload_secret(self.settings.master_key.get_secret_value())
        registries = (fleet_metrics(lambda: self.controller.known),)
        models = model_routes(services, secret)
        return make_app(services, self.keyring, registries, lambda: "", models)


def _object_settings(settings: OperatorSettings, storage: Mapping[str, str], timeouts: Timeouts) -> ObjectSettings:
    return ObjectSettings(
        runtime_image=settings.runtime_image,
        simulated_image=settings.simulated_image,
        storage={name: storage[name] for name in STORAGE_NAMES if storage.get(name)},
        timeouts=timeouts,
        spec=_spec_settings(settings),
    )


def _activator(namespace: str) -> str:
    return f"{ACTIVATOR_SERVICE}.{namespace}.svc.cluster.local"


def _loop_settings(settings: OperatorSettings) -> LoopSettings:
    hold_seconds = settings.start_seconds + QUEUE_SECONDS
    return LoopSettings(UNBOUNDED, _spec_settings(settings), settings.max_held, hold_seconds)


def _spec_settings(settings: OperatorSettings) -> SpecSettings:
    return SpecSettings(
        cache_folder="",
        cache_bytes=settings.cache_bytes,
        start_seconds=settings.start_seconds,
        drain_seconds=settings.drain_seconds,
    )
