"""``accept``: how many events a second 64 producers in the process get accepted, each on disk before its answer."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

from process_cosmos_gateway.contract.identifiers import Ulid
from process_cosmos_gateway.outbox import Event, Outbox

from . import peer_thingsboard, raw
from .bench import Bench, Benchmark, library, program
from .figures import Outcome, above_peer, at_least, of_limit
from .load import events, opened, random_id, ulid

PRODUCERS = 64
RATE = "events_per_s"
RANDOM = "random_events_per_s"


async def accept_rate(outbox: Outbox, some: Sequence[Event], producers: int = PRODUCERS) -> float:
    """Return how many events a second ``producers`` get accepted, each with one under way."""
    waiting = iter(some)

    async def produce() -> None:
        for event in waiting:
            await outbox.accept(event)

    begun = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(producers):
            tasks.create_task(produce())
    return len(some) / (time.perf_counter() - begun)


async def run(bench: Bench) -> Outcome:
    """Measure ours with ids in order, with random ids, the limits of both, and the peers."""
    number = bench.size(60_000, 3_000)
    rates: dict[str, float] = {}
    limits: dict[str, float] = {}
    for figure, id_fn in ((RATE, ulid), (RANDOM, random_id)):
        folder = bench.folder("accept")
        some = events(number, id_fn=id_fn)
        async with opened(folder) as parts:
            rates[figure] = await accept_rate(parts.outbox, some)
        ids: list[Ulid] = [id_fn() for _ in range(number)]
        limits[figure] = await asyncio.to_thread(raw.queue_rate, database(folder), "outbox_change", ids)
    peers, missing = await _peers(bench)
    return Outcome(figures=rates, limits=limits, peers=peers, missing=missing)


def database(folder: Path) -> Path:
    """Return the store's file in ``folder``."""
    return folder / "gateway.sqlite"


async def _peers(bench: Bench) -> tuple[dict[str, dict[str, float]], dict[str, str]]:
    wanted = {
        "persist_queue": ("persistqueue", "peer_queues", bench.size(10_000, 300)),
        "litequeue": ("litequeue", "peer_queues", bench.size(20_000, 300)),
        "nats_fsync": ("nats", "peer_nats", bench.size(10_000, 300)),
        "nats_default": ("nats", "peer_nats", bench.size(60_000, 300)),
    }
    peers: dict[str, dict[str, float]] = {}
    missing: dict[str, str] = {}
    server = program("nats-server")
    for name, (package, module, number) in wanted.items():
        if reason := library(package):
            missing[name] = reason
        elif module == "peer_nats" and server is None:
            missing[name] = "nats-server is not in .tools/peers: no Debian mirror?"
        else:
            words = (str(server),) if module == "peer_nats" else ()
            peers[name] = {RATE: await bench.child(module, name, bench.folder(name), str(number), *words)}
    if reason := library(peer_thingsboard.PACKAGE, "thingsboard"):
        missing["thingsboard_gateway"] = reason
    else:
        rate = await bench.child("peer_thingsboard", bench.folder("thingsboard"), str(bench.size(60_000, 300)))
        peers["thingsboard_gateway"] = {RATE: rate}
    return peers, missing


BENCHMARK = Benchmark(
    name="accept",
    run=run,
    goals=(
        at_least(RATE, 30_000),
        of_limit(RATE, 0.3),
        above_peer(RATE, "persist_queue", 5),
        above_peer(RATE, "nats_fsync", 5),
        above_peer(RATE, "nats_default"),
        of_limit(RANDOM, 0.5),
    ),
)
