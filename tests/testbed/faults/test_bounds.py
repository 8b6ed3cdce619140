"""What the bounds of faults notice: a peak of memory, a burst of log, an urgent event without acknowledgement."""

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from process_cosmos_gateway.contract.destinations import Priority
from process_cosmos_testbed.faults import bounds as limits
from process_cosmos_testbed.faults.bounds import Bounds
from process_cosmos_testbed.faults.site import FaultError, Site
from process_cosmos_testbed.ledger import Item
from process_cosmos_testbed.processes import ManagedProcess, until

LARGE = 200_000_000
PROGRAM = """
import signal
signal.pthread_sigmask(signal.SIG_BLOCK, {{signal.SIGUSR1}})
bytearray({before})
print("up", flush=True)
signal.sigwait({{signal.SIGUSR1}})
bytearray({meanwhile})
print("x" * {log}, flush=True)
signal.pause()
"""


async def flooded(site: Site, process: ManagedProcess, *, before: int = 0, meanwhile: int = 0, log: int = 0) -> Bounds:
    """Judge a program that takes memory and gives it back, before a flood or while it lasts, and writes to its log."""
    bounds = Bounds(site, 1.0)
    await process.launch(sys.executable, "-c", PROGRAM.format(before=before, meanwhile=meanwhile, log=log))
    try:
        await until(lambda: process.log.stat().st_size, "the program")
        async with bounds.held("flood", process):
            begun = process.log.stat().st_size
            process.signal(signal.SIGUSR1)
            await until(lambda: process.log.stat().st_size > begun, "a line in the log")
    finally:
        await process.kill()
    return bounds


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path, {})


async def test_memory_that_was_given_back_before_the_end_of_a_flood_counts(site: Site) -> None:
    bounds = await flooded(site, ManagedProcess("greedy", site.folder), meanwhile=LARGE)
    assert any("rss_mb flood: 2" in each for each in bounds.site.exceeded)


async def test_memory_that_was_given_back_before_the_flood_does_not_count(site: Site) -> None:
    bounds = await flooded(site, ManagedProcess("modest", site.folder), before=LARGE)
    assert bounds.site.exceeded == []


async def test_the_log_of_a_short_flood_is_judged_as_if_it_went_on_for_a_minute(site: Site) -> None:
    bounds = await flooded(site, ManagedProcess("talkative", site.folder), log=500_000)
    assert any("log_mb_a_minute flood" in each for each in bounds.site.exceeded)


@pytest.fixture
async def silent(site: Site) -> AsyncIterator[Site]:
    """A site whose gateway runs and acknowledges nothing."""
    await site.gateway.launch("sleep", "60")
    yield site
    await site.gateway.kill()


async def test_an_urgent_event_without_acknowledgement_has_waited_until_now(
    silent: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "_WAIT_SECONDS", 0.3)
    bounds = Bounds(silent, 1.0)
    urgent = silent.home_assistant.new_alert()
    async with bounds.held("flood"):
        for _ in range(3):
            silent.home_assistant.raise_alert(urgent)
        silent.ledger.acknowledge(Item(Priority.URGENT, urgent, 1), time.monotonic())
    assert any("urgent flood_p99_ms: 3" in each for each in bounds.site.exceeded)


async def test_an_urgent_event_that_is_acknowledged_after_the_flood_is_waited_for(silent: Site) -> None:
    bounds = Bounds(silent, 1.0)
    urgent = silent.home_assistant.new_alert()
    later = partial(silent.ledger.acknowledge, Item(Priority.URGENT, urgent, 1))
    async with bounds.held("flood"):
        silent.home_assistant.raise_alert(urgent)
        asyncio.get_running_loop().call_later(0.1, lambda: later(time.monotonic()))
    assert bounds.site.exceeded == []
    assert 100 <= silent.figures["urgent flood_p99_ms"] < 200


async def test_a_flood_without_an_urgent_event_has_judged_nothing(silent: Site) -> None:
    bounds = Bounds(silent, 1.0)
    async with bounds.held("flood"):
        pass
    with pytest.raises(FaultError, match="did not strike: waits judged: urgent flood"):
        silent.judge()
