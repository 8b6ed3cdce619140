"""Record log: durable records survive crashes, power failures and damage of other records."""

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from custom_components.process_cosmos.alerts import record_log as module
from custom_components.process_cosmos.alerts.record_frames import find_frames
from custom_components.process_cosmos.alerts.record_log import RecordLog, RecordLogTooNewError, RecordLogWriteError
from custom_components.process_cosmos.contract.identifiers import Position, Ulid
from tests.support.disks import disk_full

RUN = Ulid("01JD0000000000000000000001")
NEXT_RUN = Ulid("01JD0000000000000000000002")


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    type: ClassVar[str] = "note"
    text: str


TABLE: Mapping[str, type[Note]] = {"note": Note}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "site.memory"


class OpenedLog:
    """Record log with the arguments of its callbacks."""

    def __init__(self, path: Path) -> None:
        self.durable: list[module.Entry[Note]] = []
        self.write_errors: list[str | None] = []
        self.record_log: RecordLog[Note] = RecordLog(
            path, TABLE, asyncio.to_thread, on_durable=self.durable.extend, on_write_error=self.write_errors.append
        )

    @property
    def texts(self) -> Sequence[str]:
        return [entry.record.text for entry in self.record_log.entries]

    async def append(self, text: str) -> None:
        self.record_log.append(Note(text=text))
        await self.record_log.async_flush()


async def open_log(path: Path) -> OpenedLog:
    new = OpenedLog(path)
    await new.record_log.async_load()
    return new


async def write_log(path: Path, *texts: str, run: Ulid = RUN) -> OpenedLog:
    new = await open_log(path)
    new.record_log.begin_run(run, Note(text="start"))
    await new.record_log.async_flush()
    for text in texts:
        await new.append(text)
    await new.record_log.async_close()
    return new


async def test_appended_records_are_read_with_their_positions(path: Path) -> None:
    await write_log(path, "a", "b")
    await write_log(path, "c", run=NEXT_RUN)
    again = await open_log(path)
    assert again.texts == ["start", "a", "b", "start", "c"]
    assert [entry.position for entry in again.record_log.entries] == [
        Position(run=RUN, n=0),
        Position(run=RUN, n=1),
        Position(run=RUN, n=2),
        Position(run=NEXT_RUN, n=0),
        Position(run=NEXT_RUN, n=1),
    ]
    assert again.record_log.durable_after(Position(run=RUN, n=2)) == again.record_log.entries[3:]
    assert again.record_log.has_assigned(Position(run=RUN, n=2))
    assert not again.record_log.has_assigned(Position(run=RUN, n=3))
    assert not again.record_log.has_assigned(Position(run=Ulid("01JD0000000000000000000009"), n=0))


async def test_truncation_at_every_byte_leaves_a_valid_prefix_that_can_be_appended_to(path: Path) -> None:
    await write_log(path, "a", "bb", "ccc")
    content = path.read_bytes()
    whole = ["start", "a", "bb", "ccc"]
    lengths = set()
    for cut in range(len(content)):
        path.write_bytes(content[:cut])
        torn = await open_log(path)
        assert torn.texts == whole[: len(torn.texts)]
        lengths.add(len(torn.texts))
        torn.record_log.begin_run(NEXT_RUN, Note(text="next"))
        await torn.record_log.async_close()
        again = await open_log(path)
        assert again.texts == [*torn.texts]
    assert lengths == {0, 1, 2, 3}


async def test_an_incomplete_end_is_dropped_and_logged_without_its_content(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await write_log(path, "a", "Water in Ada's cellar")
    path.write_bytes(path.read_bytes()[:-3])
    assert (await open_log(path)).texts == ["start", "a"]
    [line] = caplog.messages
    assert line.startswith("memory_torn: dropped ")
    assert line.endswith(" bytes at the end of site.memory")


async def test_zeros_at_the_end_are_ignored(path: Path) -> None:
    await write_log(path, "a")
    with path.open("ab") as file:
        file.write(bytes(4096))
    assert (await open_log(path)).texts == ["start", "a"]


async def test_a_flipped_bit_loses_one_record_and_the_file_is_copied_once(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await write_log(path, "aaaa", "bbbb", "cccc")
    content = path.read_bytes()
    (begin, end), *_ = [(begin, end) for begin, end, payload in find_frames(content) if b"aaaa" in payload]
    for place in range(begin, end):
        for bit in range(8):
            flipped = bytearray(content)
            flipped[place] ^= 1 << bit
            path.write_bytes(flipped)
            damaged = await open_log(path)
            assert damaged.texts == ["start", "bbbb", "cccc"], (place, bit)
            assert damaged.record_log.damaged == end - begin
            (copy,) = path.parent.glob("site.memory.damaged-*")
            assert copy.read_bytes() == flipped
            copy.unlink()
    assert "memory_damaged" in caplog.text
    again = await open_log(path)
    assert (again.texts, again.record_log.damaged) == (["start", "bbbb", "cccc"], 0)


async def test_a_damaged_header_loses_no_record(path: Path) -> None:
    await write_log(path, "a")
    content = path.read_bytes()
    path.write_bytes(bytes([content[0] ^ 0x40]) + content[1:])
    assert (await open_log(path)).texts == ["start", "a"]
    assert (await write_log(path, "b", run=NEXT_RUN)).texts == ["start", "a", "start", "b"]


async def test_an_earlier_damaged_copy_is_not_overwritten_and_a_full_disk_loses_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await write_log(path, "aaaa", "bbbb")
    damaged = path.read_bytes().replace(b"aaaa", b"aaba")

    path.with_name("site.memory.damaged-1").write_bytes(b"older")
    path.write_bytes(damaged)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", disk_full)
        new = await open_log(path)
    assert path.read_bytes() == damaged
    new.record_log.begin_run(NEXT_RUN, Note(text="start"))
    await new.record_log.async_close()
    assert path.read_bytes().startswith(damaged)
    assert (await open_log(path)).texts == ["start", "bbbb", "start"]
    assert path.with_name("site.memory.damaged-1").read_bytes() == b"older"
    assert path.with_name("site.memory.damaged-2").read_bytes().startswith(damaged)


async def test_records_of_a_full_disk_are_written_by_the_next_log(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", disk_full)
        new = await open_log(path)
        new.record_log.begin_run(RUN, Note(text="start"))
        with pytest.raises(RecordLogWriteError):
            await new.append("a")
        await new.record_log.async_close()
    later = await open_log(path)
    later.record_log.requeue(new.record_log.queued)
    later.record_log.begin_run(NEXT_RUN, Note(text="start"))
    await later.record_log.async_close()
    again = await open_log(path)
    assert again.texts == ["start", "a", "start"]
    assert [entry.position for entry in again.record_log.entries] == [
        entry.position for entry in later.record_log.entries
    ]


async def test_a_long_write_failure_is_logged_when_it_begins_and_when_it_ends(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    new = await write_log(path, "a")
    new = await open_log(path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", disk_full)
        new.record_log.begin_run(NEXT_RUN, Note(text="start"))
        for text in "bcd":
            with pytest.raises(RecordLogWriteError):
                await new.append(text)
    await new.record_log.async_close()
    assert [message.split(":")[0] for message in caplog.messages] == ["memory_not_written", "memory_written"]


async def test_a_file_without_any_valid_frame_is_copied(path: Path) -> None:
    path.write_bytes(b"garbage, not a memory at all")
    new = await write_log(path, "a")
    assert new.texts == ["start", "a"]
    assert path.with_name("site.memory.damaged-1").read_bytes().startswith(b"garbage")
    await new.record_log.async_remove()
    assert list(path.parent.iterdir()) == []


async def test_a_record_of_an_unknown_type_is_skipped(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    await write_log(path, "a")
    other: RecordLog[Note] = RecordLog(
        path, {}, asyncio.to_thread, on_durable=lambda _: None, on_write_error=lambda _: None
    )
    await other.async_load()
    assert other.entries == []
    assert "memory_record_unreadable" in caplog.text


async def test_a_newer_version_is_refused_and_left_unchanged(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(module, "VERSION", module.VERSION + 1)
        await write_log(path, "a")
    content = path.read_bytes()
    with pytest.raises(RecordLogTooNewError):
        await open_log(path)
    assert path.read_bytes() == content


async def test_all_queued_records_share_one_fsync(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new = await open_log(path)
    new.record_log.begin_run(RUN, Note(text="start"))
    await new.record_log.async_flush()
    syncs = 0

    def count(file: int, sync: Callable[[int], None] = os.fsync) -> None:
        nonlocal syncs
        syncs += 1
        sync(file)

    monkeypatch.setattr(os, "fsync", count)
    await asyncio.gather(*(new.append(str(number)) for number in range(100)))
    assert syncs == 1
    assert len(new.durable) == 101


async def test_a_failed_write_is_reported_and_retried_on_a_new_handle(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await write_log(path, "a")
    new = await open_log(path)
    new.record_log.begin_run(NEXT_RUN, Note(text="start"))
    await new.record_log.async_flush()
    failures = 1

    def fail_once(file: int, sync: Callable[[int], None] = os.fsync) -> None:
        nonlocal failures
        if failures:
            failures -= 1
            raise OSError(28, "No space left on device")
        sync(file)

    monkeypatch.setattr(os, "fsync", fail_once)
    with pytest.raises(RecordLogWriteError, match="No space"):
        await new.append("b")
    assert new.texts == ["start", "a", "start", "b"]
    await new.append("c")
    assert new.write_errors == ["No space left on device", None]
    await new.record_log.async_close()
    assert (await open_log(path)).texts == ["start", "a", "start", "b", "c"]


async def test_closing_with_unwritten_records_is_logged(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await write_log(path, "a")
    new = await open_log(path)
    new.record_log.begin_run(NEXT_RUN, Note(text="start"))
    await new.record_log.async_flush()

    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(RecordLogWriteError):
        await new.append("b")
    await new.record_log.async_close()
    assert "1 records of site.memory could not be written" in caplog.text


async def test_records_after_closing_are_not_written(path: Path) -> None:
    new = await write_log(path, "a")
    content = path.read_bytes()
    with pytest.raises(RecordLogWriteError):
        await new.append("late")
    assert path.read_bytes() == content


async def test_compaction_keeps_the_given_and_the_queued_records_and_the_last_n_of_each_run(path: Path) -> None:
    await write_log(path, "a", "b")
    new = await open_log(path)
    new.record_log.begin_run(NEXT_RUN, Note(text="start"))
    await new.record_log.async_flush()
    keep = [entry for entry in new.record_log.entries if entry.record.text == "b"]
    new.record_log.append(Note(text="queued"))
    await new.record_log.async_compact(keep)
    await new.append("c")
    await new.record_log.async_close()
    again = await open_log(path)
    assert again.texts == ["b", "queued", "c"]
    assert again.record_log.runs == {RUN: 2, NEXT_RUN: 2}


async def test_a_crash_during_compaction_leaves_the_old_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new = await write_log(path, "a")

    def crash(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", crash)
        with pytest.raises(OSError, match="Input/output"):
            await new.record_log.async_compact([])
    assert (await open_log(path)).texts == ["start", "a"]


async def test_a_compaction_whose_folder_fsync_fails_does_not_corrupt_later_records(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = await open_log(path)
    new.record_log.begin_run(RUN, Note(text="start"))
    for number in range(9):
        await new.append(str(number))

    def fail(*_: object) -> int:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", fail)
        with pytest.raises(OSError, match="Too many"):
            await new.record_log.async_compact(new.record_log.entries[-1:])
    await new.append("later")
    await new.record_log.async_close()
    assert (await open_log(path)).texts == ["8", "later"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:20]),
        lambda path: path.with_name("copy").write_bytes(path.read_bytes()) and path.with_name("copy").replace(path),
    ],
    ids=["deleted", "emptied", "cut", "replaced"],
)
async def test_a_file_changed_while_in_use_is_rewritten_without_losing_records(
    path: Path, damage: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    await write_log(path, "a")
    new = await open_log(path)
    new.record_log.begin_run(NEXT_RUN, Note(text="start"))
    await new.append("b")
    damage(path)
    await new.append("c")
    await new.append("d")
    await new.record_log.async_close()
    again = await open_log(path)
    assert again.texts == ["start", "a", "start", "b", "c", "d"]
    assert again.record_log.damaged == 0
    assert [message.split(":")[0] for message in caplog.messages] == ["memory_rewritten"]


async def test_an_empty_file_is_distinguished_from_a_new_one(path: Path) -> None:
    first = await open_log(path)
    assert (first.record_log.is_new, first.record_log.is_empty) == (True, False)
    path.touch()
    empty = await open_log(path)
    assert (empty.record_log.is_new, empty.record_log.is_empty) == (False, True)
    await write_log(path, "a")
    usual = await open_log(path)
    assert (usual.record_log.is_new, usual.record_log.is_empty) == (False, False)
