"""``drain``: how many events a second leave over mutual TLS for the cloud endpoint, which syncs before it replies."""

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from . import peer_mosquitto, raw
from .bench import Bench, Benchmark
from .figures import Outcome, above_peer, at_least, of_limit
from .load import copied, ulid
from .stand import CLOUD, enrolled, resident_mb, standing

RATE = "events_per_s"
PATIENCE = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """One drain, by the times the endpoint wrote beside each batch, the first one apart; memory: the most ever (MB)."""

    rate: float
    last_to_first: float
    gateway_mb: float
    cloud_mb: float


async def drained(folder: Path, number: int) -> Drained:
    """Let everything that waits in ``folder`` leave; return how that went."""
    async with standing(folder) as stand:
        await stand.until_drained(PATIENCE)
        memory = resident_mb(stand.gateway, most=True), resident_mb(stand.cloud, most=True)
    return _by_arrivals(folder / CLOUD / "cloud.sqlite", number, *memory)


def _by_arrivals(path: Path, number: int, gateway_mb: float, cloud_mb: float) -> Drained:
    """Judge by the endpoint's own log: what left the gateway but did not arrive does not count."""
    with closing(sqlite3.connect(path)) as connection:
        times = [row[0] for row in connection.execute("SELECT arrived_at FROM arrival ORDER BY sequence")]
        [(fresh,)] = connection.execute("SELECT count(*) FROM event")
    if fresh != number:
        raise TimeoutError(f"{fresh} of {number} events arrived")
    tenth = max(1, len(times) // 10)
    first, last = times[tenth] - times[0], times[-1] - times[-1 - tenth]
    later = sum(time > times[0] for time in times)
    return Drained(
        rate=later / (times[-1] - times[0]),
        last_to_first=first / last if last else 1.0,
        gateway_mb=gateway_mb,
        cloud_mb=cloud_mb,
    )


async def run(bench: Bench) -> Outcome:
    """Measure ours, the raw tables of the endpoint that was just filled, and the bridge."""
    number = bench.size(100_000, 5_000)
    folder = await asyncio.to_thread(copied, await enrolled(bench, number), bench.folder("drain"))
    ours = await drained(folder, number)
    ids = [ulid() for _ in range(number)]
    limit = await asyncio.to_thread(raw.arrivals_rate, folder / CLOUD / "cloud.sqlite", ids)
    peers, missing = {}, {}
    if peer_mosquitto.PROGRAM:
        peers["mosquitto_bridge"] = {RATE: await peer_mosquitto.bridge_rate(bench.folder("bridge"), number)}
    else:
        missing["mosquitto_bridge"] = "mosquitto is not on the PATH: scripts/setup unpacks it"
    return Outcome(figures={RATE: ours.rate}, limits={RATE: limit}, peers=peers, missing=missing)


BENCHMARK = Benchmark(
    name="drain",
    run=run,
    goals=(at_least(RATE, 50_000), of_limit(RATE, 0.35), above_peer(RATE, "mosquitto_bridge")),
    runs=5,
)
