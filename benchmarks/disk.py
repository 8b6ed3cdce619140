"""``disk``: what events and ids take of the disk, what comes back after a drain, and what readings make it write."""

import asyncio
from pathlib import Path

from process_cosmos_gateway.outbox import Delivered

from . import raw
from .accept import database
from .bench import Bench, Benchmark
from .figures import Goal, Outcome, at_least, at_most
from .load import DESTINATION, Services, opened
from .written import by_readings, committed_first

_QUEUES = ("outbox_urgent", "outbox_change", "outbox_reading")
_ID_BYTES = 35  # a ULID, 8 bytes of hash, the result
_BATCH = 500
_STEADY_LOOKS = 50
_MOST_OF_EVENT = 1.5


async def run(bench: Bench) -> Outcome:
    """Fill, look, drain, look; then let a device say a reading ten times a second."""
    number = bench.size(100_000, 5_000)
    folder = bench.folder("disk")
    async with opened(folder) as parts:
        await parts.fill(number)
        [parcel] = await parts.outbox.deliveries(DESTINATION, 1)
    tables, size_full = raw.table_bytes(database(folder)), _size(database(folder))
    async with opened(folder) as parts:
        giving_back = asyncio.create_task(parts.store.run())
        await _drain(parts)
        await _until_steady(database(folder))
        giving_back.cancel()
        await asyncio.wait([giving_back])
    queued = sum(tables.get(table, 0) for table in _QUEUES)
    return Outcome(
        figures={
            "bytes_per_event": queued / number,
            "bytes_per_id": tables["outbox_id"] / number,
            "returned_ratio": (size_full - _size(database(folder))) / queued,
            "written_bytes_per_event": await by_readings(bench),
        },
        limits={
            "bytes_per_event": len(parcel.body),
            "bytes_per_id": _ID_BYTES,
            "returned_ratio": 1.0,
            "written_bytes_per_event": await by_readings(bench, committed_first()),
        },
    )


async def _drain(parts: Services) -> None:
    while deliveries := await parts.outbox.deliveries(DESTINATION, _BATCH):
        await parts.outbox.settle(DESTINATION, [(parcel, Delivered()) for parcel in deliveries])


async def _until_steady(path: Path) -> None:
    """Return when the file has not become smaller for five seconds."""
    size, still = _size(path), 0
    while still < _STEADY_LOOKS:
        await asyncio.sleep(0.1)
        before, size = size, _size(path)
        still = still + 1 if size == before else 0


def _size(path: Path) -> int:
    return path.stat().st_size


def _small(outcome: Outcome) -> bool:
    return outcome.figures["bytes_per_event"] <= _MOST_OF_EVENT * outcome.limits["bytes_per_event"]


BENCHMARK = Benchmark(
    name="disk",
    run=run,
    goals=(
        Goal("bytes_per_event", "≤ 1.5 of the encoded event", _small),
        at_most("bytes_per_id", 48),
        at_least("returned_ratio", 0.9),
        at_most("written_bytes_per_event", 4_000),
    ),
)
