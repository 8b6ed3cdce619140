"""``drain_1m``: a million waiting leave as fast in the end as in the beginning, in little memory."""

import asyncio

from . import bare, raw
from .bench import Bench, Benchmark
from .drain import RATE, drained
from .figures import Outcome, at_least, at_most
from .load import copied, ulid
from .stand import CLOUD, enrolled


async def run(bench: Bench) -> Outcome:
    """Measure the drain, and the raw tables with as many rows in them."""
    number = bench.size(1_000_000, 20_000)
    folder = await asyncio.to_thread(copied, await enrolled(bench, number), bench.folder("drain_1m"))
    ours = await drained(folder, number)
    ids = [ulid() for _ in range(bench.size(100_000, 5_000))]
    limit = await asyncio.to_thread(raw.arrivals_rate, folder / CLOUD / "cloud.sqlite", ids)
    return Outcome(
        figures={
            RATE: ours.rate,
            "last_to_first": ours.last_to_first,
            "gateway_rss_mb": ours.gateway_mb,
            "cloud_rss_mb": ours.cloud_mb,
        },
        limits={
            RATE: limit,
            "last_to_first": 1.0,
            "gateway_rss_mb": await bare.bare_mb(bench, bare.GATEWAY),
            "cloud_rss_mb": await bare.bare_mb(bench, bare.CLOUD),
        },
    )


BENCHMARK = Benchmark(
    name="drain_1m",
    run=run,
    goals=(
        at_least(RATE, 50_000),
        at_least("last_to_first", 0.8),
        at_most("gateway_rss_mb", 80),
        at_most("cloud_rss_mb", 80),
    ),
)
