"""``growth``: what waits must not slow down what comes or leaves; here without the network, which hides it."""

import asyncio
import time

from process_cosmos_gateway.outbox import Delivered, Outbox

from .accept import PRODUCERS, accept_rate
from .bench import Bench, Benchmark
from .figures import Goal, Outcome
from .load import DESTINATION, copied, events, holding, opened, random_id

_BATCH = 500
_LEAST = 0.8
_ROUNDS = 20
_AT_ONCE = 1_000


async def run(bench: Bench) -> Outcome:
    """Measure both rates with little, much and very much waiting; ratios are to the first."""
    depths = (1_000, 100_000, 1_000_000) if not bench.quick else (1_000, 5_000, 20_000)
    names = ("1k", "100k", "1m")
    figures: dict[str, float] = {}
    for name, depth in zip(names, depths, strict=True):
        folder = bench.folder("growth")
        await asyncio.to_thread(copied, await holding(bench.scratch, depth), folder)
        async with opened(folder) as parts:
            rounds = bench.size(_ROUNDS, 2)
            accepted, drained = await _rates(parts.outbox, rounds)
            figures |= {f"accept_{name}": accepted, f"drain_{name}": drained}
            some = events(_AT_ONCE * bench.size(10, 1), id_fn=random_id)
            figures[f"accept_random_{name}"] = await accept_rate(parts.outbox, some)
    firsts = {f"{what}_{name}": figures[f"{what}_1k"] for what in _WHAT for name in names}
    return Outcome(figures=figures, limits=firsts)


async def _rates(outbox: Outbox, rounds: int) -> tuple[float, float]:
    """Return accepts and deliveries a second; as much leaves as came, so that the depth stays."""
    came = left = 0.0
    for _ in range(rounds):
        some = events(_AT_ONCE)
        came += _AT_ONCE / await accept_rate(outbox, some, PRODUCERS)
        begun = time.perf_counter()
        for _ in range(_AT_ONCE // _BATCH):
            deliveries = await outbox.deliveries(DESTINATION, _BATCH)
            await outbox.settle(DESTINATION, [(parcel, Delivered()) for parcel in deliveries])
        left += time.perf_counter() - begun
    return rounds * _AT_ONCE / came, rounds * _AT_ONCE / left


_WHAT = ("accept", "drain", "accept_random")


def _flat(what: str, name: str) -> Goal:
    figure = f"{what}_{name}"

    def met(outcome: Outcome) -> bool:
        return outcome.figures[figure] >= _LEAST * outcome.limits[figure]

    return Goal(figure, "≥ 0.8 of that with 1,000 waiting", met)


BENCHMARK = Benchmark(
    name="growth", run=run, goals=tuple(_flat(what, name) for what in _WHAT[:2] for name in ("100k", "1m"))
)
