"""Faults of a disk that is small, grows and shrinks, and whose files are deleted."""

import asyncio
import time

from process_cosmos_testbed.processes import until

from .fault import Scale
from .site import FaultError, Site

_LARGE = 4_000
_AT_THE_RESERVE = 20
_LOOKS_APART = 1.2
"""Seconds; the gateway reads its free space once a second."""
_NOTICED = 10.0
_NAMES = (("",), ("-wal",), ("", "-wal", "-shm"))


async def little_space(site: Site, scale: Scale) -> None:
    """F34: 130 to 400 MB are free at the start, then more, then less; then database and log are deleted."""
    for free in scale.of((130,), (130, 200, 300, 400)):
        await _start_with(site, free)
        before = sum(site.dropped().values())
        async with site.traffic():
            pass
        await _set_free(site, _LARGE)
        async with site.traffic():
            pass
        if dropped := sum(site.dropped().values()) - before:
            raise FaultError(f"{dropped} events were dropped although there was room for them")
        await _fill_up_to_the_reserve(site)
    for names in scale.of(_NAMES[:2], _NAMES):
        for _ in range(scale.of(1, 5)):
            await _delete_files(site, names)


async def _start_with(site: Site, free: int) -> None:
    site.gateway.free_megabytes = free
    await site.gateway.stop()
    await site.start_anew()
    site.gateway.free_megabytes = 0
    site.prove("starts with little space", 1)


async def _set_free(site: Site, megabytes: int) -> None:
    """Change the free space; return when the gateway has read it."""
    await site.gateway.command_machine("disk", "free", megabytes)
    # Counted after the change: a look before it may have read the old figure.
    before = await _looks(site)
    async with asyncio.timeout(_NOTICED):
        while await _looks(site) == before:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.02)


async def _looks(site: Site) -> int:
    looks: int = (await site.gateway.command_machine("disk", "counts"))["looks"]
    return looks


async def _fill_up_to_the_reserve(site: Site) -> None:
    before = sum(site.dropped().values())
    async with site.traffic():
        await _set_free(site, _AT_THE_RESERVE)
        await until(lambda: sum(site.dropped().values()) > before, "events that a nearly full disk refuses")
    site.prove("dropped at the reserve, and counted", sum(site.dropped().values()) - before)
    await _set_free(site, _LARGE)


async def _delete_files(site: Site, names: tuple[str, ...]) -> None:
    before = _recovered_at(site)
    async with site.traffic():
        begun = time.monotonic()
        for name in names:
            site.database.with_name(site.database.name + name).unlink()
        await until(lambda: _recovered_at(site) != before, "notice of the deleted files")
        seconds = time.monotonic() - begun
        # The gateway starts with a new database: readings of the last second may be lost, as with a kill.
        site.ledger.cuts += [begun + _LOOKS_APART, time.monotonic()]
        if seconds > _NOTICED:
            raise FaultError(f"the deleted files were noticed after {seconds:.1f} s")
        site.prove(f"deleted under the running gateway: {' and '.join(_named(name) for name in names)}", 1)
        slowest = max(seconds, site.figures.get("seconds_until_it_goes_on", 0.0))
        site.figures["seconds_until_it_goes_on"] = round(slowest, 2)


def _named(rest: str) -> str:
    return {"": "database", "-wal": "log", "-shm": "shared memory"}[rest]


def _recovered_at(site: Site) -> str | None:
    status = site.home_assistant.status
    return str(status.recovered.at) if status is not None and status.recovered is not None else None
