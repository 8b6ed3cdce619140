"""A gateway process, with a cloud endpoint process it is enrolled at, over data that was made before."""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from process_cosmos_gateway.alerts import Alerts
from process_cosmos_gateway.api.local_programs.tokens import make_token, revoke_token
from process_cosmos_gateway.clock import SystemClock
from process_cosmos_gateway.contract.destinations import EventKind, SetCloud
from process_cosmos_gateway.destinations import Destinations
from process_cosmos_gateway.errors import StartError
from process_cosmos_testbed.processes import ManagedProcess, accepts, any_certificate, free_ports, run_once, serves

from .bench import BIN, Bench
from .load import DESTINATION, HOLDING, opened

GATEWAY, CLOUD = "gateway", "cloud"
_PORT = "port"
_PROGRAM = "bench"


@dataclass
class Stand:
    """What runs, and how to look at it. ``started``: seconds from the process's start until it was well."""

    folder: Path
    gateway: ManagedProcess
    cloud: ManagedProcess
    url: str
    token: str
    http: aiohttp.ClientSession
    started: float = 0.0

    async def metrics(self) -> Mapping[tuple[str, str], float]:
        """Return the gateway's own metrics, by name and the value of the label."""
        headers = {"Authorization": f"Bearer {self.token}"}
        async with self.http.get(f"{self.url}/metrics", headers=headers, ssl=any_certificate()) as reply:
            text = await reply.text()
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        return {(sample.name, "".join(sample.labels.values())): sample.value for sample in samples}

    async def waiting(self) -> float:
        """Return how many events wait, by the gateway's metrics."""
        found = await self.metrics()
        return sum(value for (name, _), value in found.items() if name == "process_cosmos_waiting_events")

    async def until_drained(self, limit: float) -> None:
        """Return when nothing waits any more."""
        async with asyncio.timeout(limit):
            while await self.waiting():  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.2)


def resident_mb(process: ManagedProcess, *, most: bool = False) -> float:
    """Return a process's resident memory (MB), or the most it ever was."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    found = re.search(rf"{'VmHWM' if most else 'VmRSS'}:\s+(\d+) kB", status)
    return int(found[1]) / 1024 if found else 0.0


async def enrolled(bench: Bench, waiting: int) -> Path:
    """Return data of a gateway that is enrolled and where ``waiting`` events wait; made once in a run, to be copied."""
    folder = bench.scratch / f"{HOLDING}site-{waiting}"
    if folder.exists():
        return folder
    (folder / CLOUD).mkdir(parents=True)
    [port] = free_ports(1)
    (folder / _PORT).write_text(str(port))
    async with opened(folder / GATEWAY) as parts:
        cloud = await _start_cloud(folder)
        try:
            code = await run_once(BIN / "process-cosmos-cloud", "code", "--data", folder / CLOUD)
            alerts = await Alerts.open(parts.store, parts.outbox, SystemClock())
            destinations = Destinations(parts.store, parts.outbox, alerts, SystemClock())
            running = asyncio.create_task(destinations.run())
            request = SetCloud(id="1", name=DESTINATION, code=code.strip(), kinds=tuple(EventKind))
            await destinations.set_cloud(request)
            running.cancel()
            await asyncio.wait([running])
        finally:
            await cloud.stop()
        await parts.fill(waiting)
    return folder


@asynccontextmanager
async def standing(folder: Path, options: str = "", *, with_cloud: bool = True) -> AsyncIterator[Stand]:
    """Run gateway and cloud over the data in ``folder`` inside the block."""
    data = folder / GATEWAY
    data.mkdir(exist_ok=True)
    with suppress(StartError):
        revoke_token(data, _PROGRAM)  # of the data this is a copy of
    token = make_token(data, _PROGRAM, SystemClock())
    [port] = free_ports(1)
    file = folder / "gateway.toml"
    file.write_text(f'data = "{data}"\nhost = "127.0.0.1"\nport = {port}\nlog_level = "warning"\n{options}')
    cloud = await _start_cloud(folder) if with_cloud else ManagedProcess(CLOUD, folder)
    gateway, url = ManagedProcess(GATEWAY, folder), f"https://127.0.0.1:{port}"
    try:
        async with aiohttp.ClientSession() as http:
            begun = monotonic()
            await gateway.launch(BIN / "process-cosmos-gateway", "run", "--options", file)
            await gateway.until_ready(lambda: serves(f"{url}/health"), "its health check", limit=120)
            yield Stand(folder, gateway, cloud, url, token, http, monotonic() - begun)
    except aiohttp.ClientError, TimeoutError:
        if not gateway.running:
            raise gateway.failure("ended in the midst of it") from None
        raise
    finally:
        await gateway.stop()
        await cloud.stop()


async def _start_cloud(folder: Path) -> ManagedProcess:
    process, port = ManagedProcess(CLOUD, folder), (folder / _PORT).read_text()
    await process.launch(BIN / "process-cosmos-cloud", "serve", "--data", folder / CLOUD, "--port", port)
    await process.until_ready(lambda: accepts(int(port)), "an open port")
    return process
