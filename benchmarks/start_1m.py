"""``start_1m``: with a million events waiting the gateway starts as if there were none."""

import asyncio
import shutil

from .bare import GATEWAY, bare_mb
from .bench import Bench, Benchmark
from .figures import Outcome, at_most
from .load import copied, holding
from .stand import GATEWAY as DATA
from .stand import resident_mb, standing


async def run(bench: Bench) -> Outcome:
    """Start with as many waiting, and with none: nothing is faster than that."""
    number = bench.size(1_000_000, 20_000)
    folder = bench.folder("start")
    await asyncio.to_thread(copied, await holding(bench.scratch, number), folder / DATA)
    async with standing(folder, with_cloud=False) as stand:
        seconds, memory = stand.started, resident_mb(stand.gateway)
    shutil.rmtree(folder / DATA)
    async with standing(folder, with_cloud=False) as stand:
        empty = stand.started
    return Outcome(
        figures={"seconds": seconds, "rss_mb": memory},
        limits={"seconds": empty, "rss_mb": await bare_mb(bench, GATEWAY)},
    )


BENCHMARK = Benchmark(name="start_1m", run=run, goals=(at_most("seconds", 1.0), at_most("rss_mb", 80)))
