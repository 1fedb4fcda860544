"""What an operator shows to those that scrape it."""

from __future__ import annotations

from typing import Any

import httpx

from pilotlight.platform.api.metrics import exposition
from pilotlight.platform.kubernetes.metrics import registry
from pilotlight.platform.kubernetes.operator import health_app
from pilotlight.platform.link.hub import Hub
from pilotlight.platform.link.wire import Report


def report(clock: Any) -> Report:
    return Report(activator="act-1", started_at=clock.now(), sequence=1, sent_at=clock.now(), full=True)


def test_one_that_waits_to_lead_says_so_and_knows_no_activators() -> None:
    told = exposition([registry(lambda: None, lambda: 7)]).decode()

    assert "pilotlight_operator_leads 0.0" in told
    assert "pilotlight_operator_api_calls_total 7.0" in told
    assert "activator=" not in told


def test_one_that_leads_says_how_long_each_activator_is_silent(clock: Any) -> None:
    hub = Hub("leader", clock, lambda: 1, lambda _: 1000)
    hub.take(report(clock))
    clock.time += 12.0

    told = exposition([registry(lambda: hub, lambda: 7)]).decode()

    assert "pilotlight_operator_leads 1.0" in told
    assert 'pilotlight_link_report_age_seconds{activator="act-1"} 12.0' in told


async def test_probes_and_scrapers_are_answered() -> None:
    app = health_app(lambda: "leads", lambda: b"a_metric 1.0\n")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://operator") as client:
        answers = {path: (await client.get(path)).text for path in ("/healthz", "/readyz", "/metrics")}

    assert answers == {"/healthz": "ok\n", "/readyz": "leads\n", "/metrics": "a_metric 1.0\n"}
