"""An older database becomes the newest one, whatever happens on the way."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import apsw
import pytest

from process_cosmos_gateway.store import schema

from .parts import new_ulids, opened

SCHEMA_1 = Path(__file__).with_name("schema_1.sql")
"""What the first release made."""

WITHIN = 20


def make_first_release(path: Path, alarms: int = 3) -> None:
    connection = apsw.Connection(str(path))
    connection.execute("PRAGMA journal_mode = WAL")
    with connection:
        connection.execute(SCHEMA_1.read_text("utf-8"))
        facts: list[tuple[str, int | str]] = [("schema", 1), ("site", new_ulids()()), ("epoch", new_ulids()())]
        connection.executemany("INSERT INTO meta VALUES (?, ?)", facts)
        event = (
            "INSERT INTO outbox_urgent (id, type, kind, subject, key, accepted_at, body) "
            "VALUES (?, 't', 'k', 's', 'k', 1, x'00')"
        )
        connection.executemany(event, [(f"alarm {number}",) for number in range(alarms)])
    connection.close()


def tables(path: Path) -> dict[tuple[str, str], str]:
    connection = schema.connect(path, None, read_only=True)
    rows = connection.execute("SELECT type, name, sql FROM sqlite_schema").fetchall()
    connection.close()
    return {(str(kind), str(name)): "".join(str(sql).split()) for kind, name, sql in rows}


async def test_a_migrated_database_has_the_schema_of_a_fresh_one(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    make_first_release(tmp_path / "old/gateway.sqlite")
    async with opened(tmp_path / "old"), opened(tmp_path / "fresh"):
        migrated, fresh = tables(tmp_path / "old/gateway.sqlite"), tables(tmp_path / "fresh/gateway.sqlite")
    assert len(fresh) > 20
    assert migrated == fresh


async def test_what_waited_in_the_older_database_still_waits(tmp_path: Path) -> None:
    make_first_release(tmp_path / "gateway.sqlite")
    async with opened(tmp_path) as store:
        ids = await store.read(lambda transaction: transaction.rows("SELECT id FROM outbox_urgent ORDER BY sequence"))
    assert ids == [("alarm 0",), ("alarm 1",), ("alarm 2",)]


async def test_an_older_database_gives_pages_back_too(tmp_path: Path) -> None:
    make_first_release(tmp_path / "gateway.sqlite")
    async with opened(tmp_path) as store:
        assert await store.read(lambda transaction: transaction.rows("PRAGMA auto_vacuum")) == [(schema.INCREMENTAL,)]


CHILD = """
import sys
from pathlib import Path
from process_cosmos_gateway.store import schema
path = Path(sys.argv[1])
print("begins", flush=True)
schema.migrate(path, None)
print("is done", flush=True)
"""


@pytest.mark.parametrize("after_ms", range(0, 60, 6))
async def test_a_migration_killed_at_any_point_goes_on(tmp_path: Path, after_ms: int) -> None:
    path = tmp_path / "gateway.sqlite"
    make_first_release(path, alarms=20_000)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CHILD, str(path), stdout=asyncio.subprocess.PIPE, env={**os.environ}
    )
    assert process.stdout is not None
    async with asyncio.timeout(WITHIN):
        assert await process.stdout.readline() == b"begins\n"
        await asyncio.sleep(after_ms / 1000)  # the moment of the kill is what is tried
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
        await process.wait()
    async with opened(tmp_path) as store:
        assert store.recovered is None
        assert await store.read(lambda transaction: transaction.rows("SELECT count(*) FROM outbox_urgent")) == [
            (20_000,)
        ]
    async with opened(tmp_path / "fresh"):
        assert tables(path) == tables(tmp_path / "fresh/gateway.sqlite")
