"""Faults of the network: slow, lossy, narrow, down, flapping, one-way."""

import asyncio
from collections.abc import Callable
from functools import partial

from process_cosmos_testbed.proxy import FaultProxy
from process_cosmos_testbed.replies import page
from process_cosmos_testbed.testbed import CLOUD, WEBHOOK

from .fault import Scale
from .site import Site

_MINUTE = 60.0
_STEP = 30.0
_HOUR = 3600.0


async def links(site: Site, scale: Scale) -> None:
    """F13: LAN; 3G; satellite; bad Wi-Fi; 32 kbit/s."""
    profiles = {
        "3G": (0.1, 0.01, 0.0, None),
        "satellite": (0.6, 0.05, 0.02, None),
        "Wi-Fi with 5 % loss": (0.005, 0.005, 0.05, None),
        "Wi-Fi with 20 % loss": (0.005, 0.005, 0.20, None),
        "32 kbit/s": (0.05, 0.0, 0.0, 32_000.0),
    }
    squeezed = partial(site.counted, "delayed", "lost_packets", "throttled")
    async with site.traffic(rate=4, keys=2):
        for name, (latency, jitter, loss, bits) in profiles.items():
            before = squeezed()
            for proxy in site.links:
                proxy.latency(latency, jitter)
                proxy.loss(loss)
                proxy.bandwidth(bits)
            await asyncio.sleep(scale.of(1.2, 30.0))
            await site.until_struck(name, squeezed, before=before)
            if loss:
                await site.until_struck("packets lost", partial(site.counted, "lost_packets"))


async def outages(site: Site, scale: Scale) -> None:
    """F14: 5 minutes on and 5 off, 10/10, 15/15, 30/30, and 7 days, compressed: time is skipped in steps."""
    async with site.traffic(rate=10, keys=2):
        for minutes in (5, 10, 15, 30):
            for _ in range(scale.of(1, 4)):
                await _outage(site, minutes * _MINUTE, _STEP)
                await _pass_by(site, minutes * _MINUTE, _STEP * 2)
        await _outage(site, 7 * 24 * _HOUR, scale.of(6 * _HOUR, _HOUR / 2))


async def _outage(site: Site, seconds: float, step: float) -> None:
    """Interrupt both links for ``seconds`` of the gateway's time."""
    refused = partial(site.counted, "refused")
    before = refused()
    for proxy in site.links:
        proxy.refuse()
    await _pass_by(site, seconds, step)
    what = f"tries refused in {seconds / _MINUTE:.0f} minutes"
    await site.until_struck(what, refused, before=before, skip=step)
    for proxy in site.links:
        proxy.heal()


async def _pass_by(site: Site, seconds: float, step: float) -> None:
    for _ in range(int(seconds / step)):
        await site.skip(step)
        # Skipped time makes the next try due, but the connection itself takes real time.
        await asyncio.sleep(0.02)


async def flapping(site: Site, scale: Scale) -> None:
    """F15: flapping links; half-open connections; requests that arrive while replies are lost."""
    async with site.traffic():
        for _ in range(scale.of(5, 40)):
            for proxy in site.proxies:
                proxy.refuse()
            await asyncio.sleep(site.random.uniform(*scale.of((0.1, 0.4), (1.0, 5.0))))
            site.heal()
            await asyncio.sleep(site.random.uniform(*scale.of((0.1, 0.4), (1.0, 5.0))))
        site.prove("resets by flapping", sum(proxy.counts.resets for proxy in site.proxies))
        for name, strike in {"half-open": FaultProxy.half_open, "no replies": FaultProxy.swallow_replies}.items():
            for _ in range(scale.of(1, 10)):
                await _silence(site, name, strike)


async def _silence(site: Site, name: str, strike: Callable[[FaultProxy], None]) -> None:
    """Apply ``strike`` to both links until the gateway's requests time out, then heal."""
    await site.until_flowing()
    swallowed = partial(site.counted, "swallowed")
    before = swallowed()
    for proxy in site.links:
        strike(proxy)
    await site.until_struck(f"pieces swallowed: {name}", swallowed, before=before)
    # A receiver that sends nothing for 20 s counts as down.
    await site.skip(25)
    site.heal()
    await asyncio.sleep(0.3)


async def strange_ways(site: Site, scale: Scale) -> None:
    """F16: black hole, RST, no DNS, captive portal, failing TLS, a wrong host name; the broker stopped, too."""
    async with site.traffic(rate=10):
        await _hole(site)
        before = site.to_cloud.counts.resets
        rounds = scale.of(3, 30)
        while rounds > 0 or site.to_cloud.counts.resets == before:  # a connection may just be opening
            for proxy in site.proxies:
                proxy.reset()
            await asyncio.sleep(0.1)
            rounds -= 1
        site.prove("resets", site.to_cloud.counts.resets - before)
        site.receiver.misbehave = page
        await site.until_reason(WEBHOOK, "not_a_receiver")
        site.prove("captive portal seen", site.receiver.misbehaviours)
        site.heal()
        await site.set_webhook("http://gateway-of-nowhere.invalid/hook")
        await site.until_reason(WEBHOOK, "name_unknown")
        await site.set_webhook()
        site.to_cloud.redirect(site.receiver.port)  # which speaks no TLS
        await site.until_reason(CLOUD, "tls")
        async with site.cloud.impostor("elsewhere.invalid") as other:
            site.to_cloud.redirect(other.port)
            await site.skip(901)
            await site.until_reason(CLOUD, "identity_mismatch")
        site.to_cloud.redirect(site.cloud.port)
        await site.skip(901)
        await site.broker.stop()
        site.prove("broker stopped", not site.broker.running)
        await asyncio.sleep(0.5)
        await site.broker.start()


async def _hole(site: Site) -> None:
    ways = {"cloud": site.to_cloud, "webhook": site.to_webhook, "broker": site.to_broker}
    await site.until_flowing()
    before = {name: proxy.counts.swallowed for name, proxy in ways.items()}
    for proxy in ways.values():
        proxy.blackhole()
    for name, proxy in ways.items():
        what = f"pieces swallowed by a black hole before the {name}"
        await site.until_struck(what, partial(getattr, proxy.counts, "swallowed"), before=before[name])
    await site.skip(25)
    site.heal()
    await site.until_flowing()
