"""Faults of far sides that are there and do harm: login pages, and one event that fails while others pass."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import orjson
from aiohttp import web

from .fault import Fault, Scale
from .middle import Middle
from .misbehaviours import Misbehave, Take, script, silent, status, truncated
from .network_faults import until_link
from .receiver import WEBHOOK, Receiver
from .site import CLOUD, Site

_TIME_OUT = 25.0
_PAUSE = 31.0

ONE: Mapping[str, Misbehave] = {
    "no reply": silent,
    "half a reply": truncated,
    "500": status(500),
}
"""How a far side fails at one event."""


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


def _times(failure: FailingAtOne) -> int:
    return failure.times


FAULTS = (Fault(name="F30", sentence="a login page without html, one event that fails alone", play=one_fails),)
