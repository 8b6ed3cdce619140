"""A backup is consistent while the gateway writes, and begins a new epoch when it is restored."""

import asyncio
import stat
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from process_cosmos_gateway.errors import StoreError
from process_cosmos_gateway.store import Transaction, backup
from process_cosmos_gateway.store.backup import make_backup, remove_backup
from process_cosmos_gateway.store.disk_reserve import RESERVE

from .parts import opened


def add_pair(number: int) -> Callable[[Transaction], None]:
    def change(transaction: Transaction) -> None:
        for half in ("left", "right"):
            transaction.run("INSERT INTO outbox_counter VALUES (?, ?)", f"{half} {number}", number)

    return change


def halves(transaction: Transaction) -> dict[str, set[int]]:
    return {
        half: {row[0] for row in transaction.rows("SELECT value FROM outbox_counter WHERE name LIKE ?", f"{half} %")}
        for half in ("left", "right")
    }


def restore(source: Path, folder: Path) -> None:
    (folder / "backup").mkdir(parents=True)
    (source / "backup/store.sqlite").rename(folder / "backup/store.sqlite")


async def test_a_backup_made_under_load_is_whole_and_adopted_with_a_new_epoch(tmp_path: Path) -> None:
    async with opened(tmp_path / "live") as store:
        for number in range(100):
            await store.write(add_pair(number))
        making = asyncio.create_task(asyncio.to_thread(make_backup, tmp_path / "live"))
        number = 100
        while not making.done():
            await store.write(add_pair(number))
            number += 1
        copy = await making
        site, epoch = store.site, store.epoch
        assert len((await store.read(halves))["left"]) == number
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    restore(tmp_path / "live", tmp_path / "restored")
    async with opened(tmp_path / "restored") as store:
        found = await store.read(halves)
        assert found["left"] == found["right"]
        assert found["left"] >= set(range(100))
        assert store.site == site
        assert store.epoch != epoch
        assert store.recovered is None, "a backup has no log to lose"
        restored_epoch = store.epoch
    assert not (tmp_path / "restored/backup/store.sqlite").exists()
    async with opened(tmp_path / "restored") as store:
        assert store.epoch == restored_epoch


async def test_a_backup_does_not_replace_a_database_that_is_there(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        make_backup(tmp_path)
        await store.write(add_pair(1))
        epoch = store.epoch
    async with opened(tmp_path) as store:
        assert store.epoch == epoch
        assert await store.read(halves) == {"left": {1}, "right": {1}}


async def test_a_damaged_backup_is_recovered(tmp_path: Path) -> None:
    async with opened(tmp_path / "live") as store:
        make_backup(tmp_path / "live")
        site = store.site
    restore(tmp_path / "live", tmp_path / "restored")
    with (tmp_path / "restored/backup/store.sqlite").open("r+b") as file:
        file.write(b"no database")
    async with opened(tmp_path / "restored") as store:
        assert store.site == site
        assert store.recovered is not None


async def test_a_new_backup_replaces_the_previous_one_and_can_be_removed(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        make_backup(tmp_path)
        await store.write(add_pair(1))
        copy = make_backup(tmp_path)
        connection = apsw.Connection(str(copy))
        assert connection.execute("SELECT count(*) FROM outbox_counter WHERE name LIKE 'left%'").get == 1
        connection.close()
    remove_backup(tmp_path)
    remove_backup(tmp_path)
    assert not copy.exists()


async def test_without_a_database_there_is_no_backup(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        make_backup(tmp_path)
    assert not (tmp_path / "gateway.sqlite").exists()


async def test_a_backup_is_refused_if_it_would_use_the_space_reserved_for_urgent_events(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup, "free_bytes", lambda _: 3 * RESERVE)
    async with opened(tmp_path):
        with pytest.raises(StoreError, match="too little disk space"):
            make_backup(tmp_path)
    assert not (tmp_path / "backup").exists()
