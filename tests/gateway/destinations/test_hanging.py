"""An event without a valid reply waits alone while the receiver accepts all others."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
from aiohttp import web

from process_cosmos_gateway.contract.destinations import EventKind, LinkState
from process_cosmos_gateway.destinations import http_request
from process_cosmos_gateway.destinations.delivery_state import PROBE_SECONDS
from process_cosmos_gateway.destinations.failure_cause import IN_FLIGHT, LATE_SECONDS
from process_cosmos_gateway.outbox import Limits, OutgoingReading
from tests.support.waiting import until

from .conftest import Site, running_site
from .parts import Behaviour, Receiver, accept, break_off, event, event_id, keep_silent, reply

PATIENCE = 1.0
BAD = event_id(1)

FAILURES: dict[str, Behaviour] = {
    "no reply": keep_silent,
    "half a reply": break_off,
    "an error": reply(500),
    "a refusal": reply(403, b"<html>blocked by the firewall"),
    "too much": reply(200, b"x" * (http_request.MAX_REPLY + 1)),
}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_request, "SILENCE_SECONDS", PATIENCE)


def failing(fails: Callable[[str], bool], how: Behaviour) -> Behaviour:
    """Return a behaviour that fails for events selected by ``fails`` and accepts the others."""

    async def behave(request: web.Request, body: bytes) -> web.StreamResponse:
        return await (how if fails(orjson.loads(body)["id"]) else accept)(request, body)

    return behave


def arrived(hook: Receiver) -> list[str]:
    """Return the ids received, in order, without the bad event."""
    return [found for call in hook.calls if (found := orjson.loads(call.body)["id"]) != BAD]


@pytest.mark.parametrize("how", FAILURES.values(), ids=FAILURES)
async def test_of_400_events_one_fails_and_the_others_arrive_at_once_and_once(
    site: Site, hook: Receiver, how: Behaviour
) -> None:
    hook.behave = failing(lambda identifier: identifier == BAD, how)
    site.alerts.gate.clear()
    await site.set_webhook(hook.url)
    await asyncio.gather(*(site.accept(number) for number in range(1, 401)))
    site.alerts.gate.set()
    begun = time.monotonic()
    await until(lambda: len(arrived(hook)) >= 399)

    assert time.monotonic() - begun < 4 * PATIENCE
    assert sorted(arrived(hook)) == [event_id(number) for number in range(2, 401)]


async def test_an_urgent_event_overtakes_thousands_waiting_behind_a_failing_one(site: Site, hook: Receiver) -> None:
    hook.behave = failing(lambda identifier: identifier == BAD, reply(500))
    site.alerts.gate.clear()
    await site.set_webhook(hook.url)
    await asyncio.gather(*(site.outbox.accept(event(number, alert=1)) for number in range(1, 4201)))
    await site.accept(4201)
    site.alerts.gate.set()
    await until(lambda: hook.has_received(event_id(4201).encode()))
    await until(lambda: site.link("hook").state is LinkState.CONNECTED)
    await site.accept(4202)
    await until(lambda: hook.has_received(event_id(4202).encode()))
    async with asyncio.timeout(20):  # its reply is stored a moment after it was received
        while await site.waiting() != 4200:  # noqa: ASYNC110 - the database
            await asyncio.sleep(0.01)


async def test_an_urgent_event_does_not_wait_for_time_outs_of_other_subjects(
    site: Site, hook: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_request, "SILENCE_SECONDS", 2 * LATE_SECONDS)
    hanging = {event_id(number) for number in range(1, IN_FLIGHT + 1)}
    hook.behave = failing(lambda identifier: identifier in hanging, keep_silent)
    site.alerts.gate.clear()
    await site.set_webhook(hook.url)
    await site.accept(*range(1, IN_FLIGHT + 1))
    site.alerts.gate.set()
    await until(lambda: len(hook.calls) == IN_FLIGHT)

    for number in range(100, 104):  # the first while all requests hang, the others while all seems down
        await site.accept(number)
        accepted = time.monotonic()
        await until(lambda: hook.has_received(event_id(number).encode()))  # noqa: B023 - done before the next
        assert time.monotonic() - accepted < LATE_SECONDS + PROBE_SECONDS
        await until(lambda: site.link("hook").state is LinkState.CONNECTED)


async def test_a_new_urgent_event_ends_the_pause_of_a_failing_one(site: Site, hook: Receiver) -> None:
    hook.behave = failing(lambda identifier: identifier == BAD, reply(403))
    await site.set_webhook(hook.url)
    await site.accept(1)
    await until(lambda: site.link("hook").reason == "http_403")
    await site.accept(2)
    await until(lambda: site.link("hook").state is LinkState.CONNECTED)
    assert await site.waiting() == 1


@pytest.mark.parametrize("how", [keep_silent, break_off, reply(403)])
async def test_later_events_of_the_same_key_wait_for_a_failing_one(site: Site, hook: Receiver, how: Behaviour) -> None:
    fails = True
    hook.behave = failing(lambda identifier: fails and identifier == BAD, how)
    site.alerts.gate.clear()
    await site.set_webhook(hook.url)
    for number in (1, 2, 3):
        await site.outbox.accept(event(number, alert=1))
    await site.accept(*range(10, 40))
    site.alerts.gate.set()
    await until(lambda: len(arrived(hook)) == 30)
    fails = False
    await until(lambda: len(arrived(hook)) == 32)

    ids = [orjson.loads(call.body)["id"] for call in hook.calls]
    assert [identifier for identifier in ids if identifier in {event_id(2), event_id(3)}] == [event_id(2), event_id(3)]
    assert max(place for place, identifier in enumerate(ids) if identifier == BAD) < ids.index(event_id(2))


@pytest.mark.parametrize("how", [keep_silent, break_off, reply(403)])
async def test_an_event_that_fails_twenty_times_while_others_are_delivered_is_rejected(
    hook: Receiver, tmp_path: Path, how: Behaviour, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_request, "SILENCE_SECONDS", 0.05)
    hook.behave = failing(lambda identifier: identifier == BAD, how)
    async with running_site(tmp_path / "site", Limits(longest_backoff=0)) as site:
        await site.set_webhook(hook.url)
        await site.accept(1)
        number = 1
        while not (rejected := await site.outbox.rejected()):
            number += 1
            await site.accept(number)
            await until(lambda: hook.has_received(event_id(number).encode()))  # noqa: B023 - done before the next
        assert [(each.event, each.code, each.attempts) for each in rejected] == [(BAD, "poison", rejected[0].attempts)]
        assert rejected[0].attempts >= 20
        assert len(set(arrived(hook))) == len(arrived(hook)) == number - 1


async def test_while_nothing_is_delivered_no_failure_counts_against_an_event(site: Site, hook: Receiver) -> None:
    hook.behave = keep_silent
    site.alerts.gate.clear()
    await site.set_webhook(hook.url)
    await site.accept(*range(1, 20))
    site.alerts.gate.set()
    await until(lambda: site.link("hook").reason == "timeout")
    await until(lambda: len(hook.calls) > IN_FLIGHT)
    hook.behave = accept
    async with asyncio.timeout(20):
        while await site.waiting():
            pass
    failures = await site.store.read(lambda transaction: transaction.rows("SELECT sum(failures) FROM outbox_exception"))
    assert failures == [(None,)]


async def test_readings_do_not_wait_for_a_request_that_hangs(
    site: Site, hook: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_request, "SILENCE_SECONDS", 5 * LATE_SECONDS)
    hook.behave = failing(lambda identifier: identifier == BAD, keep_silent)
    await site.set_webhook(hook.url, kinds=(EventKind.ALERT, EventKind.READING))
    for number in (1, 2):
        await site.outbox.accept(event(number, alert=1))
    reading = OutgoingReading(device="meter", property="level", unit="l", time=100.0, value=1.0)
    await site.store.write(lambda transaction: site.outbox.add_readings(transaction, [reading]))
    begun = time.monotonic()
    await until(lambda: hook.has_received(b"process_cosmos.readings.v1"))
    assert time.monotonic() - begun < 2 * LATE_SECONDS
