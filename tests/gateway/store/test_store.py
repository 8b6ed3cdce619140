"""The guarantees of the store, on a real disk."""

import asyncio
import os
import signal
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from process_cosmos_gateway.errors import StoreError
from process_cosmos_gateway.store import Store, Transaction, schema
from process_cosmos_gateway.store.backup import make_backup
from process_cosmos_gateway.store.opening import prepare

from .parts import SyncCountingVfs, new_ulids, opened

WITHIN = 20
"""Seconds any wait here may take."""


def note(name: str, value: int = 1) -> Callable[[Transaction], int]:
    def change(transaction: Transaction) -> int:
        return transaction.run("INSERT OR REPLACE INTO outbox_counter VALUES (?, ?)", name, value)

    return change


def notes(transaction: Transaction) -> set[str]:
    return {name for (name,) in transaction.rows("SELECT name FROM outbox_counter WHERE name LIKE 'note%'")}


async def test_site_and_epoch_are_created_once(tmp_path: Path) -> None:
    async with opened(tmp_path / "data") as store:
        first = store.site, store.epoch
    async with opened(tmp_path / "data") as store:
        assert (store.site, store.epoch) == first
    assert first[0] != first[1]


@pytest.mark.parametrize(
    ("name", "deleted"),
    [(schema.FILE, []), ("backup/store.sqlite", [schema.FILE]), ("site", [schema.FILE, "backup/store.sqlite"])],
)
async def test_a_file_is_not_created_again_if_its_existence_is_unknown(
    tmp_path: Path, name: str, deleted: list[str]
) -> None:
    async with opened(tmp_path) as store:
        make_backup(tmp_path)
        site = store.site
    for other in deleted:
        (tmp_path / other).unlink()
    file = tmp_path / name
    aside = file.rename(tmp_path / "aside")
    file.symlink_to(file)  # a symbolic link to itself
    with pytest.raises(StoreError, match="cannot be opened"):
        await Store.open(tmp_path, new_ulids())
    assert file.is_symlink()
    aside.rename(file)
    async with opened(tmp_path) as store:
        assert store.site == site
        assert (store.recovered is None) == (name != "site")


async def test_only_the_owner_may_read_the_data(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o755)
    async with opened(tmp_path / "data") as store:
        await store.write(note("note"))
        assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700
        files = list((tmp_path / "data").iterdir())
        assert len(files) == 4  # the database, its log, its index, the site
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


async def test_all_waiting_writes_share_one_fsync(tmp_path: Path, vfs: SyncCountingVfs) -> None:
    async with opened(tmp_path, vfs="sync_counting") as store:
        await store.write(note("note"))
        before = vfs.syncs
        await asyncio.gather(*(store.write(note(f"note{number}")) for number in range(64)))
        assert vfs.syncs - before == 1
        assert len(await store.read(notes)) == 65


async def test_an_exception_undoes_only_its_own_change(tmp_path: Path) -> None:
    def broken(transaction: Transaction) -> None:
        note("note of the broken")(transaction)
        raise ValueError("broken")

    async with opened(tmp_path) as store:
        results = await asyncio.gather(
            store.write(note("note1")),
            store.write(broken),
            store.write(lambda transaction: transaction.run("INSERT INTO nowhere VALUES (1)")),
            store.write(note("note2")),
            return_exceptions=True,
        )
        assert results[0] == results[3] == 1
        assert isinstance(results[1], ValueError)
        assert isinstance(results[2], apsw.SQLError)
        assert await store.read(notes) == {"note1", "note2"}


async def test_a_failed_fsync_fails_the_whole_batch_and_the_next_write_uses_a_new_connection(
    tmp_path: Path, vfs: SyncCountingVfs
) -> None:
    async with opened(tmp_path, vfs="sync_counting") as store:
        await store.write(note("note before"))
        called = []

        def change(transaction: Transaction) -> None:
            note("note lost")(transaction)
            transaction.after_commit(lambda: called.append("lost"))

        vfs.fail_next_syncs = 1
        results = await asyncio.gather(store.write(change), store.write(note("note lost too")), return_exceptions=True)
        assert [type(result) for result in results] == [StoreError, StoreError]
        assert vfs.fail_next_syncs == 0
        assert called == []
        await store.write(note("note after"))
        assert await store.read(notes) == {"note before", "note after"}
    async with opened(tmp_path) as store:
        assert await store.read(notes) == {"note before", "note after"}


async def test_callbacks_run_in_the_event_loop_after_the_commit(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        seen: asyncio.Queue[int] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def change(transaction: Transaction) -> None:
            note("note")(transaction)
            transaction.after_commit(lambda: seen.put_nowait(asyncio.get_running_loop() is loop))

        await store.write(change)
        assert await seen.get()


async def test_a_failing_callback_affects_no_other_write(tmp_path: Path) -> None:
    def fail() -> None:
        raise ValueError("the callback failed")

    def change(transaction: Transaction) -> None:
        note("note")(transaction)
        transaction.after_commit(fail)

    raised: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context["exception"]))
    async with opened(tmp_path) as store:
        await asyncio.gather(store.write(change), store.write(note("note beside it")))
        await store.write(note("note after"))
        assert await store.read(notes) == {"note", "note beside it", "note after"}
    assert [type(error) for error in raised] == [ValueError]


async def test_cancelling_the_caller_does_not_undo_the_write(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        task = asyncio.create_task(store.write(note("note")))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await store.write(note("note after"))
        assert await store.read(notes) == {"note", "note after"}


async def test_closing_commits_waiting_writes_and_refuses_later_ones(tmp_path: Path) -> None:
    store = await Store.open(tmp_path, new_ulids())
    writes = [asyncio.create_task(store.write(note(f"note{number}"))) for number in range(100)]
    await asyncio.sleep(0)
    await store.close()
    assert await asyncio.gather(*writes) == [1] * 100
    with pytest.raises(StoreError):
        await store.write(note("too late"))
    async with opened(tmp_path) as store:
        assert len(await store.read(notes)) == 100


async def test_a_read_cannot_change_anything(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        with pytest.raises(StoreError):
            await store.read(note("note"))
        assert await store.read(notes) == set()


def test_migrations_run_in_order_and_once(tmp_path: Path) -> None:
    path = tmp_path / "gateway.sqlite"
    prepare(path, new_ulids(), None)
    migrations = [*schema.MIGRATIONS, "CREATE TABLE next (value)", "CREATE TABLE next_but_one (value)"]
    prepare(path, new_ulids(), None, migrations)
    prepare(path, new_ulids(), None, migrations)
    connection = schema.connect(path, None, read_only=True)
    assert connection.execute("SELECT value FROM meta WHERE key = 'schema'").get == schema.NEWEST + 2
    assert connection.execute("SELECT count(*) FROM next, next_but_one").get == 0
    connection.close()


def test_a_failing_migration_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "gateway.sqlite"
    prepare(path, new_ulids(), None)
    broken = "CREATE TABLE next (value); INSERT INTO nowhere VALUES (1)"
    with pytest.raises(apsw.SQLError):
        prepare(path, new_ulids(), None, [*schema.MIGRATIONS, broken])
    connection = schema.connect(path, None, read_only=True)
    assert connection.execute("SELECT value FROM meta WHERE key = 'schema'").get == schema.NEWEST
    assert connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'next'").get == 0
    connection.close()


async def test_an_unusable_folder_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file")
    with pytest.raises(StoreError):
        await Store.open(tmp_path / "file", new_ulids())


async def test_an_interrupted_first_start_begins_again(tmp_path: Path) -> None:
    (tmp_path / "gateway.sqlite.new").write_bytes(b"half a database")
    async with opened(tmp_path) as store:
        assert await store.write(note("note")) == 1


CHILD = """
import asyncio, sys
from pathlib import Path
from tests.gateway.store.parts import opened

async def main():
    async with opened(Path(sys.argv[1])) as store:
        async def produce(producer):
            for number in range(1_000_000):
                name = f"note {producer} {number}"
                await store.write(lambda transaction: transaction.run("INSERT INTO outbox_counter VALUES (?, 1)", name))
                print(name, flush=True)
        await asyncio.gather(*map(produce, range(4)))

asyncio.run(main())
"""


@pytest.mark.parametrize("after", [1, 50, 333])
async def test_a_kill_loses_no_acknowledged_write(tmp_path: Path, after: int) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CHILD, str(tmp_path), stdout=asyncio.subprocess.PIPE, env={**os.environ}
    )
    assert process.stdout is not None
    acknowledged = set()
    async with asyncio.timeout(WITHIN):
        for _ in range(after):
            acknowledged.add((await process.stdout.readline()).decode().strip())
        process.send_signal(signal.SIGKILL)
        acknowledged |= {line.decode().strip() async for line in process.stdout if line.endswith(b"\n")}
        assert await process.wait() == -signal.SIGKILL
    async with opened(tmp_path) as store:
        assert acknowledged <= await store.read(notes)
    assert len(acknowledged) >= after
