"""What a salvage says is lost is never less than what is lost, wherever the damage is."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from random import Random

import apsw
import pytest

from process_cosmos_gateway.contract.destinations import EventKind, Priority
from process_cosmos_gateway.contract.identifiers import Ulid
from process_cosmos_gateway.devices.readings import readings
from process_cosmos_gateway.devices.things.values import Reading
from process_cosmos_gateway.outbox import Event, Outbox, OutgoingReading
from process_cosmos_gateway.store import Transaction
from process_cosmos_gateway.store.losses import Copied, Count, losses

from .parts import HandClock, new_ulids, opened

PAGE = 4096
FILE = "gateway.sqlite"
SEEDS = range(16)
BOUNDED_BY_A_CONSTANT = {"device_message", "quarantine"}
"""Of these the newest some are kept: when nothing of them can be read, no less can be said."""
ULIDS = new_ulids()

type Damage = Callable[[bytearray, Random], None]


def event(number: int, kind: EventKind, priority: Priority) -> Event:
    return Event(
        id=ULIDS(),
        type="t",
        kind=kind,
        priority=priority,
        subject=f"device-{number % 20}",
        key=f"device-{number % 20}",
        time=HandClock().now(),
        data={"padding": "x" * 200},
    )


async def filled(folder: Path) -> None:
    """Fill tables of each kind by the code that owns them, and take some away again."""
    async with opened(folder) as store:
        outbox = Outbox(store, HandClock())
        await outbox.register("cloud", tuple(EventKind))
        await outbox.register("webhook", (EventKind.ALERT, EventKind.READING))
        events = [event(number, EventKind.DEVICE, Priority.CHANGE) for number in range(300)]
        events += [event(number, EventKind.ALERT, Priority.URGENT) for number in range(300)]
        some = [
            OutgoingReading(device="meter", property=f"p{number % 7}", unit="l", time=float(number), value=0.5)
            for number in range(2_000)
        ]

        def change(transaction: Transaction) -> None:
            for each in events:
                outbox.add(transaction, each)
            outbox.add_readings(transaction, some)
            for number in range(5):
                said = [Reading(value=place / 7, time=float(place)) for place in range(400)]
                readings.store_readings(
                    transaction, f"device-{number}", "level", [*said, Reading(value="text", time=1e6)], 1.0
                )
            rows = [
                (Ulid(f"{number:026}"), "closed", 0, "run", number, 1.0, 1.0, b"{}", b"{}") for number in range(200)
            ]
            columns = "id, state, alive, run, n, until_at, changed_at, body, event"
            transaction.run_many(f"INSERT INTO alert ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)  # noqa: S608 - names from above

        await store.write(change)
    copy_back(folder)


def copy_back(folder: Path) -> None:
    """Have everything in the database file itself."""
    connection = apsw.Connection(str(folder / FILE))
    connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    connection.close()


def rows(file: Path) -> dict[str, set[tuple[object, ...]]]:
    """Return the keys that each table of an undamaged database has."""
    connection = apsw.Connection(str(file))
    found = {}
    tables = "SELECT name, wr FROM pragma_table_list WHERE type = 'table' AND schema = 'main'"
    for name, without_rowid in connection.execute(tables).fetchall():
        if name == "meta" or str(name).startswith("sqlite_"):
            continue
        key = "rowid"
        if without_rowid:
            columns = connection.execute("SELECT name FROM pragma_table_info(?) WHERE pk > 0 ORDER BY pk", (name,))
            key = ", ".join(str(column) for (column,) in columns.fetchall())
        found[str(name)] = {tuple(row) for row in connection.execute(f'SELECT {key} FROM "{name}"')}  # noqa: S608 - names of the schema
    connection.close()
    return found


def spoil_a_page(content: bytearray, random: Random) -> None:
    page = random.randrange(1, len(content) // PAGE)
    content[page * PAGE : (page + 1) * PAGE] = random.randbytes(PAGE)


def clear_a_page(content: bytearray, random: Random) -> None:
    page = random.randrange(1, len(content) // PAGE)
    content[page * PAGE : (page + 1) * PAGE] = bytes(PAGE)


def flip_a_page_header(content: bytearray, random: Random) -> None:
    page = random.randrange(1, len(content) // PAGE)
    content[page * PAGE + random.randrange(12)] ^= 1 << random.randrange(8)


def spoil_many_pages(content: bytearray, random: Random) -> None:
    for _ in range(8):
        spoil_a_page(content, random)


def cut_the_tail(content: bytearray, random: Random) -> None:
    del content[random.randrange(2, len(content) // PAGE) * PAGE :]


DAMAGES: dict[str, Damage] = {
    function.__name__: function
    for function in (spoil_a_page, clear_a_page, flip_a_page_header, spoil_many_pages, cut_the_tail)
}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store that was filled and closed."""
    folder = tmp_path_factory.mktemp("original")
    asyncio.run(filled(folder))
    return folder


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
async def test_no_more_is_lost_than_a_salvage_says(tmp_path: Path, original: Path, damage: Damage) -> None:
    before = rows(original / FILE)
    content = (original / FILE).read_bytes()
    bounded = 0
    for seed in SEEDS:
        folder = tmp_path / str(seed)
        folder.mkdir()
        spoiled = bytearray(content)
        damage(spoiled, Random(seed))  # noqa: S311 - a seed makes a failure repeatable
        (folder / FILE).write_bytes(spoiled)
        (folder / f"{FILE}.suspect").touch()
        async with opened(folder) as store:
            assert store.recovered is not None
            said = store.recovered
        after = rows(folder / FILE)
        lost = {table: len(keys - after[table]) for table, keys in before.items()}
        if said.is_unknown:
            continue
        bounded += 1
        for table, number in lost.items():
            assert number <= said.lost[table], (seed, table)
        most = sum(number for table, number in said.lost.items() if table not in BOUNDED_BY_A_CONSTANT)
        assert most <= 2 * sum(lost.values()) + 50, (seed, said.lost)
    assert bounded >= len(SEEDS) // 2 or damage in (cut_the_tail, spoil_many_pages)


def test_an_exact_count_tells_of_cells_that_vanished_without_an_error() -> None:
    copied = {"outbox_urgent": Copied(kept=90), "outbox_counter": Copied(kept=9)}
    exact = Count("outbox_urgent", 100, is_exact=True, basis="outbox_counter")
    assert losses(copied, [exact]) == ({"outbox_urgent": 10, "outbox_counter": 0}, False)


def test_a_count_is_not_believed_when_its_own_table_is_damaged_or_it_is_too_small() -> None:
    exact = Count("outbox_urgent", 100, is_exact=True, basis="outbox_counter")
    doubtful = {"outbox_urgent": Copied(kept=90, lost=1, is_whole=False), "outbox_counter": Copied(is_whole=False)}
    assert losses(doubtful, [exact])[1]
    too_few = {"outbox_urgent": Copied(kept=101, lost=1, is_whole=False), "outbox_counter": Copied()}
    assert losses(too_few, [exact])[1]


def test_numbers_bound_what_a_damaged_table_lost_and_without_any_nobody_knows() -> None:
    bounded = {"device": Copied(kept=7, lost=1, is_whole=False, highest=9)}
    assert losses(bounded, []) == ({"device": 2}, False)
    unknown = {"alert": Copied(kept=7, lost=1, is_whole=False)}
    assert losses(unknown, []) == ({"alert": 1}, True)
