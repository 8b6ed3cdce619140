"""The disk model: what a power cut may leave, and that all operations of SQLite and the store are recorded."""

from functools import partial
from pathlib import Path
from random import Random

import pytest

from process_cosmos_gateway.store import Store, Transaction
from tests.gateway.store.parts import new_ulids

from .disk import SECTOR, Disk, Image, Kept, Sync, Truncate, Write
from .parts import counted_ulids, frequent_checkpoints
from .recorder import lay_out, recorded

OLD = b"o" * 3 * SECTOR
CUTS = 200


def random(seed: int = 0) -> Random:
    return Random(seed)  # noqa: S311 - no secret


def overwritten() -> tuple[Disk, int]:
    """Return a disk with a file that was overwritten without a sync, and the file's number."""
    disk = Disk({"file": OLD})
    file = disk.file("file")
    disk.steps.append(Write(file, 0, b"a" * SECTOR))
    disk.steps.append(Write(file, SECTOR, b"b" * 4 * SECTOR))
    return disk, file


def contents_after_cuts(disk: Disk, kept: Kept, point: int | None = None) -> set[bytes]:
    """Return the contents that 200 cuts leave of the file."""
    point = len(disk.steps) if point is None else point
    return {disk.cut(point, kept, random(seed))["file"] for seed in range(CUTS)}


def test_synced_content_survives_completely() -> None:
    disk, file = overwritten()
    disk.sync(file)
    for kept in Kept:
        assert contents_after_cuts(disk, kept) == {b"a" * SECTOR + b"b" * 4 * SECTOR}


def test_unsynced_content_may_be_lost_truncated_torn_or_reordered() -> None:
    disk, _ = overwritten()
    first, both = b"a" * SECTOR + b"o" * 2 * SECTOR, b"a" * SECTOR + b"b" * 4 * SECTOR
    assert contents_after_cuts(disk, Kept.NOTHING) == {OLD}
    assert contents_after_cuts(disk, Kept.ALL) == {both}
    assert contents_after_cuts(disk, Kept.PREFIX) == {OLD, first, both}
    torn = contents_after_cuts(disk, Kept.TORN)
    assert any(content[:SECTOR] == b"o" * SECTOR and b"b" in content for content in torn)  # out of order
    assert any(b"b" in content and bytes(SECTOR) in content for content in torn)  # a hole
    assert any(set(content[i : i + SECTOR]) - set(b"abo\0") for content in torn for i in range(0, len(content), SECTOR))


def test_a_cut_between_two_steps_excludes_the_second() -> None:
    disk, file = overwritten()
    disk.steps.append(Truncate(file, 1))
    assert contents_after_cuts(disk, Kept.ALL, point=1) == {b"a" * SECTOR + b"o" * 2 * SECTOR}
    assert contents_after_cuts(disk, Kept.ALL) == {b"a"}


def test_a_new_name_surely_survives_only_after_a_sync_of_its_folder() -> None:
    disk = Disk({})
    file = disk.file("new")
    disk.steps += [Write(file, 0, b"content"), Sync(file)]
    disk.rename("new", "file")
    images = [disk.cut(len(disk.steps), Kept.TORN, random(seed)) for seed in range(CUTS)]
    assert {name for image in images for name in image} == {"new", "file"}
    assert {} in images
    disk.sync_folder()
    assert disk.cut(len(disk.steps), Kept.NOTHING, random()) == {"file": b"content"}


def test_a_removed_name_may_reappear_until_its_folder_is_synced() -> None:
    disk = Disk({"file": OLD})
    disk.remove("file")
    assert disk.cut(1, Kept.NOTHING, random()) == {"file": OLD}
    assert disk.cut(1, Kept.ALL, random()) == {}
    disk.sync_folder()
    assert disk.cut(2, Kept.NOTHING, random()) == {}


async def test_the_recording_equals_the_folder(tmp_path: Path) -> None:
    """If all writes survive, the disk equals the real files: no operation was missed."""
    disk = Disk({})
    folder = tmp_path / "live"
    folder.mkdir()
    with recorded(folder, disk) as vfs, frequent_checkpoints():
        store = await Store.open(folder, counted_ulids(), vfs=vfs)
        for number in range(30):
            await store.write(partial(insert_counter, name=f"{number} {'x' * 2000}"))
        assert disk.cut(len(disk.steps), Kept.ALL, random()) == files_in(folder)
        await store.close()
    assert disk.cut(len(disk.steps), Kept.ALL, random()) == files_in(folder)
    kinds = {type(step).__name__ for step in disk.steps}
    assert kinds >= {"Name", "Write", "Sync", "SyncFolder"}


def insert_counter(transaction: Transaction, *, name: str) -> int:
    return transaction.run("INSERT INTO outbox_counter VALUES (?, 1)", name)


def files_in(folder: Path) -> Image:
    return {file.name: file.read_bytes() for file in folder.iterdir() if not file.name.endswith("-shm")}


@pytest.mark.parametrize("kept", Kept)
async def test_a_cut_during_the_first_start_leaves_no_store_or_a_complete_one(tmp_path: Path, kept: Kept) -> None:
    disk = Disk({})
    folder = tmp_path / "live"
    folder.mkdir()
    with recorded(folder, disk) as vfs:
        store = await Store.open(folder, counted_ulids(), vfs=vfs)
        started = len(disk.steps)
        await store.close()
    assert started > 10
    for step in range(len(disk.steps) + 1):
        again = tmp_path / str(step)
        lay_out(disk.cut(step, kept, random(step)), again)
        found = await Store.open(again, new_ulids())
        await found.close()
        if step >= started:
            assert (found.site, found.epoch) == (store.site, store.epoch)
