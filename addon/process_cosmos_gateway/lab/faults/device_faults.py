"""Faults of devices: floods of values, records, bytes, topics and descriptions, alarms among them."""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial

from process_cosmos_gateway.contract.destinations import Priority
from process_cosmos_gateway.lab.mqtt_proxy import Manners, MqttProxy, Reaction
from process_cosmos_gateway.lab.processes import run_once

from .fault import Fault, Scale
from .house import FaultError
from .site import Site

_MOST_MEGABYTES = 150.0
_MOST_LOG_A_MINUTE = 1_000_000.0
_SLOWEST_ALARM = 0.2
_SLOWEST_ALARM_QUICK = 1.0
"""Seconds within which 99 of 100 alarms are accepted. In a quick run other processes share the cores."""

_FLOOD_SECONDS = 600.0


async def floods(site: Site, scale: Scale) -> None:
    """F31: values, SenML, large messages, long topics, descriptions, and garbage retained at each start."""
    site.is_paced = site.is_direct = True  # the proxy's work would count as the gateway's
    await site.gateway.stop()
    await site.start_gateway()
    seconds = scale.of(1.5, 60.0)
    async with site.traffic(rate=10, keys=2):
        await _measured(site, scale, "none", partial(asyncio.sleep, seconds))
        for kind in ("values", "records", "topics", "changed"):
            await _measured(site, scale, kind, partial(_flood, site, kind, seconds))
        await site.until_struck("messages beyond a device's rate", partial(_passed_over, site, "rate_limited"))
        await site.until_struck("SenML of too many records", partial(_passed_over, site, "garbage"))
        many = partial(_flood, site, "descriptions", scale.of(1500, 10_000))
        await _measured(site, scale, "descriptions", many)
        await site.until_struck("devices turned away", partial(_passed_over, site, "too_many_devices"))
        await _large(site, scale)
        await _flood(site, "garbage", scale.of(100, 1000))
        await site.gateway.stop()
        site.figures["start_seconds_with_garbage"] = round(await site.start_gateway(), 2)
        await _measured(site, scale, "garbage", partial(asyncio.sleep, seconds))
        await site.until_struck(
            "garbage retained", partial(_passed_over, site, "description_invalid", "too_many_devices")
        )


async def _flood(site: Site, kind: str, amount: float) -> None:
    """Let another process flood the broker."""
    command = ("-m", "process_cosmos_gateway.lab.faults.flood", kind, "--port", str(site.broker_port))
    said = await run_once(sys.executable, *command, "--amount", str(amount), limit=_FLOOD_SECONDS)
    site.prove(f"said by a stranger: {kind}", int(said))


async def _large(site: Site, scale: Scale) -> None:
    """Let one large message come through a broker that knows 3.1.1 only: nobody tells it a limit."""
    async with MqttProxy(site.broker_port, Manners(to_5=Reaction.HANG_UP)) as proxy:
        site.to_broker.far_port, site.is_direct = proxy.port, False
        await site.gateway.stop()
        await site.start_gateway()
        await site.until_struck("3.1.1 spoken", lambda: proxy.counts["connects_311"])
        await _measured(site, scale, "large", partial(_flood, site, "large", scale.of(20, 100)))
        await site.until_struck("messages that are too large", partial(_passed_over, site, "oversized"))
    site.to_broker.far_port = site.broker_port
    site.to_broker.reset()


def _passed_over(site: Site, *reasons: str) -> int:
    return 0 if site.home.status is None else sum(site.home.status.passed_over.get(each, 0) for each in reasons)


async def _measured(site: Site, scale: Scale, name: str, flood_fn: Callable[[], Awaitable[None]]) -> None:
    """Play a flood; note what it costs, and raise ``FaultError`` where that is too much."""
    begun, logged = time.monotonic(), site.gateway.log.stat().st_size
    await flood_fn()
    await asyncio.sleep(0.5)
    minutes = (time.monotonic() - begun) / 60
    slowest = site.ledger.confirmed_within(Priority.ALARM, 0.99, begun)
    log = (site.gateway.log.stat().st_size - logged) / max(1.0, minutes)
    resident = site.resident_megabytes()
    site.figures[f"alarm_p99_seconds_{name}"] = round(slowest, 3)
    site.figures[f"rss_mb_{name}"] = resident
    site.figures[f"log_bytes_a_minute_{name}"] = round(log)
    most = scale.of(_SLOWEST_ALARM_QUICK, _SLOWEST_ALARM)
    if slowest > most or resident > _MOST_MEGABYTES or log > _MOST_LOG_A_MINUTE:
        raise FaultError(f"{name}: alarms {slowest:.2f} s, {resident:.0f} MB, {log:.0f} bytes of log a minute")


FAULTS = (Fault(name="F31", sentence="floods of strangers' devices, alarms among them", play=floods, own_site=True),)
