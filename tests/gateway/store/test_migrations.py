"""A database of version 1 is brought to version 2 by a migration made for these tests; there is no released one yet."""

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import apsw
import pytest

from process_cosmos_gateway.store import Store, schema
from process_cosmos_gateway.store.errors import SchemaTooNewError
from process_cosmos_gateway.store.opening import prepare

from .parts import new_ulids

COLUMN = "origin TEXT NOT NULL DEFAULT 'site'"
INDEX = "CREATE INDEX outbox_urgent_origin ON outbox_urgent (origin)"
MIGRATION = """
ALTER TABLE outbox_urgent ADD COLUMN origin TEXT NOT NULL DEFAULT 'site';
UPDATE outbox_urgent SET subject = 'site/' || subject;
CREATE INDEX outbox_urgent_origin ON outbox_urgent (origin);
"""
"""From version 1 to 2: adds a column with a default, rewrites every row, and adds an index."""

BROKEN = "INSERT INTO nowhere VALUES (1)"

WITHIN = 20


def make_version_1(path: Path, events: int = 3) -> None:
    """Make a database of version 1 at ``path``, in which ``events`` urgent events wait."""
    prepare(path, new_ulids(), None)
    connection = schema.connect(path, None, read_only=False)
    with connection:
        connection.executemany(
            "INSERT INTO outbox_urgent (id, type, kind, subject, key, accepted_at, checksum, body) "
            "VALUES (?, 't', 'k', 'boiler', 'k', 1, 0, x'')",
            [(f"event {number}",) for number in range(events)],
        )
    connection.close()


def rows(path: Path, sql: str) -> Sequence[tuple[object, ...]]:
    connection = schema.connect(path, None, read_only=True)
    found: list[tuple[object, ...]] = [*connection.execute(sql)]
    connection.close()
    return found


def tables(path: Path) -> dict[tuple[object, object], str]:
    """Return the SQL of each table and index without white space, by type and name."""
    return {
        (kind, name): "".join(str(sql).split())
        for kind, name, sql in rows(path, "SELECT type, name, sql FROM sqlite_schema")
    }


def version(path: Path) -> object:
    [(found,)] = rows(path, "SELECT value FROM meta WHERE key = 'schema'")
    return found


@pytest.fixture
def expected(tmp_path: Path) -> dict[tuple[object, object], str]:
    """The schema of version 2, as a new database would have it."""
    head, table, rest = schema.SCHEMA.read_text("utf-8").partition("CREATE TABLE outbox_urgent (")
    columns, end, rest = rest.partition("\n) STRICT;")
    path = tmp_path / "expected.sqlite"
    facts: dict[str, int | str] = {"schema": 2, "site": new_ulids()(), "epoch": new_ulids()()}
    schema.create(path, None, facts, f"{head}{table}{columns}, {COLUMN}{end}{rest}\n{INDEX};")
    return tables(path)


def test_a_migrated_database_has_the_schema_of_a_new_one(
    tmp_path: Path, expected: dict[tuple[object, object], str]
) -> None:
    path = tmp_path / schema.FILE
    make_version_1(path)
    prepare(path, new_ulids(), None, [MIGRATION])
    assert len(expected) > 20
    assert tables(path) == expected
    assert version(path) == 2


def test_events_that_waited_before_a_migration_still_wait_after_it(tmp_path: Path) -> None:
    path = tmp_path / schema.FILE
    make_version_1(path)
    prepare(path, new_ulids(), None, [MIGRATION])
    waiting = rows(path, "SELECT id, subject, origin FROM outbox_urgent ORDER BY sequence")
    assert waiting == [(f"event {number}", "site/boiler", "site") for number in range(3)]


def test_a_migration_keeps_site_and_epoch(tmp_path: Path) -> None:
    path, names = tmp_path / schema.FILE, "SELECT * FROM meta WHERE key IN ('site', 'epoch')"
    make_version_1(path)
    before = rows(path, names)
    prepare(path, new_ulids(), None, [MIGRATION])
    assert len(before) == 2
    assert rows(path, names) == before


def test_a_migration_that_fails_half_way_leaves_the_database_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / schema.FILE
    make_version_1(path)
    before = tables(path), rows(path, "SELECT * FROM outbox_urgent"), rows(path, "SELECT * FROM meta")
    with pytest.raises(apsw.SQLError):
        prepare(path, new_ulids(), None, [MIGRATION + BROKEN])
    assert (tables(path), rows(path, "SELECT * FROM outbox_urgent"), rows(path, "SELECT * FROM meta")) == before


def test_steps_before_a_failing_one_are_kept(tmp_path: Path) -> None:
    path = tmp_path / schema.FILE
    make_version_1(path)
    with pytest.raises(apsw.SQLError):
        prepare(path, new_ulids(), None, [MIGRATION, BROKEN])
    assert version(path) == 2
    prepare(path, new_ulids(), None, [MIGRATION, "CREATE TABLE third (value)"])
    assert version(path) == 3
    assert rows(path, "SELECT DISTINCT subject FROM outbox_urgent") == [("site/boiler",)]


async def test_a_migrated_database_is_refused_by_the_version_before(tmp_path: Path) -> None:
    path = tmp_path / schema.FILE
    make_version_1(path)
    prepare(path, new_ulids(), None, [MIGRATION])
    before = path.read_bytes()
    with pytest.raises(SchemaTooNewError):
        await Store.open(tmp_path, new_ulids())
    assert path.read_bytes() == before


CHILD = """
import sys
from collections.abc import Sequence
from pathlib import Path
from process_cosmos_gateway.store import schema
path, migration = Path(sys.argv[1]), sys.argv[2]
print("begins", flush=True)
schema.migrate(path, None, [migration])
print("is done", flush=True)
"""


@pytest.mark.parametrize("after_ms", range(0, 60, 6))
async def test_a_migration_killed_at_any_point_is_completed_at_the_next_start(
    tmp_path: Path, expected: dict[tuple[object, object], str], after_ms: int
) -> None:
    path = tmp_path / schema.FILE
    make_version_1(path, events=20_000)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CHILD, str(path), MIGRATION, stdout=asyncio.subprocess.PIPE, env={**os.environ}
    )
    assert process.stdout is not None
    async with asyncio.timeout(WITHIN):
        assert await process.stdout.readline() == b"begins\n"
        await asyncio.sleep(after_ms / 1000)  # the moment of the kill is what is tried
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
        await process.wait()
    prepare(path, new_ulids(), None, [MIGRATION])
    assert rows(path, "SELECT value FROM meta WHERE key = 'recovered'") == []
    assert rows(path, "SELECT count(*), min(subject), max(subject) FROM outbox_urgent") == [
        (20_000, "site/boiler", "site/boiler")
    ]
    assert tables(path) == expected
