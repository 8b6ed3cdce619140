"""The write-ahead log is checkpointed without delaying the writer, and its size is limited."""

import asyncio
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import apsw
import pytest

from process_cosmos_gateway.store import Transaction, schema, wal

from .parts import opened

WITHIN = 20
COMMITS = 200


def note(number: int) -> Callable[[Transaction], int]:
    return lambda transaction: transaction.run("INSERT INTO outbox_counter VALUES (?, 1)", f"note {number}")


def notes_in_file(folder: Path) -> int:
    """Count the rows in the database file without its log."""
    flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
    with closing(apsw.Connection(f"file:{folder / schema.FILE}?immutable=1", flags)) as connection:
        return int(connection.execute("SELECT count(*) FROM outbox_counter WHERE name LIKE 'note%'").get)


async def test_a_grown_log_is_checkpointed_by_another_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wal, "_CHECKPOINT_PAGES", 10)
    async with opened(tmp_path) as store:
        for number in range(COMMITS):
            await store.write(note(number))
        assert notes_in_file(tmp_path) == 0
        upkeep = asyncio.create_task(store.run())
        async with asyncio.timeout(WITHIN):
            while notes_in_file(tmp_path) < COMMITS:  # noqa: ASYNC110 - the condition depends on a file
                await asyncio.sleep(0.01)
        upkeep.cancel()
        with suppress(asyncio.CancelledError):
            await upkeep


async def test_the_writer_checkpoints_the_log_if_no_other_thread_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = 30
    monkeypatch.setattr(wal, "_MAX_PAGES", most)
    async with opened(tmp_path) as store:
        for number in range(COMMITS):
            await store.write(note(number))
        pages = (tmp_path / f"{schema.FILE}-wal").stat().st_size // 4096
        assert most <= pages < 2 * most
