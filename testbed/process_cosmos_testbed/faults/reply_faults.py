"""Faults of receivers: busy, broken, rejecting some events, losing their own confirmations."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus

import orjson
from aiohttp import web

from process_cosmos_testbed.arrivals import arrivals_of
from process_cosmos_testbed.http_server import MisbehavingEndpoint
from process_cosmos_testbed.interceptor import Interceptor
from process_cosmos_testbed.ledger import Ledger
from process_cosmos_testbed.processes import until
from process_cosmos_testbed.replies import Misbehave, Take, cut, dripping, status, truncated

from .fault import Scale
from .site import Site

_PAUSE = 31.0
_MOST_FORGED = 90
"""Forged events of a batch: the endpoint refuses a batch with more than 100 invalid ones as a whole."""

BOTH: Mapping[str, Misbehave] = {
    "429 with Retry-After": status(429, headers={"Retry-After": "1"}),
    "500 burst": status(500),
    "every other 503": status(503, share=2),
    "reply that drips": dripping,
    "reply cut short": truncated,
    "confirmation lost after the commit": cut,
}
"""Misbehaviours of both kinds of destinations."""


async def misbehaving(site: Site, scale: Scale) -> None:
    """F17: 429, 500, 413, a poison item, slow and truncated bodies, a confirmation lost after the commit."""
    async with site.intercepted() as interceptor, site.traffic(rate=10, keys=2):
        for name, misbehave in BOTH.items():
            await site.until_flowing()
            site.receiver.misbehave = interceptor.misbehave = misbehave
            fars: Mapping[str, MisbehavingEndpoint] = {"webhook": site.receiver, "cloud": interceptor}
            seen = {far_name: far.misbehaviours for far_name, far in fars.items()}
            await asyncio.sleep(scale.of(0.5, 5.0))
            for far_name, far in fars.items():
                struck = partial(getattr, far, "misbehaviours")
                await site.until_struck(f"{far_name}: {name}", struck, before=seen[far_name], skip=_PAUSE)
            await site.skip(_PAUSE)
            await asyncio.sleep(scale.of(0.3, 5.0))
            site.receiver.misbehave = interceptor.misbehave = None
        await _too_long(site, interceptor)
        await _poison(site)
    site.heal()
    await site.send_again()


async def _too_long(site: Site, interceptor: Interceptor) -> None:
    """Refuse batches of more than three events as too long."""
    await site.until_flowing()
    before = interceptor.misbehaviours
    interceptor.misbehave = status(413, choose=lambda body: len(orjson.loads(body)) > 3)  # noqa: PLR2004 - any few
    burst = site.home_assistant.new_alert()
    for _ in range(50):
        site.home_assistant.raise_alert(burst)
    await site.until_struck("cloud: 413", lambda: interceptor.misbehaviours, before=before, skip=_PAUSE)
    interceptor.misbehave = None


async def _poison(site: Site) -> None:
    """Reject one event at the webhook each time; accept the others."""
    await site.until_flowing()
    refused: set[str] = set()

    async def refuse_one(_: web.Request, body: bytes, __: Take) -> web.StreamResponse | None:
        event = orjson.loads(body)
        if not refused:
            refused.add(event["id"])
        if event["id"] not in refused:
            return None
        site.ledger.refused |= {arrival.item for arrival in arrivals_of(event, fresh=True)}
        return web.Response(status=422)

    site.receiver.misbehave = refuse_one
    await site.until_struck("webhook: 422 for one event", lambda: len(refused), skip=_PAUSE)
    await until(lambda: site.rejected, "the refused event to be set aside")
    site.receiver.misbehave = None


def _receipt_of(batch: bytes, reply: web.Response) -> web.Response:
    """Return ``reply`` with the digest of the ``batch`` that the gateway sent, which it requires of a receipt."""
    if reply.status != HTTPStatus.OK or not isinstance(reply.body, bytes):
        return reply
    receipt = orjson.loads(reply.body)
    receipt["batch"] = hashlib.sha256(batch).hexdigest()
    return web.Response(headers=reply.headers, body=orjson.dumps(receipt))


@dataclass
class Forger:
    """Forges every third event of a batch in transit, so that the endpoint rejects it and accepts the others.

    ``forged``: the ids of rejected events. A batch that is refused as a whole is sent again.
    """

    ledger: Ledger
    forward: Callable[[web.Request, bytes], Awaitable[web.Response]]
    forged: set[str] = field(default_factory=set)
    seen: int = 0

    async def answer(self, request: web.Request, body: bytes, _: Take) -> web.StreamResponse:
        """Forward a batch with forged events, and return the receipt."""
        events = orjson.loads(body)
        chosen = [event for place, event in enumerate(events, self.seen + 1) if place % 3 == 0][:_MOST_FORGED]
        self.seen += len(events)
        items = {arrival.item for event in chosen for arrival in arrivals_of(event, fresh=True)}
        for event in chosen:
            event["source"] = "/sites/somebody-else"
        reply = await self.forward(request, orjson.dumps(events))
        if reply.status == HTTPStatus.OK:
            self.ledger.refused |= items
            self.forged.update(event["id"] for event in chosen)
        return _receipt_of(body, reply)


async def in_part(site: Site, scale: Scale) -> None:
    """F18: the cloud endpoint rejects every third event and accepts the others."""
    async with site.intercepted() as interceptor:
        forger = Forger(site.ledger, interceptor.forward)
        async with site.traffic(rate=30):
            interceptor.misbehave = forger.answer
            await asyncio.sleep(scale.of(2.0, 30.0))
            await site.until_struck("events refused within a batch", lambda: len(forger.forged))
            interceptor.misbehave = None
        await until(lambda: site.rejected >= len(forger.forged), "the refused events to be set aside")
    await site.send_again()
