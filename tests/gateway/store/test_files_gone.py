"""Deleting or replacing files of the open database is detected, and no acknowledged write is lost."""

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from process_cosmos_gateway.errors import StoreError
from process_cosmos_gateway.store import StorageState, Store, Transaction
from process_cosmos_gateway.store.errors import StoreFilesGoneError

from .parts import opened

WITHIN = 20
FILE = "gateway.sqlite"


def note(number: int) -> Callable[[Transaction], int]:
    return lambda transaction: transaction.run("INSERT INTO meta VALUES (?, 1)", f"note {number}")


def notes(transaction: Transaction) -> set[int]:
    found = transaction.rows("SELECT key FROM meta WHERE key LIKE 'note %'")
    return {int(key.removeprefix("note ")) for (key,) in found}


def replace_with_another(folder: Path) -> None:
    (folder / "other").write_bytes(b"another file")
    (folder / "other").rename(folder / FILE)


def move_away(folder: Path) -> None:
    (folder / FILE).rename(folder / "moved")


def delete(*names: str) -> Callable[[Path], None]:
    def do(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return do


def put_a_copy_in_place(folder: Path) -> None:
    shutil.copy(folder / FILE, folder / "copy")
    (folder / "copy").rename(folder / FILE)


STRIKES: dict[str, Callable[[Path], None]] = {
    "the database deleted": delete(FILE),
    "the log deleted": delete(f"{FILE}-wal"),
    "all deleted": delete(FILE, f"{FILE}-wal", f"{FILE}-shm"),
    "the shared memory deleted": delete(f"{FILE}-shm"),
    "the database moved away": move_away,
    "the database replaced": replace_with_another,
    "a copy in its place": put_a_copy_in_place,
    "the folder deleted": shutil.rmtree,
}


async def until_noticed(store: Store) -> None:
    async with asyncio.timeout(WITHIN):
        with pytest.raises(StoreFilesGoneError) as raised:
            await store.run()
    assert raised.value.code == "store_files_gone"
    assert store.health.state is StorageState.FAILING
    assert str(store.health.reason).startswith("store_files_gone: gateway.sqlite")


async def test_a_deletion_is_noticed_while_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("process_cosmos_gateway.store.store._UPKEEP_SECONDS", 0.01)
    monkeypatch.setattr("process_cosmos_gateway.store.store._IDLE_SECONDS", 0.05)
    async with opened(tmp_path) as store:
        running = asyncio.create_task(store.run())
        written = store.watch_writes()
        while written.is_set() or not (tmp_path / "ballast").exists():
            written.clear()
            await asyncio.sleep(0.1)
        (tmp_path / FILE).unlink()
        async with asyncio.timeout(WITHIN):
            with pytest.raises(StoreFilesGoneError):
                await running
        assert not written.is_set()


async def test_writes_are_announced_also_when_they_fail(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        written = store.watch_writes()
        await store.read(notes)
        assert not written.is_set()
        await store.write(note(1))
        assert written.is_set()
        written.clear()
        (tmp_path / FILE).unlink()
        with pytest.raises(StoreError):
            await store.write(note(2))
        assert written.is_set()


@pytest.mark.parametrize("strike", STRIKES.values(), ids=STRIKES)
async def test_acknowledged_writes_survive_the_deletion_of_the_files(
    tmp_path: Path, strike: Callable[[Path], None]
) -> None:
    folder = tmp_path / "data"
    async with opened(folder) as store:
        identity = store.site, store.epoch
        for number in range(50):
            await store.write(note(number))
        strike(folder)
        with pytest.raises(StoreError, match="store_files_gone"):
            await store.write(note(50))
        await until_noticed(store)
        with pytest.raises(StoreError, match="store_files_gone"):
            await store.write(note(51))
    async with opened(folder) as store:
        assert await store.read(notes) >= set(range(50))
        assert 51 not in await store.read(notes)
        assert (store.site, store.epoch) == identity
        assert store.recovered is not None
        assert (sum(store.recovered.lost.values()), store.recovered.is_unknown) == (0, False)
        await store.write(note(52))


async def test_closing_right_after_the_deletion_saves_the_content_too(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.write(note(1))
        (tmp_path / FILE).unlink()
    async with opened(tmp_path) as store:
        assert await store.read(notes) == {1}


async def test_the_content_is_saved_through_the_readers_handle_if_the_writer_has_none(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.write(note(1))
        await store.read(notes)
        await store._writer.borrow(lambda _: store._writer._disconnect())
        (tmp_path / FILE).unlink()
        await until_noticed(store)
    async with opened(tmp_path) as store:
        assert await store.read(notes) == {1}


async def test_a_file_that_replaced_the_database_is_kept_beside_it(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        replace_with_another(tmp_path)
        await until_noticed(store)
    [beside] = tmp_path.glob(f"{FILE}.damaged-*")
    assert beside.read_bytes() == b"another file"


@pytest.mark.parametrize("whole", [True, False])
async def test_a_kill_while_the_content_is_saved_keeps_the_part_written_by_then(tmp_path: Path, *, whole: bool) -> None:
    async with opened(tmp_path) as store:
        site = store.site
        await store.write(note(1))
    content = (tmp_path / FILE).read_bytes()
    (tmp_path / f"{FILE}.rescued").write_bytes(content if whole else content[: len(content) // 2])
    (tmp_path / FILE).unlink()
    async with opened(tmp_path) as store:
        assert store.site == site
        assert store.recovered is not None
        assert (await store.read(notes) == {1}) is whole
    assert not (tmp_path / f"{FILE}.rescued").exists()


async def test_a_database_missing_at_the_start_is_reported_as_lost(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(tmp_path) as store:
        assert store.recovered is None
        site, epoch = store.site, store.epoch
    (tmp_path / FILE).unlink()
    (tmp_path / f"{FILE}-wal").write_bytes(b"what was written last")
    async with opened(tmp_path) as store:
        assert (store.site == site, store.epoch == epoch) == (True, False)
        assert store.recovered is not None
        assert store.recovered.is_unknown
    assert "store_files_gone" in caplog.text
    [log] = tmp_path.glob(f"{FILE}.damaged-*-wal")
    assert log.read_bytes() == b"what was written last"


async def test_normal_operation_is_not_mistaken_for_a_deletion(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        running = asyncio.create_task(store.run())
        for number in range(300):
            await store.write(note(number))
        await store.return_free_pages()
        await store._writer.borrow(lambda _: store._writer._disconnect())
        await store._reader.borrow(lambda _: store._reader._disconnect())
        await store.return_free_pages()
        await store.write(note(300))
        assert not running.done()
        assert store.health.state is StorageState.OK
        running.cancel()
