"""``accept_ws``: how many events a second a gateway accepts from programs of another process."""

from .accept import accept_rate
from .bench import Bench, Benchmark
from .figures import Outcome, at_least
from .load import events, opened
from .stand import GATEWAY, standing

CONNECTIONS, IN_FLIGHT = 16, 16
RATE, ONE_BY_ONE = "events_per_s", "stop_and_wait_per_s"


async def run(bench: Bench) -> Outcome:
    """Publish over TLS with 16 in flight on each of 16 connections, then one by one; the limit has no network."""
    folder = bench.folder("accept_ws")
    async with opened(folder / GATEWAY):
        pass  # now a destination wants what comes
    rates = {}
    async with standing(folder, with_cloud=False) as stand:
        for figure, in_flight, number in ((RATE, IN_FLIGHT, 100_000), (ONE_BY_ONE, 1, 20_000)):
            words = (f"{stand.gateway.url}/ws/events", stand.token, str(bench.size(number, 1_600)), str(in_flight))
            rates[figure] = await bench.child("producers", *words)
    limits = {}
    for figure, in_flight in ((RATE, IN_FLIGHT), (ONE_BY_ONE, 1)):
        async with opened(bench.folder("in_process")) as parts:
            some = events(bench.size(40_000, 1_600))
            limits[figure] = await accept_rate(parts.outbox, some, CONNECTIONS * in_flight)
    return Outcome(figures=rates, limits=limits)


BENCHMARK = Benchmark(name="accept_ws", run=run, goals=(at_least(RATE, 15_000),))
