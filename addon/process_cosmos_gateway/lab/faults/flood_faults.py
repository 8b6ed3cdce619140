"""Faults of strangers and harmful sites: connections, bodies and batches by the thousand, while others go on."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus

import aiohttp
import orjson

from process_cosmos_gateway.contract.cloud import EPOCH_HEADER, TOKEN_HEADER
from process_cosmos_gateway.contract.destinations import Priority
from process_cosmos_gateway.contract.events import BATCH_CONTENT_TYPE, site_source
from process_cosmos_gateway.contract.identifiers import Ulid, UlidFactory
from process_cosmos_gateway.contract.pairing import parse_line
from process_cosmos_gateway.destinations.cloud import Credentials
from process_cosmos_gateway.destinations.enrolment import enrol
from process_cosmos_gateway.lab.processes import Part, run_once

from .fault import Fault, Scale
from .house import FaultError
from .site import Site

OF_THE_GATEWAY = ("half open", "mute", "slow", "packed")
OF_THE_CLOUD = (*OF_THE_GATEWAY, "codeless", "tiny")

ALARM_SECONDS = 0.2
NEIGHBOUR_SECONDS = 0.5
MOST_MEGABYTES = 150
MOST_LOGGED = 1.0
"""Megabytes a minute."""

_EVERY = 0.05
PERCENT = 0.99


async def floods(site: Site, scale: Scale) -> None:
    """F29: strangers and one harmful site flood gateway and endpoint; alarms and other sites go on as before."""
    seconds, patience = scale.of((2.0, 5.0), (30.0, 1.0))
    over: list[str] = []
    async with site.traffic(rate=10, keys=2):
        begun = time.monotonic()
        await asyncio.sleep(seconds)
        quiet = site.ledger.confirmed_within(Priority.ALARM, PERCENT, begun)
        site.figures["alarm_p99_ms without a flood"] = round(quiet * 1000, 1)
        for kind in OF_THE_GATEWAY:
            begun = time.monotonic()
            await _flood(site, site.gateway, kind, seconds, over)
            slow = site.ledger.confirmed_within(Priority.ALARM, PERCENT, begun)
            check(site, f"alarm_p99_ms gateway {kind}", slow * 1000, patience * ALARM_SECONDS * 1000, over)
        async with neighbour(site) as other:
            for kind in OF_THE_CLOUD:
                other.seconds.clear()
                await _flood(site, site.cloud, kind, seconds, over)
                site.prove(f"batches of a neighbour, {kind}", len(other.seconds))
                slow = percentile(other.seconds)
                check(site, f"neighbour_p99_ms cloud {kind}", slow * 1000, patience * NEIGHBOUR_SECONDS * 1000, over)
    if over:
        raise FaultError("; ".join(over))


async def _flood(site: Site, part: Part, kind: str, seconds: float, over: list[str]) -> None:
    """Flood one part; add to ``over`` what it takes of memory and log beyond what it may."""
    port = site.gateway_port if part is site.gateway else site.cloud_port
    certificate = site.folder / "harmful.pem"
    if kind == "tiny" and not certificate.exists():
        credentials = await _enrol(site)
        with os.fdopen(os.open(certificate, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
            file.write(credentials.key + credentials.certificate)
    known = ("--certificate", certificate) if kind == "tiny" else ()
    logged = part.log.stat().st_size
    flood = ("-m", "process_cosmos_gateway.lab.faults.strangers", kind, str(port), str(seconds), *known)
    struck = asyncio.create_task(run_once(sys.executable, *flood, limit=seconds + 60))
    megabytes = 0.0
    while not struck.done():
        megabytes = max(megabytes, site.resident_megabytes(part))
        await asyncio.sleep(_EVERY)
    site.prove(f"{part.name}: {kind}", int(struck.result()))
    check(site, f"rss_mb {part.name} {kind}", megabytes, MOST_MEGABYTES, over)
    grown = (part.log.stat().st_size - logged) / 1e6
    check(site, f"log_mb_a_minute {part.name} {kind}", grown * 60 / max(seconds, 60.0), MOST_LOGGED, over)


def check(site: Site, name: str, figure: float, most: float, over: list[str]) -> None:
    """Write a figure down; add it to ``over`` if it is over its bound."""
    site.figures[name] = round(figure, 1)
    if figure > most:
        over.append(f"{name}: {figure:.1f}, {most:g} at most")


def percentile(seconds: Sequence[float]) -> float:
    """Return the 99th percentile."""
    return sorted(seconds)[int(len(seconds) * PERCENT)] if seconds else 0.0


async def _enrol(site: Site) -> Credentials:
    """Enrol a site of its own at the endpoint."""
    code = await site.command_of_cloud("code", "--url", f"https://127.0.0.1:{site.cloud_port}")
    return await enrol(parse_line(code), _ulids())


_ulids = UlidFactory(lambda: time.time_ns() // 1_000_000, os.urandom)


@dataclass
class Neighbour:
    """Another site at the same endpoint. ``seconds``: what each of its batches took."""

    url: str
    site: Ulid
    http: aiohttp.ClientSession
    token: str | None = None
    seconds: list[float] = field(default_factory=list)

    async def send(self) -> None:
        """Send a batch of one event."""
        event = {"specversion": "1.0", "id": _ulids(), "source": site_source(self.site), "type": "lab.neighbour.v1"}
        headers = {"Content-Type": BATCH_CONTENT_TYPE, EPOCH_HEADER: self.site}
        if self.token is not None:
            headers[TOKEN_HEADER] = self.token
        begun = time.monotonic()
        async with self.http.post(f"{self.url}/v1/events", data=orjson.dumps([event]), headers=headers) as reply:
            receipt = await reply.json()
            if reply.status != HTTPStatus.OK:
                raise FaultError(f"the endpoint replied {reply.status} to a neighbour: {receipt}")
        self.token = receipt["token"]
        self.seconds.append(time.monotonic() - begun)

    async def run(self) -> None:
        """Send one event every ``_EVERY`` seconds. Ends only by cancellation."""
        while True:
            await self.send()
            await asyncio.sleep(_EVERY)


@asynccontextmanager
async def neighbour(site: Site) -> AsyncIterator[Neighbour]:
    """Let another site send to the endpoint inside the block."""
    code = await site.command_of_cloud("code", "--url", f"https://127.0.0.1:{site.cloud_port}")
    name = _ulids()
    credentials = await enrol(parse_line(code), name)
    connector = aiohttp.TCPConnector(ssl=credentials.tls(), limit=1)
    async with aiohttp.ClientSession(connector=connector) as http, asyncio.TaskGroup() as group:
        other = Neighbour(f"https://127.0.0.1:{site.cloud_port}", name, http)
        running = group.create_task(other.run())
        yield other
        running.cancel()


FAULTS = (Fault(name="F29", sentence="connections, bodies and batches by the thousand", play=floods),)
