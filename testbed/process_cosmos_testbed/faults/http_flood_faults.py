"""Faults of unauthenticated clients and harmful sites: floods of connections, bodies and batches."""

import asyncio
import os
import resource
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from pathlib import Path

import aiohttp
import orjson

from process_cosmos_gateway.contract.cloud import EPOCH_HEADER, TOKEN_HEADER
from process_cosmos_gateway.contract.events import BATCH_CONTENT_TYPE, site_source
from process_cosmos_gateway.contract.identifiers import Ulid, UlidFactory
from process_cosmos_gateway.contract.pairing import parse_line
from process_cosmos_gateway.destinations.enrolment import enrol
from process_cosmos_gateway.destinations.settings import Credentials
from process_cosmos_testbed.processes import ManagedProcess, run_in_process, serves

from .bounds import QUICK_PATIENCE, Bounds, Waits
from .fault import Scale
from .heavy_batches import BATCHES
from .http_floods import flood
from .site import FaultError, Site

OF_THE_GATEWAY = ("half open", "mute", "slow", "packed")
OF_THE_CLOUD = (*OF_THE_GATEWAY, "codeless")

PROOF: Mapping[str, str] = {"packed": "200", "codeless": "403", **dict.fromkeys(BATCHES, "200"), "quotes": "413"}
"""The documented status for the requests of a flood; floods without requests prove that they connected."""

NEIGHBOUR_SECONDS = 0.5
"""Bound of another site's batch."""

NEW_CONNECTION_SECONDS = 1.5
"""Bound of a health check on a new connection; with a full queue TCP repeats its SYN after a second (RFC 6298)."""

FEW_DESCRIPTORS = 256  # fewer than the connections that a flood holds open
_EVERY = 0.05
_CHECK_EVERY = 0.25
_HARMFUL_SITES = 2


async def floods(site: Site, scale: Scale) -> None:
    """F29: unauthenticated clients and harmful sites flood gateway and endpoint; urgent events and others go on."""
    seconds = scale.of(1.5, 30.0)
    bounds = Bounds(site, scale.of(QUICK_PATIENCE, 1.0))
    async with site.traffic(rate=10, keys=2):
        async with bounds.held("gateway no flood"):
            await asyncio.sleep(seconds)
        for kind in OF_THE_GATEWAY:
            await _flood(bounds, site.gateway, kind, seconds, path="/v1/pair")
        site.gateway.descriptors = FEW_DESCRIPTORS
        await site.restart_gateway()
        most = resource.prlimit(site.gateway.pid, resource.RLIMIT_NOFILE)
        site.prove("few descriptors", most == (FEW_DESCRIPTORS, FEW_DESCRIPTORS))
        await _flood(bounds, site.gateway, "half open", seconds, label=" with few descriptors")
        site.gateway.descriptors = 0
        await site.restart_gateway()
        await _beside_neighbour(bounds, OF_THE_CLOUD, seconds)
        # Memory that the earlier floods used is not returned: it would count as that of the sites.
        await site.cloud.stop()
        await site.cloud.start()
        certificates = [await _certificate(site) for _ in range(_HARMFUL_SITES)]
        await _beside_neighbour(bounds, BATCHES, seconds, certificates)


async def _beside_neighbour(
    bounds: Bounds, kinds: Iterable[str], seconds: float, certificates: Sequence[Path] = ()
) -> None:
    """Flood the endpoint in several ways while another site sends."""
    async with neighbour(bounds.site) as other:
        for kind in kinds:
            with other.judged(bounds, kind):
                await _flood(bounds, bounds.site.cloud, kind, seconds, certificates=certificates)


async def _flood(
    bounds: Bounds,
    process: ManagedProcess,
    kind: str,
    seconds: float,
    *,
    label: str = "",
    path: str = "/v1/enroll",
    certificates: Sequence[Path] = (),
) -> None:
    """Flood one process; judge its memory and log, and whether new connections are still served."""
    site, name = bounds.site, f"{process.name} {kind}{label}"
    port = site.gateway.port if process is site.gateway else site.cloud.port
    new_connections = Waits()
    async with bounds.held(name, process), asyncio.TaskGroup() as group:
        asking = group.create_task(_check_health(port, new_connections))
        strikes = await run_in_process(partial(flood, kind, port, seconds, path, certificates), seconds + 60)
        asking.cancel()
    proof = PROOF.get(kind, "opened")
    site.prove(f"{name}: {proof}", strikes.pop(proof, 0))
    if strange := strikes.keys() - {"opened"}:
        bounds.site.exceeded.append(f"{name}: replies {', '.join(sorted(strange))}")
    bounds.check_waits(f"new connection {name}", new_connections.until_now(), NEW_CONNECTION_SECONDS)


async def _check_health(port: int, waits: Waits) -> None:
    """Repeat health checks on new connections until cancelled; a closed connection is tried again."""
    while True:
        with waits.one():
            while not await serves(f"https://127.0.0.1:{port}/health"):  # noqa: ASYNC110 - another process
                await asyncio.sleep(_EVERY)
        await asyncio.sleep(_CHECK_EVERY)


async def _enrol(site: Site, name: Ulid) -> Credentials:
    code = await site.cloud.one_time_code()
    return await enrol(parse_line(code), name)


async def _certificate(site: Site) -> Path:
    """Enrol another site at the endpoint; return the file of its key and certificate."""
    name = _ulids()
    credentials = await _enrol(site, name)
    file = site.folder / f"{name}.pem"
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT, 0o600), "w") as opened:
        opened.write(credentials.key + credentials.certificate)
    return file


_ulids = UlidFactory(lambda: time.time_ns() // 1_000_000, os.urandom)


@dataclass
class Neighbour:
    """Another site at the same endpoint. ``waits``: the duration of each of its batches."""

    url: str
    site: Ulid
    http: aiohttp.ClientSession
    token: str | None = None
    waits: Waits = field(default_factory=Waits)

    async def send(self) -> None:
        """Send a batch of one event."""
        event = {"specversion": "1.0", "id": _ulids(), "source": site_source(self.site), "type": "testbed.neighbour.v1"}
        headers = {"Content-Type": BATCH_CONTENT_TYPE, EPOCH_HEADER: self.site}
        if self.token is not None:
            headers[TOKEN_HEADER] = self.token
        with self.waits.one():
            async with self.http.post(f"{self.url}/v1/events", data=orjson.dumps([event]), headers=headers) as reply:
                receipt = await reply.json()
                if reply.status != HTTPStatus.OK:
                    raise FaultError(f"the endpoint replied {reply.status} to a neighbour: {receipt}")
        self.token = receipt["token"]

    async def run(self) -> None:
        """Send one event every ``_EVERY`` seconds. Ends only by cancellation."""
        while True:
            await self.send()
            await asyncio.sleep(_EVERY)

    @contextmanager
    def judged(self, bounds: Bounds, name: str) -> Iterator[None]:
        """Judge the batches inside the block, also one without a reply at its end."""
        self.waits.over.clear()
        yield
        bounds.check_waits(f"neighbour {name}", self.waits.until_now(), NEIGHBOUR_SECONDS)


@asynccontextmanager
async def neighbour(site: Site) -> AsyncIterator[Neighbour]:
    """Run another site inside the block that sends to the endpoint."""
    name = _ulids()
    credentials = await _enrol(site, name)
    connector = aiohttp.TCPConnector(ssl=credentials.tls(), limit=1)
    async with aiohttp.ClientSession(connector=connector) as http, asyncio.TaskGroup() as group:
        other = Neighbour(f"https://127.0.0.1:{site.cloud.port}", name, http)
        running = group.create_task(other.run())
        yield other
        running.cancel()
