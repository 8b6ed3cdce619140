"""Faults of devices: floods of values, records, bytes, topics and descriptions, with urgent events among them."""

import asyncio
from functools import partial

from process_cosmos_testbed.mqtt_proxy import Manners, MqttProxy, Reaction
from process_cosmos_testbed.processes import run_in_process

from .bounds import QUICK_PATIENCE, Bounds
from .fault import Scale
from .mqtt_floods import flood
from .site import Site

_FLOOD_SECONDS = 600.0


async def floods(site: Site, scale: Scale) -> None:
    """F31: values, SenML, large messages, long topics, descriptions, and retained garbage at each start."""
    site.gateway.is_paced = site.is_direct = True  # the proxy's work would count as the gateway's
    await site.restart_gateway()
    seconds, bounds = scale.of(1.5, 60.0), Bounds(site, scale.of(QUICK_PATIENCE, 1.0))
    async with site.traffic(rate=10, keys=2):
        async with bounds.held("none"):
            await asyncio.sleep(seconds)
        for kind in ("values", "records", "topics", "changed"):
            async with bounds.held(kind):
                await _flood(site, kind, seconds)
        await site.until_struck("messages beyond a device's rate", partial(_passed_over, site, "rate_limited"))
        await site.until_struck("SenML of too many records", partial(_passed_over, site, "garbage"))
        many = scale.of(1500, 10_000)
        async with bounds.held("descriptions"):
            await _flood(site, "descriptions", many)
        await site.until_struck("devices turned away", partial(_passed_over, site, "too_many_devices"))
        await _flood(site, "withdrawn", many)
        await _large(bounds, scale.of(1, 10), scale.of(20, 200))
        await _retained(bounds, scale.of(200, 1000), seconds)


async def _flood(site: Site, kind: str, amount: float) -> None:
    """Flood the broker from another process."""
    sent = await run_in_process(partial(flood, kind, site.broker.port, amount), _FLOOD_SECONDS)
    site.prove(f"flooded: {kind}", sent)


async def _large(bounds: Bounds, messages: int, most: int) -> None:
    """Send messages of 20 MB, then one of ``most`` MB, through a broker of MQTT 3.1.1, which has no packet limit."""
    site = bounds.site
    async with MqttProxy(site.broker.port, Manners(to_5=Reaction.HANG_UP)) as proxy:
        site.to_broker.far_port, site.is_direct = proxy.port, False
        await site.restart_gateway()
        await site.until_struck("3.1.1 spoken", lambda: proxy.counts["connects_311"])
        async with bounds.held("large"):
            for number in range(messages):
                await _oversized(site, 20, number)
        # An urgent event on the same connection waits for the end of the message in any case: 2 ms for each megabyte.
        async with bounds.held("larger than the memory", urgent=False):
            await _oversized(site, most, messages)
    site.to_broker.redirect(site.broker.port)


async def _oversized(site: Site, megabytes: int, before: int) -> None:
    await _flood(site, "large", megabytes)
    await site.until_struck("messages that are too large", partial(_passed_over, site, "oversized"), before=before)


async def _retained(bounds: Bounds, amount: int, seconds: float) -> None:
    """Retain garbage, half of it at topics of 65 kB, and restart the gateway, which receives it at every start."""
    site = bounds.site
    await _flood(site, "garbage", amount)
    site.figures["start_seconds_with_garbage"] = round(await site.restart_gateway(), 2)
    async with bounds.held("garbage"):
        await asyncio.sleep(seconds)
    # More than half of it, so that neither kind can be all that was read.
    refused = partial(_passed_over, site, "description_invalid")
    await site.until_struck("garbage retained, and looked at", refused, before=amount // 2)


def _passed_over(site: Site, reason: str) -> int:
    return 0 if site.home_assistant.status is None else site.home_assistant.status.passed_over.get(reason, 0)
