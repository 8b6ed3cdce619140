"""A receiver that refuses urgent events: the pause ends in time, and each event is tried once during it."""

from collections import Counter
from dataclasses import replace

import orjson
import pytest
from aiohttp import web

from process_cosmos_gateway.contract.destinations import Priority
from process_cosmos_gateway.destinations import link, parallel_sender
from process_cosmos_gateway.destinations.failure_cause import MOST_SUSPECTS
from tests.support.waiting import until

from .conftest import Site
from .parts import Receiver, accept, event, event_id, reply

CHANGE = 500


@pytest.fixture(autouse=True)
def quick_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel_sender, "PROBE_SECONDS", 0.01)


async def but_for_the_change(request: web.Request, body: bytes) -> web.StreamResponse:
    """Refuse urgent events, accept the change."""
    is_change = orjson.loads(body)["id"] == event_id(CHANGE)
    return await (accept if is_change else reply(403))(request, body)


async def test_refused_new_urgent_events_do_not_lengthen_the_pause(
    site: Site, hook: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "REFUSED_SECONDS", 1.0)
    hook.behave = but_for_the_change
    await site.set_webhook(hook.url)
    await site.accept(1)
    await until(lambda: site.link("hook").reason == "http_403")
    await site.outbox.accept(replace(event(CHANGE), priority=Priority.CHANGE))
    for number in range(2, 400):
        await site.accept(number)
        await until(lambda: hook.has_received(event_id(number).encode()))  # noqa: B023 - done before the next
        if hook.has_received(event_id(CHANGE).encode()):
            return
    pytest.fail("the change was not tried")


async def test_each_of_many_refused_urgent_events_is_tried_once_in_a_pause(site: Site, hook: Receiver) -> None:
    hook.behave = reply(403)
    site.alerts.gate.clear()
    await site.set_webhook(hook.url)
    await site.accept(*range(1, MOST_SUSPECTS + 20))
    site.alerts.gate.set()
    await until(lambda: len(hook.calls) >= MOST_SUSPECTS + 19)
    await site.accept(CHANGE)
    await until(lambda: hook.has_received(event_id(CHANGE).encode()))
    assert set(Counter(hook.keys).values()) == {1}
