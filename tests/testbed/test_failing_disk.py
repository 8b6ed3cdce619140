"""The failing disk: fails on command, and a power cut keeps what was synced."""

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from random import Random

import apsw
import pytest

from process_cosmos_gateway.options import MEGABYTE
from process_cosmos_testbed.failing_disk import NAME, DiskFault, DiskVfs, FailingDisk, edit_schema
from tests.support.waiting import until

RANDOM = Random(1)  # noqa: S311 - a seed makes a run repeatable


@pytest.fixture
def disk() -> Iterator[FailingDisk]:
    """A disk below a VFS; nobody is killed."""
    disk = FailingDisk(die=lambda: None)
    vfs = DiskVfs(disk)
    yield disk
    vfs.unregister()


@pytest.fixture
def database(tmp_path: Path, disk: FailingDisk) -> Iterator[apsw.Connection]:
    """A database on that disk, with one row that is synced."""
    connection = apsw.Connection(str(tmp_path / "db"), vfs=NAME)
    for statement in ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", "CREATE TABLE t (x)"):
        connection.execute(statement)
    connection.execute("INSERT INTO t VALUES (1)")
    yield connection
    disk.heal()
    connection.close(True)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (DiskFault.FULL, apsw.FullError),
        (DiskFault.WRITE, apsw.IOError),
        (DiskFault.SYNC, apsw.IOError),
        (DiskFault.READ_ONLY, apsw.ReadOnlyError),
    ],
)
def test_a_fault_strikes_once_after_so_many_calls(
    disk: FailingDisk, database: apsw.Connection, fault: DiskFault, error: type[apsw.Error]
) -> None:
    disk.fail(fault, after=0, times=1)
    with pytest.raises(error):
        database.execute("INSERT INTO t VALUES (2)")
    database.execute("INSERT INTO t VALUES (3)")
    assert disk.counts()["failed"] == 1
    assert {x for (x,) in database.execute("SELECT x FROM t")} >= {1, 3}


def test_who_looks_at_the_room_there_is_is_counted(disk: FailingDisk, tmp_path: Path) -> None:
    disk.set_free(20)
    assert disk.counts()["looks"] == 0
    assert disk.free_bytes(tmp_path) == 20 * MEGABYTE
    assert disk.counts()["looks"] == 1


def test_calls_before_it_pass(disk: FailingDisk, database: apsw.Connection) -> None:
    disk.fail("sync", after=1)
    database.execute("INSERT INTO t VALUES (2)")
    with pytest.raises(apsw.IOError):
        database.execute("INSERT INTO t VALUES (3)")


@pytest.mark.parametrize("kept", ["none", "torn"])
def test_after_a_power_cut_every_commit_is_there(
    tmp_path: Path, disk: FailingDisk, database: apsw.Connection, kept: str
) -> None:
    database.execute("PRAGMA synchronous = OFF")
    database.execute("INSERT INTO t VALUES (2)")
    assert any(file.writes for file in disk.files.values())
    for file in disk.files.values():
        file.forget(kept, RANDOM)
    for name in ("db", "db-wal"):
        (tmp_path / f"after-{name}").write_bytes((tmp_path / name).read_bytes())
    after = apsw.Connection(str(tmp_path / "after-db"))
    assert {x for (x,) in after.execute("SELECT x FROM t")} >= {1}
    after.close()


def test_a_truncated_file_gets_its_tail_back(tmp_path: Path, disk: FailingDisk) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"whole")
    disk.opened(str(path))
    disk.before_truncate(str(path), 2)
    path.write_bytes(b"wh")
    disk.files[str(path)].forget("none", RANDOM)
    assert path.read_bytes() == b"whole"


def test_a_file_that_replaced_another_is_followed_anew(tmp_path: Path, disk: FailingDisk) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    disk.opened(str(path))
    disk.before_write(str(path), 0, b"x")
    path.unlink()
    path.write_bytes(b"new")
    disk.opened(str(path))
    assert not disk.files[str(path)].writes


async def test_the_power_goes_in_the_midst_of_a_commit(disk: FailingDisk, database: apsw.Connection) -> None:
    died = threading.Event()
    disk.die = died.set
    cut = asyncio.create_task(disk.cut("none", 1))
    await asyncio.sleep(0)

    def write() -> None:
        connection = apsw.Connection(database.db_filename("main"), vfs=NAME)
        connection.execute("PRAGMA synchronous = FULL")
        for number in range(100):
            connection.execute("INSERT INTO t VALUES (?)", (number,))

    writer = threading.Thread(target=write, daemon=True)  # it hangs at a dark disk for ever
    writer.start()
    assert await asyncio.wait_for(cut, 10) > 0
    await until(died.is_set)
    assert writer.is_alive()


async def test_the_power_does_not_go_at_a_write_to_a_temporary_file(
    disk: FailingDisk, database: apsw.Connection
) -> None:
    cut = asyncio.create_task(disk.cut("none", 1))
    await asyncio.sleep(0)
    before, numbers = disk.writes, json.dumps([*range(500)])

    def spill() -> None:
        database.execute("PRAGMA temp_store = FILE")
        database.execute("PRAGMA temp.cache_size = 10")
        database.execute("CREATE TEMP TABLE large AS SELECT randomblob(4000) FROM json_each(?)", (numbers,))

    await asyncio.wait_for(asyncio.to_thread(spill), 10)
    assert disk.writes - before > 100
    assert not cut.done()
    cut.cancel()


def test_the_schema_of_a_stopped_gateways_database_can_be_changed(tmp_path: Path) -> None:
    path = tmp_path / "db"
    connection = apsw.Connection(str(path))
    connection.execute("CREATE TABLE meta (key TEXT, value ANY); INSERT INTO meta VALUES ('schema', 2)")
    connection.close()
    assert edit_schema(path, 99) == 2
    assert edit_schema(path, 2) == 99
