"""Faults of load: a million events waiting, producers faster than the link, a storm of reconnections."""

import asyncio
import contextlib
import ssl
import time
from functools import partial

from process_cosmos_gateway.contract.destinations import EventKind, Priority
from process_cosmos_testbed.ledger import Item
from process_cosmos_testbed.processes import run_in_process, until
from process_cosmos_testbed.testbed import CLOUD
from process_cosmos_testbed.virtual_devices.sensors import NumberedSensor

from .fault import Scale
from .fill_outbox import fill
from .site import Site

_FILL_SECONDS = 3600.0
_DRAIN_SECONDS = 1200.0
_READINGS = 100
_PAUSE = 0.1
_LINK = 100_000.0
"""Bits per second; the readings of two devices are about a million."""
_STORM = 60
ROOM = {"outbox_change_mb": 10_000}
"""Ten million events exceed the default quota of the outbox."""


async def millions(site: Site, scale: Scale) -> None:
    """F12: millions of events wait: the start takes no longer, and the oldest are drained."""
    site.destinations = (CLOUD,)
    # A webhook gets one event in each request: millions of device events would take it too long.
    await site.set_webhook(kinds=(EventKind.ALERT,))
    for waiting in scale.of((10_000,), (1_000_000, 10_000_000)):
        await _fill_and_drain(site, waiting, scale.of(2_000, 100_000))


async def _fill_and_drain(site: Site, waiting: int, judged: int) -> None:
    """Queue ``waiting`` events for the cloud endpoint, start the gateway, and drain the first ``judged``."""
    device = f"wot/filled-{waiting}"
    site.to_cloud.refuse()
    await site.gateway.stop()
    begun = time.monotonic()
    await run_in_process(partial(fill, site.database.parent, waiting, judged, device), _FILL_SECONDS)
    site.figures[f"filled_per_s_{waiting}"] = round(waiting / (time.monotonic() - begun))
    for number in range(1, judged + 1):
        item = Item(Priority.CHANGE, device, number)
        site.ledger.attempt(item, begun)
        site.ledger.acknowledge(item, begun)
    site.figures[f"start_seconds_{waiting}"] = round(await site.start_gateway(), 2)
    site.figures[f"start_rss_mb_{waiting}"] = site.gateway.megabytes()
    site.prove("events waiting at the start", waiting)
    site.heal()
    await site.skip(31)
    arrived, begun = site.events_at_cloud, time.monotonic()
    last = Item(Priority.CHANGE, device, judged)
    await until(lambda: last in site.ledger.there[CLOUD], "end of the drain", _DRAIN_SECONDS, every=0.01)
    drained = site.events_at_cloud - arrived
    site.figures[f"drained_{waiting}"] = drained
    site.figures[f"drained_per_s_{waiting}"] = round(drained / (time.monotonic() - begun))
    site.figures[f"drain_rss_mb_{waiting}"] = site.gateway.megabytes()


async def flood(site: Site, scale: Scale) -> None:
    """F27: readings ten times faster than the link, urgent events among them; then all clients reconnect at once."""
    sensors = await site.add_sensors(2)
    site.to_cloud.bandwidth(_LINK)
    site.to_webhook.bandwidth(_LINK)
    before = len(site.ledger.attempts)
    async with site.traffic(rate=5, keys=1), asyncio.TaskGroup() as group:
        pouring = [group.create_task(_pour(sensor)) for sensor in sensors]
        await asyncio.sleep(scale.of(3.0, 120.0))
        await site.until_struck("readings waiting after the flood", lambda: len(site.ledger.missing_at(CLOUD)))
        for task in pouring:
            task.cancel()
        site.figures["items_of_the_flood"] = len(site.ledger.attempts) - before
        site.figures["urgent_slowest_seconds"] = round(site.ledger.slowest(Priority.URGENT), 2)
        await _storm(site)
    site.figures["rss_mb"] = site.gateway.megabytes()


async def _pour(sensor: NumberedSensor) -> None:
    while True:
        await sensor.measure(_READINGS)
        await asyncio.sleep(_PAUSE)


async def _storm(site: Site) -> None:
    """Restart the cloud endpoint while many clients connect to it at the same moment."""
    await site.cloud.kill()
    for proxy in site.proxies:
        proxy.reset()
    await site.cloud.start()
    context = ssl.create_default_context(cafile=site.cloud.data / "ca.pem")
    connected = await asyncio.gather(*(_knock(site.cloud.port, context) for _ in range(_STORM)))
    site.prove("connections of the storm", sum(connected))


async def _knock(port: int, context: ssl.SSLContext) -> bool:
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(20):
            _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
            writer.close()
            return True
    return False
