"""Faults of processes: killed, frozen, restarted without a network."""

import asyncio
import signal
import time
from functools import partial
from pathlib import Path

from process_cosmos_testbed.failing_disk import edit_schema
from process_cosmos_testbed.processes import ProcessFailedError, until
from process_cosmos_testbed.testbed import WEBHOOK

from .fault import Scale
from .site import Site


async def kill_at_random(site: Site, scale: Scale) -> None:
    """F1: ``kill -9`` at random times, during accept, send and confirm."""
    async with site.traffic():
        for number in range(scale.of(3, 40)):
            site.to_cloud.latency(site.random.choice([0.0, 0.02, 0.05]))
            await asyncio.sleep(site.random.uniform(0.1, 0.5))
            if number % 2:
                site.to_webhook.swallow_replies()
                await asyncio.sleep(0.05)
            await site.kill_gateway()
            site.to_webhook.heal()
            await site.start_gateway()


async def kill_twice(site: Site, scale: Scale) -> None:
    """F2: ``kill -9`` when a transition is durable, has arrived, or is being confirmed; again during the start."""
    async with site.traffic():
        for _ in range(scale.of(1, 10)):
            for moment in (_after_receipt, _after_arrival, _while_confirming):
                await moment(site)
                await site.kill_gateway()
                starting = asyncio.ensure_future(site.start_gateway())
                await asyncio.sleep(site.random.uniform(0.05, 0.3))
                site.prove("kill -9 while it starts", await site.gateway.kill() == -signal.SIGKILL)
                site.ledger.cuts.append(time.monotonic())
                await asyncio.gather(starting, return_exceptions=True)
                site.heal()
                await site.start_gateway()


async def _after_receipt(site: Site) -> None:
    begun = site.home_assistant.receipts
    await until(lambda: site.home_assistant.receipts > begun, "a receipt")


async def _after_arrival(site: Site) -> None:
    begun = len(site.ledger.arrivals[WEBHOOK])
    await until(lambda: len(site.ledger.arrivals[WEBHOOK]) > begun, "an arrival")


async def _while_confirming(site: Site) -> None:
    site.to_cloud.swallow_replies()
    site.to_webhook.swallow_replies()
    await _after_arrival(site)


async def freeze(site: Site, scale: Scale) -> None:
    """F3: SIGSTOP, then SIGCONT."""
    async with site.traffic(scale.of(20.0, 5.0)):
        for seconds in scale.of((1.0, 2.0), (1.0, 5.0, 20.0, 60.0)):
            site.gateway.signal(signal.SIGSTOP)
            await asyncio.sleep(seconds)
            site.prove("seen stopped", _state(site.gateway.pid) == "T")
            site.gateway.signal(signal.SIGCONT)
            await asyncio.sleep(1.0)


def _state(pid: int) -> str:
    """Return the process's state as the kernel's letter."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


async def restart_loop(site: Site, scale: Scale) -> None:
    """F6: restarted repeatedly while no destination and no broker can be reached."""
    async with site.traffic(rate=5):
        for proxy in site.proxies:
            proxy.refuse()
        for number in range(scale.of(3, 20)):
            if number % 2:
                await site.kill_gateway()
            else:
                await site.gateway.stop()
            before = site.counted("refused")
            site.prove("starts without a network", await site.start_gateway() > 0)
            await site.until_struck("connections refused", partial(site.counted, "refused"), before=before)


async def power_cut(site: Site, scale: Scale) -> None:
    """F4: a power cut, in which every unsynced write is lost."""
    await _cut_power(site, "none", scale.of(3, 25))


async def torn_power_cut(site: Site, scale: Scale) -> None:
    """F5: a power cut, in which some unsynced writes survive, torn at sectors and out of order."""
    await _cut_power(site, "torn", scale.of(3, 25))


async def _cut_power(site: Site, kept: str, times: int) -> None:
    async with site.traffic():
        for _ in range(times):
            await asyncio.sleep(site.random.uniform(0.1, 0.4))
            burst = site.home_assistant.new_alert()
            for _ in range(100):
                site.home_assistant.raise_alert(burst)
            await site.cut_power(kept)
            await site.start_gateway()


async def newer_schema(site: Site, scale: Scale) -> None:
    """F7: a gateway refuses a database with a newer schema and a full outbox, and changes nothing."""
    async with site.traffic():
        site.to_cloud.refuse()
        site.to_webhook.refuse()
        await asyncio.sleep(scale.of(1.0, 20.0))
    await site.gateway.stop()
    known = edit_schema(site.database, 99)
    before = site.database.read_bytes()
    try:
        await site.start_gateway()
    except ProcessFailedError:
        site.prove("starts refused", 1)
    site.prove("database untouched", site.database.read_bytes() == before)
    edit_schema(site.database, known)
    site.heal()
    await site.start_gateway()
