"""``idle``: what a gateway with nothing to do takes."""

import asyncio
import os
from pathlib import Path

from .bare import GATEWAY, bare_mb
from .bench import Bench, Benchmark
from .figures import Outcome, at_most
from .stand import enrolled, resident_mb, standing


async def run(bench: Bench) -> Outcome:
    """Let it stand, connected to a cloud endpoint, and look at its memory and its processor time."""
    async with standing(await enrolled(bench, 0)) as stand:
        await asyncio.sleep(bench.size(5, 1))
        before, seconds = _cpu_seconds(stand.gateway.pid), bench.size(30, 3)
        await asyncio.sleep(seconds)
        percent = 100 * (_cpu_seconds(stand.gateway.pid) - before) / seconds
        memory = resident_mb(stand.gateway)
    return Outcome(
        figures={"rss_mb": memory, "cpu_percent": percent},
        limits={"rss_mb": await bare_mb(bench, GATEWAY), "cpu_percent": 0.0},
    )


def _cpu_seconds(pid: int) -> float:
    """Return the processor time a process has used."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


BENCHMARK = Benchmark(name="idle", run=run, goals=(at_most("rss_mb", 65), at_most("cpu_percent", 0.5)))
