"""A database of a newer version is refused and stays unchanged, byte by byte."""

import asyncio
import shutil
from pathlib import Path

import apsw
import pytest

from process_cosmos_gateway.store import Store, schema
from process_cosmos_gateway.store.backup import make_backup
from process_cosmos_gateway.store.errors import SchemaTooNewError
from process_cosmos_testbed.services import COMMAND

from .parts import new_ulids, opened

NEWER = schema.NEWEST + 1


async def make_newer(folder: Path) -> None:
    """Create a database of the next version in ``folder``."""
    async with opened(folder):
        pass
    mark_as_newer(folder / schema.FILE)


def mark_as_newer(path: Path) -> None:
    """Turn the database at ``path`` into one of the next version."""
    connection = apsw.Connection(str(path))
    connection.execute("UPDATE meta SET value = ? WHERE key = 'schema'", (NEWER,))
    connection.execute("CREATE TABLE next_version (value)")
    connection.close()


def leave_newer_commit_in_log(folder: Path) -> None:
    """Leave the last commit of the next version in the log, as a kill would."""
    connection = apsw.Connection(str(folder / schema.FILE))
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    connection.execute("UPDATE meta SET value = ? WHERE key = 'schema'", (NEWER,))
    connection.close()


def written(folder: Path) -> dict[str, bytes]:
    """Return the files in ``folder`` and their content, except the log index, which SQLite rebuilds at each open."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".sqlite-shm")
    return {str(path.relative_to(folder)): content for path in files if (content := path.read_bytes())}


async def check_refused_and_unchanged(folder: Path) -> None:
    """Check that opening the store in ``folder`` twice is refused and changes no file."""
    before = written(folder)
    for _ in range(2):
        with pytest.raises(SchemaTooNewError, match=f"schema {NEWER}.*Update the app, or restore a backup"):
            await Store.open(folder, new_ulids())
        assert written(folder) == before


async def test_a_newer_database_is_refused_and_left_untouched(tmp_path: Path) -> None:
    await make_newer(tmp_path)
    await check_refused_and_unchanged(tmp_path)


async def test_a_newer_database_is_recognised_by_its_log_alone_and_left_untouched(tmp_path: Path) -> None:
    async with opened(tmp_path):
        pass
    leave_newer_commit_in_log(tmp_path)
    assert schema.FILE + "-wal" in written(tmp_path)
    await check_refused_and_unchanged(tmp_path)


async def test_a_damaged_database_of_a_newer_version_is_not_recovered(tmp_path: Path) -> None:
    await make_newer(tmp_path)
    (tmp_path / "gateway.sqlite.suspect").write_text("a page could not be read")
    await check_refused_and_unchanged(tmp_path)


async def test_a_backup_of_a_newer_version_is_refused_and_left_untouched(tmp_path: Path) -> None:
    await make_newer(tmp_path / "live")
    copy = make_backup(tmp_path / "live")
    (tmp_path / "restored/backup").mkdir(parents=True)
    shutil.copy(copy, tmp_path / "restored/backup")
    await check_refused_and_unchanged(tmp_path / "restored")
    assert not (tmp_path / "restored" / schema.FILE).exists()


async def test_the_gateway_exits_with_advice_about_a_newer_database(tmp_path: Path) -> None:
    await make_newer(tmp_path / "data")
    options = tmp_path / "gateway.toml"
    options.write_text(f'data = "{tmp_path / "data"}"\nhost = "127.0.0.1"\nport = 1\n')
    before = written(tmp_path / "data")
    process = await asyncio.create_subprocess_exec(COMMAND, "run", "--options", options, stderr=asyncio.subprocess.PIPE)
    async with asyncio.timeout(20):
        _, errors = await process.communicate()
    assert process.returncode == 1
    last = errors.decode().splitlines()[-1]
    assert "Update the app, or restore a backup" in last
    after = written(tmp_path / "data")
    assert {name: after[name] for name in before} == before
