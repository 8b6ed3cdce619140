"""``alarm``: how long an alarm takes to be accepted while measurements come in as fast as they can be taken."""

import asyncio
import time
from functools import partial
from statistics import quantiles

from process_cosmos_gateway.contract.destinations import Priority
from process_cosmos_gateway.outbox import Event

from .bench import Bench, Benchmark
from .figures import Goal, Outcome
from .load import Services, events, opened, readings
from .machine import fdatasync

PER_SECOND = 50
_WRITERS = 16
_READINGS = 16
_LEAST_MS, _SYNCS = 20.0, 10.0


async def run(bench: Bench) -> Outcome:
    """Alarms come at fixed times, whether or not the one before was accepted, and count from the time they were due.

    Right before, at their pace, the disk says what it takes: within minutes that may be ten times as much, or a tenth.
    """
    number = bench.size(1_500, 100)
    synced = await asyncio.to_thread(fdatasync, bench.scratch, bench.size(500, 50), 1 / PER_SECOND)
    calm, _ = await _latencies(bench, number, flood=False)
    flooded, rate = await _latencies(bench, number, flood=True)
    return Outcome(
        figures={
            "p99_ms": _p99(flooded),
            "p50_ms": 1000 * quantiles(flooded, n=2)[0],
            "flood_per_s": rate,
            "fdatasync_p99_ms": synced["p99_ms"],
        },
        limits={"p99_ms": _p99(calm), "p50_ms": 1000 * quantiles(calm, n=2)[0]},
    )


async def _latencies(bench: Bench, number: int, *, flood: bool) -> tuple[list[float], float]:
    """Return the seconds each alarm took, and how many readings a second came beside them."""
    async with opened(bench.folder("alarm")) as parts:
        taken = [0]
        floods = [_flood(parts, taken) for _ in range(_WRITERS if flood else 0)]
        beside = [asyncio.create_task(work) for work in (parts.store.run(), *floods)]
        begun = time.perf_counter()
        found = await _alarms(parts, number)
        rate = taken[0] / (time.perf_counter() - begun)
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
        return found, rate


async def _alarms(parts: Services, number: int) -> list[float]:
    seconds: list[float] = []

    async def accept(alarm: Event, due: float) -> None:
        await parts.outbox.accept(alarm)
        seconds.append(time.perf_counter() - due)

    begun = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for count, alarm in enumerate(events(number, Priority.URGENT)):
            due = begun + count / PER_SECOND
            await asyncio.sleep(due - time.perf_counter())
            tasks.create_task(accept(alarm, due))
    return seconds


async def _flood(parts: Services, taken: list[int]) -> None:
    """Bring readings, a handful to a write, each write when the one before is on disk."""
    while True:
        await parts.store.write(partial(parts.outbox.add_readings, readings=readings(_READINGS)))
        taken[0] += _READINGS


def _p99(seconds: list[float]) -> float:
    return 1000 * quantiles(seconds, n=100)[98]


def _met(outcome: Outcome) -> bool:
    return outcome.figures["p99_ms"] <= max(_LEAST_MS, _SYNCS * outcome.figures["fdatasync_p99_ms"])


BENCHMARK = Benchmark(
    name="alarm", run=run, goals=(Goal("p99_ms", f"≤ max({_LEAST_MS:g}, {_SYNCS:g} fdatasync p99)", _met),)
)
