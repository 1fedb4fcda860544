"""The policies by name."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf

from pilotlight.platform.simulate.errors import SimulationRefused
from pilotlight.platform.simulate.policies.knative import Keys, Kpa
from pilotlight.platform.simulate.policies.oracle import Oracle
from pilotlight.platform.simulate.policies.ours import Pilotlight, demand_limits, learning
from pilotlight.platform.simulate.policies.public import EnovaPublic, KubeAi
from pilotlight.platform.simulate.policies.values import Future, Make, Policy, Setting

TUNED_SHARE = 0.7
"""Of a replica's slots: what KPA is given where it is tuned, its own target percentage."""

CHIRON_SHARE = 1 / 3
"""Most of the replicas that may be full: Chiron's example of arrivals that may grow threefold while a model loads."""


@dataclass(frozen=True)
class Named:
    """A policy that can be asked for."""

    name: str
    what: str
    knob: str
    """What `Setting.knob` sets."""
    make: Make
    clairvoyant: bool = False


def _keep_alive(seconds: float) -> Make:
    def make(setting: Setting, future: Future) -> Policy:
        del future
        return Pilotlight(demand_limits(setting, seconds if setting.knob is None else setting.knob))

    return make


def _ours(setting: Setting, future: Future) -> Policy:
    del future
    return learning(setting)


def _backpressure(setting: Setting, future: Future) -> Policy:
    del future
    share = CHIRON_SHARE if setting.knob is None else setting.knob
    return learning(replace(setting, knob=None), busy_share=share)


def _always_on(setting: Setting, future: Future) -> Policy:
    del future
    least = 1 if setting.knob is None else round(setting.knob)
    return Pilotlight(demand_limits(setting, 300.0, minimum=least))


def _kpa(setting: Setting, future: Future) -> Policy:
    del future
    return Kpa(Keys(most=setting.scenario.most, retention=setting.knob or 0.0))


def _kpa_tuned(setting: Setting, future: Future) -> Policy:
    del future
    scenario = setting.scenario
    return Kpa(Keys(target=TUNED_SHARE * scenario.slots, most=scenario.most, retention=setting.knob or 0.0))


def _enova(setting: Setting, future: Future) -> Policy:
    del future
    patience = 180.0 if setting.knob is None else setting.knob
    return EnovaPublic(setting.scenario.slots, setting.scenario.most, patience=patience)


def _kubeai(setting: Setting, future: Future) -> Policy:
    del future
    return KubeAi(setting.scenario.most, window=600.0 if setting.knob is None else setting.knob)


_SECONDS = "keep-alive, seconds"
CATALOGUE: tuple[Named, ...] = (
    Named("pilotlight-no-vae", "the platform's policy without verdicts", "a cold start's price, seconds", _ours),
    Named("backpressure", "the same, and enough replicas that are not full", "share of full replicas", _backpressure),
    Named("kpa", "Knative's KPA with its defaults", "retention, seconds", _kpa),
    Named("kpa-tuned", "KPA at 70 % of a replica's slots", "retention, seconds", _kpa_tuned),
    Named("enova-public", "ENOVA's public rules; never zero", "patience, seconds", _enova),
    Named("kubeai", "KubeAI's 10-minute mean", "window, seconds", _kubeai),
    Named("keepalive-0s", "demand model, keep-alive 0", _SECONDS, _keep_alive(0.0)),
    Named("keepalive-60s", "demand model, keep-alive 60 s", _SECONDS, _keep_alive(60.0)),
    Named("keepalive-5m", "demand model, keep-alive 5 min", _SECONDS, _keep_alive(300.0)),
    Named("keepalive-10m", "demand model, keep-alive 10 min", _SECONDS, _keep_alive(600.0)),
    Named("always-on", "demand model, never below one replica", "least replicas", _always_on),
    Named(
        "lru", "demand model, the last replica goes only when another function needs its place", "", _keep_alive(inf)
    ),
    Named("oracle", "knows every request beforehand", "longest gap kept, in cold starts", Oracle, clairvoyant=True),
)
NAMES = tuple(policy.name for policy in CATALOGUE)


NOT_YET = {"pilotlight": "it needs a trained detector, which a simulation cannot have yet; use pilotlight-no-vae"}


def find(names: Sequence[str]) -> list[Named]:
    """The policies of these names, in this order, each once. Raises SimulationRefused."""
    known = {policy.name: policy for policy in CATALOGUE}
    for name in names:
        if name in NOT_YET:
            raise SimulationRefused(f"policy {name}: {NOT_YET[name]}")
        if name not in known:
            near = difflib.get_close_matches(name, NAMES, n=1)
            hint = f"; did you mean {near[0]}?" if near else f"; there are {', '.join(NAMES)}"
            raise SimulationRefused(f"there is no policy {name!r}{hint}")
    return [known[name] for name in dict.fromkeys(names)]
