"""A disk that is full, read-only or failing is a state with a way out."""

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import apsw
import pytest

from process_cosmos_gateway.errors import StartError, StoreError
from process_cosmos_gateway.store import StorageState, Store, Transaction
from process_cosmos_gateway.store.health import is_damage
from tests.support.waiting import until

from .parts import SyncCountingVfs, new_ulids, opened

WITHIN = 20
MB = 1024 * 1024


def remount(disk: Path, how: str) -> None:
    subprocess.run([str(shutil.which("mount")), "-o", f"remount,bind,{how}", str(disk)], check=True)


def urgent(number: int, size: int = 1000) -> Callable[[Transaction], int]:
    def change(transaction: Transaction) -> int:
        columns = "id, type, kind, subject, key, accepted_at, checksum, body"
        sql = f"INSERT INTO outbox_urgent ({columns}) VALUES (?, '', '', '', '', 1, 0, ?)"  # noqa: S608 - names from above
        return transaction.run(sql, f"event {number}", bytes(size))

    return change


def count(transaction: Transaction) -> int:
    return int(transaction.rows("SELECT count(*) FROM outbox_urgent")[0][0])


@asynccontextmanager
async def running(store: Store) -> AsyncIterator[None]:
    task = asyncio.create_task(store.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def fill(disk: Path) -> Path:
    """Fill the disk, as another process would."""
    file = disk / "other"
    with file.open("wb", buffering=0) as opened_file, suppress(OSError):
        while opened_file.write(bytes(4096)):
            pass
    return file


async def test_urgent_events_are_accepted_on_a_full_disk_by_deleting_the_ballast(small_disk: Path) -> None:
    folder = small_disk / "data"
    store = await Store.open(folder, new_ulids(), reserve=4 * MB)
    try:
        async with running(store):
            await until(lambda: store.space.ballast == 4 * MB)
            assert await store.write(urgent(0)) == 1
            other = fill(small_disk)
            for number in range(1, 200):
                assert await store.write(urgent(number, 4000)) == 1
            assert store.health.state is StorageState.FULL
            assert store.space.ballast == 0
            other.unlink()
            await until(lambda: store.health.state is StorageState.OK)
            assert store.space.ballast == 4 * MB
        assert await store.read(count) == 200
    finally:
        await store.close()


async def test_a_write_fails_and_loses_nothing_once_the_ballast_is_used_up(small_disk: Path) -> None:
    store = await Store.open(small_disk / "data", new_ulids(), reserve=1 * MB)
    try:
        async with running(store):
            await until(lambda: store.space.ballast == 1 * MB)
            other = fill(small_disk)
            accepted = 0
            with suppress(StoreError):
                while accepted < 100:
                    accepted += await store.write(urgent(accepted, 100_000))
            assert 2 < accepted < 100
            assert store.health.state is StorageState.FULL
            assert store.health.reason
            assert await store.read(count) == accepted
            other.unlink()
            await until(lambda: store.health.state is StorageState.OK)
            assert await store.write(urgent(accepted)) == 1
    finally:
        await store.close()


async def test_a_disk_that_turns_read_only_is_retried_until_it_is_writable(
    small_disk: Path, vfs: SyncCountingVfs
) -> None:
    store = await Store.open(small_disk, new_ulids(), vfs="sync_counting")
    try:
        async with running(store):
            await store.write(urgent(0))
            vfs.refuse = apsw.ReadOnlyError
            with pytest.raises(StoreError):
                await store.write(urgent(1))
            assert store.health.state is StorageState.READ_ONLY
            assert await store.read(count) == 1
            vfs.refuse = None
            await until(lambda: store.health.state is StorageState.OK)
    finally:
        await store.close()


async def test_the_store_does_not_open_on_a_disk_mounted_read_only(small_disk: Path) -> None:
    async with opened(small_disk / "data") as store:
        await store.write(urgent(0))
    remount(small_disk, "ro")
    with pytest.raises(StartError) as refusal:
        await Store.open(small_disk / "data", new_ulids())
    assert refusal.value.code == "store_read_only"
    remount(small_disk, "rw")
    async with opened(small_disk / "data") as store:
        assert await store.read(count) == 1


async def test_the_store_does_not_open_in_a_folder_that_is_not_writable() -> None:
    with pytest.raises(StartError) as refusal:
        await Store.open(Path("/sys/data"), new_ulids())  # not writable even for root
    assert refusal.value.code == "store_read_only"


@pytest.mark.parametrize("error", [apsw.IOError, apsw.FullError])
async def test_the_store_is_healthy_again_after_a_successful_commit(
    tmp_path: Path, vfs: SyncCountingVfs, error: type[apsw.Error]
) -> None:
    async with opened(tmp_path, vfs="sync_counting") as store:
        await store.write(urgent(0))
        vfs.refuse = error
        with pytest.raises(StoreError):
            await store.write(urgent(1))
        assert store.health.state is not StorageState.OK
        assert await store.read(count) == 1
        vfs.refuse = None
        async with running(store):
            await until(lambda: store.health.state is StorageState.OK)
        assert await store.write(urgent(1)) == 1


async def test_the_store_is_failing_after_a_failed_fsync_until_a_new_handle_has_committed(
    tmp_path: Path, vfs: SyncCountingVfs
) -> None:
    async with opened(tmp_path, vfs="sync_counting") as store:
        await store.write(urgent(0))
        vfs.fail_next_syncs = 1
        with pytest.raises(StoreError):
            await store.write(urgent(1))
        states = [store.health.state]
        assert await store.write(urgent(2)) == 1
        states.append(store.health.state)
        assert states == [StorageState.FAILING, StorageState.OK]
        assert await store.read(count) == 2


async def test_the_ballast_is_deleted_before_an_urgent_event_is_refused(tmp_path: Path, vfs: SyncCountingVfs) -> None:
    async with opened(tmp_path, vfs="sync_counting") as store:
        async with running(store):
            await until(lambda: store.space.ballast == store.space.reserve)
        vfs.refuse, vfs.refuse_while = apsw.FullError, tmp_path / "ballast"
        assert await store.write(urgent(0)) == 1
        assert store.space.ballast == 0
        assert store.health.state is StorageState.FULL


async def test_the_ballast_is_written_only_if_three_reserves_are_free(tmp_path: Path) -> None:
    free = 3 * MB - 1
    store = await Store.open(tmp_path, new_ulids(), reserve=MB, free_fn=lambda _: free)
    try:
        async with running(store):
            await asyncio.to_thread(lambda: None)
            assert store.space.ballast == 0
            free = 3 * MB
            await until(lambda: store.space.ballast == MB)
    finally:
        await store.close()


async def test_free_pages_are_returned_to_the_disk_after_a_drain(tmp_path: Path) -> None:
    def size() -> int:
        return sum((tmp_path / name).stat().st_size for name in ("gateway.sqlite", "gateway.sqlite-wal"))

    async with opened(tmp_path) as store:
        empty = size()
        await store.write(lambda transaction: [urgent(number, 2000)(transaction) for number in range(10_000)])
        full = size()
        assert full > 20_000_000
        async with running(store):
            await store.write(lambda transaction: transaction.run("DELETE FROM outbox_urgent"))
            await until(lambda: full - size() >= 0.9 * (full - empty))


async def test_the_quarantine_keeps_the_newest_thousand_rows(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:

        def set_aside(transaction: Transaction) -> None:
            for number in range(1200):
                store.quarantine(transaction, "outbox_urgent", (number, "text", b"\x00\xff", None))

        await store.write(set_aside)
        kept = await store.read(lambda t: t.rows("SELECT origin, row FROM quarantine ORDER BY number"))
        assert len(kept) == 1000
        assert kept[-1] == ("outbox_urgent", b'[1199,"text","00ff",null]')


@pytest.mark.parametrize(
    ("kind", "code", "damaged"),
    [
        (apsw.IOError, apsw.SQLITE_IOERR_SHORT_READ, True),
        (apsw.IOError, apsw.SQLITE_IOERR_READ, False),
        (apsw.CorruptError, apsw.SQLITE_CORRUPT_INDEX, True),
        (apsw.FullError, apsw.SQLITE_FULL, False),
    ],
)
def test_a_truncated_database_is_damaged_and_a_read_error_of_the_disk_is_not_damage(
    kind: type[apsw.Error],
    code: int,
    damaged: bool,  # noqa: FBT001 - a parameter
) -> None:
    error = kind("error of the disk")
    vars(error)["extendedresult"] = code  # as apsw does
    assert is_damage(error) is damaged
