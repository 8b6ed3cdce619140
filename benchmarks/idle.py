"""``idle``: what a connected gateway with nothing to do takes."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from process_cosmos_gateway.contract.destinations import SetWebhook
from process_cosmos_gateway.contract.pairing import parse_line
from process_cosmos_testbed.broker import running_broker
from process_cosmos_testbed.fake_home_assistant import FakeHomeAssistant
from process_cosmos_testbed.ledger import Ledger
from process_cosmos_testbed.processes import free_port, until

from .bare import GATEWAY, bare_mb
from .bench import Bench, Benchmark
from .figures import Outcome, at_most
from .load import copied
from .stand import Stand, broker_options, cpu_seconds, enrolled, resident_mb, standing

_LIMITS = {"rss_mb": 54.0, "cpu_percent": 0.5, "wakeups_per_s": 4.0}
_SETTLING_SECONDS, _SECONDS = 15, 60


async def run(bench: Bench) -> Outcome:
    """Connect a broker, a Home Assistant and two destinations, let nothing happen, and read the kernel's counters."""
    folder = copied(await enrolled(bench, 0), bench.folder("idle"))
    async with running_broker(folder) as broker, standing(folder, broker_options(broker)) as stand, _home(stand):
        await asyncio.sleep(bench.size(_SETTLING_SECONDS, 1))
        seconds, pid = bench.size(_SECONDS, 3), stand.gateway.pid
        cpu_before, wakeups_before = cpu_seconds(pid), _wakeups(pid)
        await asyncio.sleep(seconds)
        wakeups = sum(count - wakeups_before.get(thread, 0) for thread, count in _wakeups(pid).items())
        figures = {
            "rss_mb": resident_mb(stand.gateway),
            "cpu_percent": 100 * (cpu_seconds(pid) - cpu_before) / seconds,
            "wakeups_per_s": wakeups / seconds,
        }
    return Outcome(figures=figures, limits=_LIMITS, peers={"bare": {"rss_mb": await bare_mb(bench, GATEWAY)}})


@asynccontextmanager
async def _home(stand: Stand) -> AsyncIterator[None]:
    """Pair a Home Assistant that stays connected inside the block; add a webhook to which nothing is sent."""
    home = FakeHomeAssistant(stand.gateway.url, Ledger(0.0))
    await home.pair(parse_line(await stand.gateway.new_pairing_line()))
    running = asyncio.create_task(home.run())
    try:
        await home.request(SetWebhook(id="webhook", name="webhook", url=f"http://127.0.0.1:{free_port()}/hook"))
        await until(lambda: home.status is not None and home.status.broker_connected, "connection to the broker")
        yield
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


def _wakeups(pid: int) -> Mapping[str, int]:
    """Return by thread how often it has gone to sleep, and so was woken."""
    found: dict[str, int] = {}
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        found[status.parent.name] = int(lines["voluntary_ctxt_switches"])
    return found


BENCHMARK = Benchmark(name="idle", run=run, goals=tuple(at_most(figure, most) for figure, most in _LIMITS.items()))
