"""The readable rows of a damaged database are recovered, and the lost ones are counted."""

import asyncio
from functools import partial
from pathlib import Path

import apsw
import pytest

from process_cosmos_gateway.store import Store, Transaction, schema
from process_cosmos_gateway.store.errors import StoreDamagedError
from process_cosmos_gateway.store.opening import prepare
from process_cosmos_gateway.store.recovery import finish_recovery

from . import test_migrations
from .parts import new_ulids, opened

PAGE = 4096
EVENTS = 3_000
WITHIN = 20


def add_urgent(transaction: Transaction) -> None:
    transaction.run_many(
        "INSERT INTO outbox_urgent (id, type, kind, subject, key, accepted_at, checksum, body) "
        "VALUES (?, 't', 'k', 's', 'k', 1, 0, ?)",
        ((f"event {number:06}", b"%06d" % number * 50) for number in range(EVENTS)),
    )
    transaction.run("UPDATE outbox_counter SET value = value + ? WHERE name = 'urgent'", EVENTS)


def read_urgent(transaction: Transaction) -> list[tuple[int, str, bytes]]:
    rows = transaction.rows("SELECT sequence, id, body FROM outbox_urgent ORDER BY sequence")
    return [(row[0], row[1], row[2]) for row in rows]


def delete_urgent(number: int, transaction: Transaction) -> None:
    transaction.run("DELETE FROM outbox_urgent WHERE sequence = ?", number)


def waiting(transaction: Transaction) -> int:
    return int(transaction.rows("SELECT value FROM outbox_counter WHERE name = 'urgent'")[0][0])


async def filled(folder: Path) -> tuple[str, str]:
    async with opened(folder) as store:
        await store.write(add_urgent)
        return store.site, store.epoch


def pages(folder: Path, name: str, kind: str) -> list[int]:
    connection = apsw.Connection(str(folder / "gateway.sqlite"))
    found = connection.execute("SELECT pageno FROM dbstat WHERE name = ? AND pagetype = ?", (name, kind)).fetchall()
    connection.close()
    return [int(str(number)) for (number,) in found]


def spoil(file: Path, offset: int, content: bytes = b"\xff" * PAGE) -> None:
    with file.open("r+b") as opened_file:
        opened_file.seek(offset)
        opened_file.write(content)


def suspect(folder: Path) -> None:
    """Request a recovery, as a running store does when it cannot read a page."""
    (folder / "gateway.sqlite.suspect").touch()


def damaged(folder: Path) -> list[Path]:
    return [path for path in folder.glob("gateway.sqlite.damaged-*") if not path.name.endswith("-wal")]


async def check_kept(store: Store, at_least: int) -> None:
    rows = await store.read(read_urgent)
    assert all(body == b"%06d" % (sequence - 1) * 50 for sequence, _, body in rows)
    assert EVENTS > len(rows) >= at_least
    assert await store.read(waiting) == len(rows)
    assert store.recovered is not None
    assert store.recovered.kept["outbox_urgent"] == len(rows)
    assert store.recovered.lost["outbox_urgent"] >= EVENTS - len(rows)


@pytest.mark.parametrize("number", [0, 1, 7, 50, -1])
async def test_a_damaged_leaf_page_loses_only_its_own_rows(tmp_path: Path, number: int) -> None:
    site, epoch = await filled(tmp_path)
    leaves = pages(tmp_path, "outbox_urgent", "leaf")
    assert len(leaves) > 100
    spoil(tmp_path / "gateway.sqlite", (leaves[number] - 1) * PAGE)
    suspect(tmp_path)
    async with opened(tmp_path) as store:
        rows = await store.read(read_urgent)
        await check_kept(store, EVENTS - 15)
        assert store.recovered is not None
        assert EVENTS - len(rows) == store.recovered.lost["outbox_urgent"]
        assert store.site == site
        assert store.epoch != epoch
    assert len(damaged(tmp_path)) == 1


async def test_rows_deleted_before_the_damage_are_not_counted_as_lost(tmp_path: Path) -> None:
    await filled(tmp_path)
    left = EVENTS - 100

    def settle(transaction: Transaction) -> None:
        transaction.run("DELETE FROM outbox_urgent WHERE sequence <= ?", left)
        transaction.run("UPDATE outbox_counter SET value = value - ? WHERE name = 'urgent'", left)

    async with opened(tmp_path) as store:
        await store.write(settle)
    spoil(tmp_path / "gateway.sqlite", (pages(tmp_path, "outbox_urgent", "leaf")[0] - 1) * PAGE)
    suspect(tmp_path)
    async with opened(tmp_path) as store:
        rows = await store.read(read_urgent)
        assert 80 < len(rows) < 100
        assert store.recovered is not None
        assert store.recovered.lost["outbox_urgent"] == 100 - len(rows)


async def test_quarantined_rows_deleted_long_ago_are_not_counted_as_lost(tmp_path: Path) -> None:
    def fill_quarantine(transaction: Transaction) -> None:
        transaction.run_many(
            "INSERT INTO quarantine VALUES (?, 'outbox_urgent', ?, 1)",
            ((10_000_000 + number, b"x" * 18) for number in range(1_000)),
        )

    async with opened(tmp_path) as store:
        await store.write(fill_quarantine)
    spoil(tmp_path / "gateway.sqlite", (pages(tmp_path, "quarantine", "leaf")[0] - 1) * PAGE)
    suspect(tmp_path)
    async with opened(tmp_path) as store:
        assert store.recovered is not None
        assert 0 < store.recovered.lost["quarantine"] < 1_000


async def test_damage_to_the_last_page_of_a_table_is_found_at_the_open(tmp_path: Path) -> None:
    await filled(tmp_path)
    spoil(tmp_path / "gateway.sqlite", (pages(tmp_path, "outbox_urgent", "leaf")[-1] - 1) * PAGE)
    async with opened(tmp_path) as store:
        await check_kept(store, EVENTS - 15)


async def test_the_losses_of_a_damaged_interior_page_are_counted(tmp_path: Path) -> None:
    await filled(tmp_path)
    spoil(tmp_path / "gateway.sqlite", (pages(tmp_path, "outbox_urgent", "internal")[0] - 1) * PAGE)
    suspect(tmp_path)
    async with opened(tmp_path) as store:
        rows = await store.read(read_urgent)
        assert store.recovered is not None
        assert store.recovered.lost["outbox_urgent"] >= EVENTS - len(rows)
        await store.write(add_urgent)
        newest = (await store.read(read_urgent))[-1][0]
        assert newest == 2 * EVENTS  # numbers are not reused


async def test_a_truncated_file_loses_only_the_missing_pages(tmp_path: Path) -> None:
    await filled(tmp_path)
    file = tmp_path / "gateway.sqlite"
    with file.open("r+b") as opened_file:
        opened_file.truncate(file.stat().st_size // PAGE * 3 // 4 * PAGE)
    async with opened(tmp_path) as store:
        await check_kept(store, EVENTS // 2)


@pytest.mark.parametrize("offset", [0, 5, 16, 17, 18, 19, 21, 22, 23, 44, 47, 56, 59])
async def test_a_flipped_bit_in_the_header_loses_no_row(tmp_path: Path, offset: int) -> None:
    site, _ = await filled(tmp_path)
    before = (tmp_path / "gateway.sqlite").read_bytes()[offset]
    spoil(tmp_path / "gateway.sqlite", offset, bytes([before ^ 0x80]))
    async with opened(tmp_path) as store:
        assert len(await store.read(read_urgent)) == EVENTS
        assert store.site == site


async def test_a_damaged_index_is_rebuilt(tmp_path: Path) -> None:
    await filled(tmp_path)
    async with opened(tmp_path) as store:
        await store.write(lambda t: t.run("UPDATE outbox_urgent SET only_for = 'cloud' WHERE sequence % 2"))
    for page in pages(tmp_path, "outbox_urgent_only", "leaf"):
        spoil(tmp_path / "gateway.sqlite", (page - 1) * PAGE)
    suspect(tmp_path)
    async with opened(tmp_path) as store:
        [(found,)] = await store.read(
            lambda t: t.rows("SELECT count(*) FROM outbox_urgent INDEXED BY outbox_urgent_only WHERE only_for NOTNULL")
        )
        assert found == EVENTS // 2


@pytest.mark.parametrize("content", [b"", b"no database " * 1000, b"SQLite format 3\0" + bytes(4080)], ids=range(3))
async def test_an_overwritten_file_is_kept_aside_and_the_site_stays_the_same(tmp_path: Path, content: bytes) -> None:
    site, epoch = await filled(tmp_path)
    (tmp_path / "gateway.sqlite").write_bytes(content)
    async with opened(tmp_path) as store:
        assert store.site == site
        assert store.epoch != epoch
        await store.write(add_urgent)
    [aside] = damaged(tmp_path)
    assert aside.read_bytes() == content


async def test_a_database_without_a_version_is_kept_aside(tmp_path: Path) -> None:
    connection = apsw.Connection(str(tmp_path / "gateway.sqlite"))
    connection.execute("CREATE TABLE meta (key, value)")
    connection.close()
    async with opened(tmp_path) as store:
        await store.write(add_urgent)
        assert store.recovered is not None
    assert len(damaged(tmp_path)) == 1


def copied(folder: Path, *names: str) -> Path:
    """Copy some files of an open store to a new folder, as a kill would leave them; return the folder."""
    copy = folder / "copy"
    copy.mkdir()
    for name in names:
        (copy / name).write_bytes((folder / name).read_bytes())
    return copy


async def test_a_database_without_its_log_begins_a_new_epoch_at_the_last_checkpoint(tmp_path: Path) -> None:
    site, epoch = await filled(tmp_path)
    async with opened(tmp_path) as store:
        await store.write(partial(delete_urgent, 1))
        copy = copied(tmp_path, "gateway.sqlite")
    async with opened(copy) as store:
        assert len(await store.read(read_urgent)) == EVENTS
        assert (store.site == site, store.epoch == epoch) == (True, False)
        assert store.recovered is not None
        assert store.recovered.lost["log"] == 1
    async with opened(copy) as store:
        assert len(damaged(copy)) == 1, "once"


async def test_an_empty_log_is_treated_as_lost(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.write(add_urgent)
        copy = copied(tmp_path, "gateway.sqlite", "gateway.sqlite-wal")
    (copy / "gateway.sqlite-wal").write_bytes(b"")
    async with opened(copy) as store:
        assert store.recovered is not None


@pytest.mark.parametrize("moment", ["opened", "written", "given back", "closed"])
async def test_a_kill_or_a_stop_loses_no_log(tmp_path: Path, moment: str) -> None:
    async with opened(tmp_path) as store:
        epoch = store.epoch
        if moment != "opened":
            await store.write(add_urgent)
        if moment == "given back":
            await store.return_free_pages()
        copy = copied(tmp_path, "gateway.sqlite", "gateway.sqlite-wal")
    if moment == "closed":
        copy = tmp_path
        assert not (tmp_path / "gateway.sqlite-wal").exists()
    async with opened(copy) as store:
        assert (store.epoch, store.recovered) == (epoch, None)
        assert len(await store.read(read_urgent)) == (0 if moment == "opened" else EVENTS)


async def test_damaged_files_of_the_newest_two_recoveries_are_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await filled(tmp_path)
    epochs = []
    for _ in range(3):
        suspect(tmp_path)
        async with opened(tmp_path) as store:
            epochs.append(store.epoch)
    assert sorted(file.name[-26:] for file in damaged(tmp_path)) == epochs[1:]
    assert f"Removing {tmp_path}/gateway.sqlite.damaged-{epochs[0]}" in caplog.text


async def test_the_newest_damaged_files_are_kept_even_if_the_clock_went_back(tmp_path: Path) -> None:
    await filled(tmp_path)
    for year in ("7", "6"):
        (tmp_path / f"gateway.sqlite.damaged-{year}{'0' * 25}").touch()
    suspect(tmp_path)
    async with opened(tmp_path) as store:
        assert {file.name[-26:] for file in damaged(tmp_path)} == {store.epoch, "7" + "0" * 25}


async def test_an_invalid_text_loses_only_its_own_row(tmp_path: Path) -> None:
    await filled(tmp_path)
    async with opened(tmp_path) as store:
        await store.write(
            lambda t: t.run("UPDATE outbox_urgent SET subject = CAST(x'ff41' AS TEXT) WHERE sequence = 700")
        )
        with pytest.raises(StoreDamagedError):
            await store.read(lambda transaction: transaction.rows("SELECT subject FROM outbox_urgent"))
    async with opened(tmp_path) as store:
        assert 700 not in {row[0] for row in await store.read(read_urgent)}
        await check_kept(store, EVENTS - 1)


async def test_a_flipped_bit_in_the_log_loses_only_the_commits_from_there_on(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.write(add_urgent)
        for number in range(1, 9):
            await store.write(partial(delete_urgent, number))
        copy = copied(tmp_path, "gateway.sqlite", "gateway.sqlite-wal")
    log = copy / "gateway.sqlite-wal"
    at = log.stat().st_size - PAGE
    spoil(log, at, bytes([log.read_bytes()[at] ^ 1]))
    async with opened(copy) as store:
        rows = await store.read(read_urgent)
        assert len(rows) == EVENTS - 7


async def test_damage_found_later_ends_the_run_and_the_next_open_recovers(tmp_path: Path) -> None:
    await filled(tmp_path)
    spoil(tmp_path / "gateway.sqlite", (pages(tmp_path, "outbox_urgent", "leaf")[50] - 1) * PAGE)
    async with opened(tmp_path) as store:
        assert store.recovered is None
        with pytest.raises(StoreDamagedError):
            await store.read(read_urgent)
        async with asyncio.timeout(WITHIN):
            with pytest.raises(StoreDamagedError) as damage:
                await store.run()
        assert damage.value.code == "store_damaged"
        assert store.health.state == "failing"
    async with opened(tmp_path) as store:
        await check_kept(store, EVENTS - 15)


async def test_a_recovery_is_recorded_and_happens_once(tmp_path: Path) -> None:
    await filled(tmp_path)
    suspect(tmp_path)
    async with opened(tmp_path) as store:
        first = store.recovered, store.epoch
    async with opened(tmp_path) as store:
        assert (store.recovered, store.epoch) == first
    assert len(damaged(tmp_path)) == 1


@pytest.mark.parametrize("moved", [[], ["-wal"], ["-wal", ""]], ids=["nothing", "the log", "both"])
async def test_a_recovery_killed_between_its_renames_is_completed(tmp_path: Path, moved: list[str]) -> None:
    await filled(tmp_path)
    path = tmp_path / "gateway.sqlite"
    (tmp_path / "gateway.sqlite-wal").write_bytes(b"an old log")
    epoch = new_ulids()()
    async with opened(tmp_path / "other") as other:
        await other.write(add_urgent)
        site = other.site
    (tmp_path / "other/gateway.sqlite").rename(tmp_path / f"gateway.sqlite.recovered-{epoch}")
    for rest in moved:
        (tmp_path / f"gateway.sqlite{rest}").rename(tmp_path / f"gateway.sqlite.damaged-{epoch}{rest}")
    finish_recovery(path)
    assert (tmp_path / f"gateway.sqlite.damaged-{epoch}").exists()
    assert not (tmp_path / "gateway.sqlite-wal").exists()
    async with opened(tmp_path) as store:
        assert store.site == site


def test_an_older_database_is_recovered_and_then_migrated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / schema.FILE
    test_migrations.make_version_1(path)
    suspect(tmp_path)
    monkeypatch.setattr(schema, "NEWEST", 2)
    prepare(path, new_ulids(), None, [test_migrations.MIGRATION])
    assert len(damaged(tmp_path)) == 1
    waiting = test_migrations.rows(path, "SELECT id, subject, origin FROM outbox_urgent ORDER BY sequence")
    assert waiting == [(f"event {number}", "site/boiler", "site") for number in range(3)]
    assert test_migrations.version(path) == 2


async def test_rows_with_text_keys_are_recovered_on_both_sides_of_a_damaged_page(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        names = [(f"{number:06}", b"12345678") for number in range(5_000)]
        await store.write(lambda t: t.run_many("INSERT INTO outbox_id VALUES (?, ?, 1)", names))
        await store.write(lambda t: t.run("UPDATE outbox_counter SET value = 5000 WHERE name = 'id'"))
    leaves = pages(tmp_path, "outbox_id", "leaf")
    for number in (len(leaves) // 3, len(leaves) // 2):
        spoil(tmp_path / "gateway.sqlite", (leaves[number] - 1) * PAGE)
    suspect(tmp_path)
    async with opened(tmp_path) as store:
        assert store.recovered is not None
        assert 4_999 > store.recovered.kept["outbox_id"] > 4_500
        assert store.recovered.lost["outbox_id"] == 5_000 - store.recovered.kept["outbox_id"]


async def test_the_check_at_the_open_does_not_depend_on_the_size(tmp_path: Path) -> None:
    await filled(tmp_path)
    loop = asyncio.get_running_loop()
    began = loop.time()
    await asyncio.to_thread(prepare, tmp_path / "gateway.sqlite", new_ulids(), None)
    assert loop.time() - began < 0.5
