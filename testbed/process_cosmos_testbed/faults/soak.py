"""F28, the soak: a random mix of faults for a given time, a quarter of it quiet; memory is recorded."""

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from process_cosmos_testbed.replies import cut, status

from .fault import Scale
from .site import FaultError, Site

type Strike = Callable[[Site], Awaitable[None]]

PLOT = Path("soak.svg")
_MOST_MEGABYTES = 120.0
_LATE = 0.9
_WIDTH, _HEIGHT, _EDGE = 720, 240, 40


async def soak(site: Site, scale: Scale) -> None:
    """Apply every strike in turn, in random order; plot the memory to ``soak.svg`` beside the JSON.

    The gateway is killed in the first round and at the end only: a young process shows nothing about its memory.
    """
    seconds = scale.soak * 60 if scale.soak else scale.of(5.0, 180.0)
    samples = list[tuple[float, float]]()
    rest = site.random.sample(STRIKES, len(STRIKES))
    async with site.traffic(rate=5, keys=2):
        begun = time.monotonic()
        while (passed := time.monotonic() - begun) < seconds or rest:
            samples.append((passed, site.gateway.megabytes()))
            if site.random.random() < 0.25:  # noqa: PLR2004 - a quarter of the time is quiet
                await asyncio.sleep(site.random.uniform(0.2, 2.0))
                continue
            if not rest:
                strikes = STRIKES if passed > _LATE * seconds else UNKILLED
                rest = site.random.sample(strikes, len(strikes))
            await rest.pop()(site)
            site.heal()
            site.prove("strikes", 1)
            await asyncio.sleep(site.random.uniform(0.1, 0.5))
    await site.settle()
    samples.append((time.monotonic() - begun, site.gateway.megabytes()))
    memory = [megabytes for _, megabytes in samples]
    for quarter in range(5):
        site.figures[f"rss_mb_after_{quarter}_quarters"] = memory[(len(memory) - 1) * quarter // 4]
    site.figures["rss_mb_most"] = max(memory)
    if scale.plots is not None:
        (scale.plots / PLOT).write_text(plot(samples), "utf-8")
    if max(memory) > _MOST_MEGABYTES:
        raise FaultError(f"the gateway took {max(memory):.0f} MB, at most {_MOST_MEGABYTES:.0f} are allowed")


async def _kill(site: Site) -> None:
    await site.kill_gateway()
    await site.start_gateway()


async def _freeze(site: Site) -> None:
    site.gateway.signal(signal.SIGSTOP)
    await asyncio.sleep(site.random.uniform(0.2, 2.0))
    site.gateway.signal(signal.SIGCONT)


async def _cut_off(site: Site) -> None:
    for proxy in site.proxies:
        site.random.choice([proxy.refuse, proxy.blackhole, proxy.half_open, proxy.reset])()
    await asyncio.sleep(site.random.uniform(0.2, 2.0))


async def _swallow(site: Site) -> None:
    site.random.choice([site.to_cloud, site.to_webhook]).swallow_replies()
    await asyncio.sleep(site.random.uniform(0.2, 2.0))


async def _slow(site: Site) -> None:
    for proxy in site.links:
        proxy.latency(0.2, 0.1)
        proxy.loss(0.1)
    await asyncio.sleep(site.random.uniform(0.5, 3.0))


async def _busy(site: Site) -> None:
    site.receiver.misbehave = site.random.choice([status(503), status(429, headers={"Retry-After": "1"}), cut])
    await asyncio.sleep(site.random.uniform(0.2, 2.0))


async def _jump(site: Site) -> None:
    await site.gateway.command_machine("time", "skip", site.random.uniform(1.0, 60.0))


UNKILLED: Sequence[Strike] = (_freeze, _cut_off, _swallow, _slow, _busy, _jump)
STRIKES: Sequence[Strike] = (_kill, *UNKILLED)


def plot(samples: Sequence[tuple[float, float]]) -> str:
    """Return an SVG of megabytes over seconds."""
    until, most = max(at for at, _ in samples) or 1.0, max(megabytes for _, megabytes in samples) * 1.1
    across, up = (_WIDTH - 2 * _EDGE) / until, (_HEIGHT - 2 * _EDGE) / most
    points = " ".join(f"{_EDGE + at * across:.1f},{_HEIGHT - _EDGE - size * up:.1f}" for at, size in samples)
    axes = f"M{_EDGE},{_EDGE} V{_HEIGHT - _EDGE} H{_WIDTH - _EDGE}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-size="12">'
        f'<path d="{axes}" fill="none" stroke="#888"/><polyline points="{points}" fill="none" stroke="#06c"/>'
        f'<text x="{_EDGE}" y="{_EDGE - 10}">Resident memory of the gateway, at most {most / 1.1:.0f} MB</text>'
        f'<text x="{_WIDTH - _EDGE}" y="{_HEIGHT - 15}" text-anchor="end">{until / 60:.1f} minutes</text></svg>\n'
    )
