"""Faults of far sides that are there and do harm: login pages, and one event that fails while others pass."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import orjson
from aiohttp import web

from process_cosmos_gateway.contract.destinations import Priority

from .fault import Fault, Scale
from .flood_faults import ALARM_SECONDS, MOST_MEGABYTES, PERCENT, check
from .house import FaultError
from .middle import Middle
from .misbehaviours import Misbehave, Take, dense, item, long_headers, script, silent, status, token, truncated
from .network_faults import until_link
from .receiver import WEBHOOK, Receiver
from .site import CLOUD, Site

_TIME_OUT = 25.0
_PAUSE = 31.0

ONE: Mapping[str, Misbehave] = {
    "no reply": silent,
    "half a reply": truncated,
    "500": status(500),
    "headers of 9 kB": long_headers,
}
"""How a far side fails at one event."""

TOKENS: Mapping[str, str] = {"65 kB": "x" * 65_000, "two lines": "1-0\r\nX: y"}
CURSORS: Mapping[str, int] = {"stays": 0, "falls": -1, "has no larger one": (1 << 63) - 1}

_POLLS = 12
"""Of an inbox that is never empty, beside one a second."""


async def one_fails(site: Site, scale: Scale) -> None:
    """F30: a login page without ``<html>``; one event that never gets a proper reply while others pass."""
    async with site.middle() as middle, site.traffic(rate=10, keys=2):
        site.receiver.misbehave = script
        await until_link(site, WEBHOOK, "not_a_receiver")
        site.receiver.misbehave = None
        await site.tell_machine("time", "skip", 901)
        for _ in range(scale.of(1, 5)):
            for name, misbehave in ONE.items():
                await _one(site, middle, name, misbehave)
                await asyncio.sleep(scale.of(0.2, 3.0))
        over: list[str] = []
        await _never_empty(site, middle, scale, over)
        await _cannot_be_stored(site, middle)
        await _dense(site, scale, over)
        if over:
            raise FaultError("; ".join(over))


async def _never_empty(site: Site, middle: Middle, scale: Scale, over: list[str]) -> None:
    """Have an item in the inbox for each poll: polls keep their pace."""
    seconds, before = scale.of(4.0, 60.0), middle.polls
    middle.inbox = item(1)
    middle.drop_polls()
    polls = partial(_polls, middle)
    await site.until_struck("polls of an inbox that is never empty", polls, before=before, skip=_PAUSE)
    before = middle.polls
    await asyncio.sleep(seconds)
    middle.inbox = None
    check(site, "polls of an inbox that is never empty", middle.polls - before, seconds + _POLLS, over)


async def _cannot_be_stored(site: Site, middle: Middle) -> None:
    """Give tokens and cursors that must never reach the disk; the link says so, and recovers by itself."""
    for name, text in TOKENS.items():
        await site.until_flowing()
        middle.misbehave = token(text)
        await until_link(site, CLOUD, "malformed_reply")
        site.prove(f"token: {name}", middle.misbehaviours)
        middle.misbehave = None
    for name, step in CURSORS.items():
        await site.until_flowing()
        middle.inbox = item(step)
        middle.drop_polls()
        await until_link(site, CLOUD, "malformed_reply")
        site.prove(f"cursor: {name}", middle.polls)
        middle.inbox = None


async def _dense(site: Site, scale: Scale, over: list[str]) -> None:
    """Answer each event with a megabyte of tiny values: alarms are accepted as before."""
    await site.until_flowing()
    begun, before = time.monotonic(), site.receiver.misbehaviours
    site.receiver.misbehave = dense
    await asyncio.sleep(scale.of(3.0, 30.0))
    site.receiver.misbehave = None
    site.prove("replies of a megabyte", site.receiver.misbehaviours - before)
    slow = site.ledger.confirmed_within(Priority.ALARM, PERCENT, begun) * 1000
    check(site, "alarm_p99_ms dense replies", slow, scale.of(5, 1) * ALARM_SECONDS * 1000, over)
    check(site, "rss_mb", site.resident_megabytes(), MOST_MEGABYTES, over)


async def _one(site: Site, middle: Middle, name: str, misbehave: Misbehave) -> None:
    """Fail at one event, each destination at one of its own, until others have passed it at both."""
    await site.until_flowing()
    fars: Mapping[str, Receiver | Middle] = {WEBHOOK: site.receiver, CLOUD: middle}
    failures = {far_name: FailingAtOne(misbehave) for far_name in fars}
    for far_name, far in fars.items():
        far.misbehave = failures[far_name].answer
    for far_name, failure in failures.items():
        await site.until_struck(f"{far_name}: one event, {name}", partial(_times, failure))
    arrived = {far_name: len(site.ledger.arrivals[far_name]) for far_name in fars}
    await site.tell_machine("time", "skip", _TIME_OUT)
    for far_name, before in arrived.items():
        passed = partial(len, site.ledger.arrivals[far_name])
        await site.until_struck(f"{far_name}: passed by others, {name}", passed, before=before, skip=_PAUSE)
    for far in fars.values():
        far.misbehave = None


@dataclass
class FailingAtOne:
    """Fails at the first event that comes, whenever it comes, alone or in a batch. ``times``: how often so far."""

    misbehave: Misbehave
    times: int = 0
    event: str | None = None

    async def answer(self, request: web.Request, body: bytes, take: Take) -> web.StreamResponse | None:
        """Answer in place of the far side, if it is about the event."""
        document = orjson.loads(body)
        events = [event["id"] for event in (document if isinstance(document, list) else [document])]
        self.event = self.event or events[0]
        if self.event not in events:
            return None
        self.times += 1
        return await self.misbehave(request, body, take)


def _polls(middle: Middle) -> int:
    return middle.polls


def _times(failure: FailingAtOne) -> int:
    return failure.times


FAULTS = (
    Fault(
        name="F30",
        sentence="a login page without html, one event that fails alone, replies not to be stored",
        play=one_fails,
    ),
)
