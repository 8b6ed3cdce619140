"""Faults of storage: a disk that is full, broken, fails a sync once, or is read-only."""

import asyncio
from collections.abc import Callable

from process_cosmos_testbed.failing_disk import DiskFault

from .fault import Scale
from .site import Site

_PATIENCE = 40.0


async def failing_disk(site: Site, scale: Scale) -> None:
    """F8: ENOSPC and EIO at each write of a commit, EIO at each sync; a sync that fails once and then succeeds."""
    async with site.traffic():
        for fault in (DiskFault.FULL, DiskFault.WRITE, DiskFault.SYNC):
            for after in range(0, scale.of(6, 40), scale.of(3, 1)):
                await _fail(site, fault, after)


async def _fail(site: Site, fault: DiskFault, after: int) -> None:
    before = await _failures(site)
    burst = site.home_assistant.new_alert()
    site.gateway.may_end = True
    await site.gateway.command_machine("disk", "fail", fault, after, 1)
    site.prove(f"{fault} failed", await _until_failed(site, before, lambda: site.home_assistant.raise_alert(burst)))
    await site.revive()


async def full_disk(site: Site, scale: Scale) -> None:
    """F9: the disk is full for a while, filled by another program."""
    async with site.traffic():
        await _out_of_order(site, DiskFault.FULL, scale.of(1.0, 30.0))


async def read_only(site: Site, scale: Scale) -> None:
    """F11: the data folder becomes read-only for a while."""
    async with site.traffic():
        await _out_of_order(site, DiskFault.READ_ONLY, scale.of(1.0, 30.0))


async def _out_of_order(site: Site, fault: DiskFault, seconds: float) -> None:
    before = await _failures(site)
    site.gateway.may_end = True
    await site.gateway.command_machine("disk", "fail", fault, 0, -1)
    await asyncio.sleep(seconds)
    site.prove(f"writes failed: {fault}", await _until_failed(site, before))
    await site.gateway.command_machine("disk", "heal")
    await site.revive()


async def _until_failed(site: Site, before: int, meanwhile: Callable[[], None] = lambda: None) -> int:
    async with asyncio.timeout(_PATIENCE):
        while (failed := await _failures(site) - before) <= 0:
            meanwhile()
            await asyncio.sleep(0.005)
    return failed


async def _failures(site: Site) -> int:
    count: int = (await site.gateway.command_machine("disk", "counts"))["failed"]
    return count
