"""A gateway process, with a cloud endpoint process it is enrolled at, over data that was made before."""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from process_cosmos_gateway.alerts import Alerts
from process_cosmos_gateway.api.local_programs.tokens import make_token, revoke_token
from process_cosmos_gateway.clock import SystemClock
from process_cosmos_gateway.contract.destinations import EventKind, SetCloud
from process_cosmos_gateway.destinations import Destinations
from process_cosmos_gateway.errors import StartError
from process_cosmos_testbed.broker import Broker
from process_cosmos_testbed.processes import ManagedProcess, any_certificate
from process_cosmos_testbed.services import CloudProcess, GatewayProcess

from .bench import Bench
from .load import DESTINATION, HOLDING, opened

GATEWAY, CLOUD = "gateway", "cloud"
_PORT = "port"
_PROGRAM = "bench"


@dataclass
class Stand:
    """What runs, and how to look at it. ``started``: seconds from the process's start until it was well."""

    gateway: GatewayProcess
    cloud: CloudProcess
    token: str
    http: aiohttp.ClientSession
    started: float = 0.0

    async def metrics(self) -> Mapping[tuple[str, str], float]:
        """Return the gateway's own metrics, by name and the value of the label."""
        headers = {"Authorization": f"Bearer {self.token}"}
        async with self.http.get(f"{self.gateway.url}/metrics", headers=headers, ssl=any_certificate()) as reply:
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


def broker_options(broker: Broker) -> str:
    """Return the options with which a gateway connects to ``broker``."""
    return f'mqtt_host = "127.0.0.1"\nmqtt_port = {broker.port}\n'


def resident_mb(process: ManagedProcess, *, most: bool = False) -> float:
    """Return a process's resident memory (MB), or the most it ever was."""
    return process.megabytes("VmHWM" if most else "VmRSS") * 1e6 / (1 << 20)


def cpu_seconds(pid: int) -> float:
    """Return the processor time a process has used."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


async def enrolled(bench: Bench, waiting: int) -> Path:
    """Return data of a gateway that is enrolled and where ``waiting`` events wait; made once in a run, to be copied."""
    folder = bench.scratch / f"{HOLDING}site-{waiting}"
    if folder.exists():
        return folder
    (folder / CLOUD).mkdir(parents=True)
    cloud = CloudProcess(folder)
    (folder / _PORT).write_text(str(cloud.port))
    async with opened(folder / GATEWAY) as parts:
        await cloud.start()
        try:
            alerts = await Alerts.open(parts.store, parts.outbox, SystemClock())
            destinations = Destinations(parts.store, parts.outbox, alerts, SystemClock())
            running = asyncio.create_task(destinations.run())
            code = await cloud.one_time_code()
            await destinations.set_cloud(SetCloud(id="1", name=DESTINATION, code=code, kinds=tuple(EventKind)))
            running.cancel()
            await asyncio.wait([running])
        finally:
            await cloud.stop()
        await parts.fill(waiting)
    return folder


@asynccontextmanager
async def standing(folder: Path, options: str = "", *, with_cloud: bool = True) -> AsyncIterator[Stand]:
    """Run gateway and cloud over the data in ``folder`` inside the block."""
    gateway, cloud = GatewayProcess(folder, options=f'log_level = "warning"\n{options}'), CloudProcess(folder)
    gateway.data.mkdir(exist_ok=True)
    with suppress(StartError):
        revoke_token(gateway.data, _PROGRAM)  # of the data this is a copy of
    token = make_token(gateway.data, _PROGRAM, SystemClock())
    if with_cloud:
        cloud.port = int((folder / _PORT).read_text())
        await cloud.start()
    try:
        async with aiohttp.ClientSession() as http:
            yield Stand(gateway, cloud, token, http, await gateway.start())
    except aiohttp.ClientError, TimeoutError:
        if not gateway.running:
            raise gateway.failure("ended in the midst of it") from None
        raise
    finally:
        await gateway.stop()
        await cloud.stop()
