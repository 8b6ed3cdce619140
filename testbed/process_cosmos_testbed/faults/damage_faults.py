"""Faults of files: flipped bits, truncated tails and missing files in the database of a killed gateway."""

from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random

from process_cosmos_testbed.processes import until
from process_cosmos_testbed.testbed import CLOUD, WEBHOOK

from .fault import Scale
from .site import Site

_PAGE = 4096
_HEADER = 100

type Damage = Callable[[Path, Random], None]


async def damaged_files(site: Site, scale: Scale) -> None:
    """F10: flipped bits in header and pages, missing tails and logs, a file of 0 bytes: the gateway starts again."""
    site.ledger.rewound = True
    for _ in range(scale.of(1, 5)):
        for name, damage in DAMAGES.items():
            async with site.traffic(rate=10, keys=2):
                pass
            # Damage may destroy what waits: with an event waiting, the judge would count it as lost.
            await _until_all_arrived(site)
            # Killed, because a stop would copy the write-ahead log into the database and delete it.
            await site.gateway.kill()
            before = _contents(site.database)
            damage(site.database, site.random)
            site.prove(name, _contents(site.database) != before)
            await site.start_gateway()
            await _set_up_again(site)
    async with site.traffic(rate=10, keys=2):
        pass
    await _until_all_arrived(site)


async def _until_all_arrived(site: Site) -> None:
    """Return when nothing waits; a store that lost its newest commits looks like a copy, and is enrolled again."""
    await until(lambda: _is_empty(site) or site.reason(CLOUD) == "identity_conflict", "empty outbox")
    if not _is_empty(site):
        site.figures["enrolled_again"] = site.figures.get("enrolled_again", 0) + 1
        await site.set_cloud()
        await until(lambda: _is_empty(site), "empty outbox")


def _is_empty(site: Site) -> bool:
    return (
        not site.home_assistant.unconfirmed
        and not site.ledger.missing_at(WEBHOOK)
        and not site.ledger.missing_at(CLOUD)
    )


async def _set_up_again(site: Site) -> None:
    """Configure destinations that were lost with the database, as a person does after the repair issue."""
    site.home_assistant.status = None
    await site.until_status()
    if site.link(WEBHOOK) is None:
        await site.set_webhook()
    if site.link(CLOUD) is None:
        await site.set_cloud()


def _contents(database: Path) -> list[bytes]:
    files = (database, _log(database))
    return [file.read_bytes() if file.exists() else b"" for file in files]


def _log(database: Path) -> Path:
    return database.with_name(f"{database.name}-wal")


def _flip(file: Path, first: int, last: int, random: Random) -> None:
    content = bytearray(file.read_bytes())
    content[random.randrange(first, min(last, len(content)))] ^= 1 << random.randrange(8)
    file.write_bytes(content)


def _flip_header(database: Path, random: Random) -> None:
    _flip(database, 0, _HEADER, random)


def _flip_pages(database: Path, random: Random) -> None:
    for _ in range(8):
        _flip(database, _PAGE, database.stat().st_size, random)


def _cut_tail(database: Path, random: Random) -> None:
    content = database.read_bytes()
    database.write_bytes(content[: len(content) - random.randrange(1, 3 * _PAGE)])


def _flip_log(database: Path, random: Random) -> None:
    _flip(_log(database), 0, 1 << 30, random)


def _lose_log(database: Path, _: Random) -> None:
    _log(database).unlink()


def _empty(database: Path, _: Random) -> None:
    database.write_bytes(b"")


DAMAGES: Mapping[str, Damage] = {
    "bit flip in the write-ahead log": _flip_log,
    "write-ahead log gone": _lose_log,
    "bit flip in the header": _flip_header,
    "bit flips in pages": _flip_pages,
    "truncated tail": _cut_tail,
    "file of 0 bytes": _empty,
}
