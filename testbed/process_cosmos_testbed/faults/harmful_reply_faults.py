"""Faults of receivers that reply with harmful content: login pages, and one event that fails while others pass."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import orjson
from aiohttp import web

from process_cosmos_gateway.contract.destinations import LinkState
from process_cosmos_testbed.http_server import MisbehavingEndpoint
from process_cosmos_testbed.interceptor import Interceptor
from process_cosmos_testbed.ledger import Arrival
from process_cosmos_testbed.processes import until
from process_cosmos_testbed.replies import (
    Misbehave,
    Take,
    dense,
    empty,
    item,
    long_headers,
    script,
    silent,
    status,
    token,
    truncated,
)
from process_cosmos_testbed.testbed import CLOUD, WEBHOOK

from .bounds import QUICK_PATIENCE, Bounds
from .fault import Scale
from .site import Site

_TIME_OUT = 25.0
_PAUSE = 31.0

ONE: Mapping[str, Misbehave] = {
    "no reply": silent,
    "half a reply": truncated,
    "500": status(500),
    "headers of 9 kB": long_headers,
}
"""How a receiver fails for one event."""

TOKENS: Mapping[str, str] = {"65 kB": "x" * 65_000, "two lines": "1-0\r\nX: y"}
CURSORS: Mapping[str, int] = {"stays": 0, "falls": -1, "has no larger one": (1 << 63) - 1}

_POLLS = 12
"""Polls of an inbox that is never empty which are allowed beside one a second."""


async def one_fails(site: Site, scale: Scale) -> None:
    """F30: a login page without ``<html>``; one event that never gets a proper reply while others pass."""
    bounds = Bounds(site, scale.of(QUICK_PATIENCE, 1.0))
    async with site.intercepted() as interceptor, site.traffic(rate=10, keys=2):
        async with bounds.held("login page"):
            site.receiver.misbehave = script
            await site.until_reason(WEBHOOK, "not_a_receiver")
            await asyncio.sleep(scale.of(0.5, 10.0))
        site.receiver.misbehave = None
        await site.skip(901)
        for _ in range(scale.of(1, 5)):
            for name, misbehave in ONE.items():
                async with bounds.held(f"one event, {name}"):
                    await _one(site, interceptor, name, misbehave)
                await asyncio.sleep(scale.of(0.2, 3.0))
        async with bounds.held("never-empty inbox"):
            await _never_empty(bounds, interceptor, scale.of(4.0, 60.0))
        await _cannot_be_stored(site, interceptor)
        await site.until_flowing()
        async with bounds.held("dense replies"):
            await _dense(site, scale.of(3.0, 30.0))


async def _never_empty(bounds: Bounds, interceptor: Interceptor, seconds: float) -> None:
    """Return an item to each poll of the inbox: polls must keep their pace."""
    before = interceptor.polls
    interceptor.inbox = item(1)
    interceptor.drop_polls()
    what = "polls of an inbox that is never empty"
    await bounds.site.until_struck(what, lambda: interceptor.polls, before=before, skip=_PAUSE)
    before = interceptor.polls
    await asyncio.sleep(seconds)
    interceptor.inbox = None
    bounds.check(what, interceptor.polls - before, seconds + _POLLS)


async def _cannot_be_stored(site: Site, interceptor: Interceptor) -> None:
    """Send tokens and cursors that must not be stored; the link reports them, and recovers by itself."""
    for name, text in TOKENS.items():
        await _until_well(site, interceptor)
        before, interceptor.misbehave = interceptor.misbehaviours, token(text)
        await _malformed(site, interceptor, f"token: {name}", before)
    for name, step in CURSORS.items():
        await _until_well(site, interceptor)
        before, interceptor.inbox = interceptor.misbehaviours, item(step)
        interceptor.drop_polls()
        await _malformed(site, interceptor, f"cursor: {name}", before)
    await _until_well(site, interceptor)


async def _until_well(site: Site, interceptor: Interceptor) -> None:
    """Return when the cloud endpoint's link is connected, so that later reports are about the next fault."""
    interceptor.inbox = empty  # a long poll would prove nothing for 25 seconds
    await site.until_flowing()
    await until(
        lambda: (link := site.link(CLOUD)) is not None and link.state is LinkState.CONNECTED, "link that is well again"
    )


async def _malformed(site: Site, interceptor: Interceptor, what: str, before: int) -> None:
    """Return when ``what`` was sent more often than ``before``, and the link reports it; end it."""
    await site.until_struck(what, lambda: interceptor.misbehaviours, before=before, skip=_PAUSE)
    await site.until_reason(CLOUD, "malformed_reply")
    interceptor.misbehave = interceptor.inbox = None


async def _dense(site: Site, seconds: float) -> None:
    """Reply to each event with a megabyte of tiny values."""
    before = site.receiver.misbehaviours
    site.receiver.misbehave = dense
    await asyncio.sleep(seconds)
    site.receiver.misbehave = None
    site.prove("replies of a megabyte", site.receiver.misbehaviours - before)


async def _one(site: Site, interceptor: Interceptor, name: str, misbehave: Misbehave) -> None:
    """Fail for one event at each destination, until later events have overtaken it at both."""
    await site.until_flowing()
    fars: Mapping[str, MisbehavingEndpoint] = {WEBHOOK: site.receiver, CLOUD: interceptor}
    failures = {far_name: FailingAtOne(misbehave) for far_name in fars}
    for far_name, far in fars.items():
        far.misbehave = failures[far_name].answer
    for far_name, failure in failures.items():
        await site.until_struck(f"{far_name}: one event, {name}", partial(getattr, failure, "times"))
    arrived = {far_name: len(site.ledger.arrivals[far_name]) for far_name in fars}
    await site.skip(_TIME_OUT)
    for far_name, before in arrived.items():
        others = partial(passed, site.ledger.arrivals[far_name], before, failures[far_name])
        await site.until_struck(f"{far_name}: passed by others, {name}", others, skip=_PAUSE)
    for far in fars.values():
        far.misbehave = None


def passed(arrivals: Sequence[Arrival], since: int, failure: FailingAtOne) -> int:
    """Return the number of arrivals in events that never shared a request with the failing one."""
    return sum(each.fresh and each.event not in failure.beside for each in arrivals[since:])


@dataclass
class FailingAtOne:
    """Fails for the first event that arrives, each time, alone or in a batch. ``times``: how often so far.

    ``beside``: the events of the requests that failed. A receiver may accept them all before it fails.
    """

    misbehave: Misbehave
    times: int = 0
    event: str | None = None
    beside: set[str] = field(default_factory=set)

    async def answer(self, request: web.Request, body: bytes, take: Take) -> web.StreamResponse | None:
        """Reply in place of the receiver, if the request contains the event."""
        document = orjson.loads(body)
        events = [event["id"] for event in (document if isinstance(document, list) else [document])]
        self.event = self.event or events[0]
        if self.event not in events:
            return None
        self.times += 1
        self.beside.update(events)
        return await self.misbehave(request, body, take)
