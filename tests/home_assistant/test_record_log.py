"""The memory: what it says is on disk survives anything but the disk."""

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from custom_components.process_cosmos.alerts import record_log as module
from custom_components.process_cosmos.alerts.record_frames import find_frames
from custom_components.process_cosmos.alerts.record_log import Entry, Memory, RecordLogTooNewError, RecordLogWriteError
from custom_components.process_cosmos.contract.identifiers import Position, Ulid

RUN = Ulid("01JD0000000000000000000001")
NEXT_RUN = Ulid("01JD0000000000000000000002")


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    type: ClassVar[str] = "note"
    text: str


TABLE: Mapping[str, type[Note]] = {"note": Note}


class Opened:
    """A memory, and what it called back."""

    def __init__(self, path: Path) -> None:
        self.durable: list[Entry[Note]] = []
        self.troubles: list[str | None] = []
        self.memory: Memory[Note] = Memory(
            path, TABLE, asyncio.to_thread, on_durable=self.durable.extend, on_trouble=self.troubles.append
        )

    @property
    def texts(self) -> Sequence[str]:
        return [entry.record.text for entry in self.memory.entries]


async def opened(path: Path) -> Opened:
    new = Opened(path)
    await new.memory.async_load()
    return new


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "site.memory"


async def written(path: Path, *texts: str, run: Ulid = RUN) -> Opened:
    new = await opened(path)
    new.memory.begin(run, Note(text="start"))
    await new.memory.async_durable()
    for text in texts:
        await new.memory.async_append(Note(text=text))
    await new.memory.async_close()
    return new


async def test_what_was_appended_is_read_again_with_its_positions(path: Path) -> None:
    await written(path, "a", "b")
    await written(path, "c", run=NEXT_RUN)
    again = await opened(path)
    assert again.texts == ["start", "a", "b", "start", "c"]
    assert [entry.position for entry in again.memory.entries] == [
        Position(run=RUN, n=0),
        Position(run=RUN, n=1),
        Position(run=RUN, n=2),
        Position(run=NEXT_RUN, n=0),
        Position(run=NEXT_RUN, n=1),
    ]
    assert again.memory.durable_after(Position(run=RUN, n=2)) == again.memory.entries[3:]
    assert again.memory.knows(Position(run=RUN, n=2))
    assert not again.memory.knows(Position(run=RUN, n=3))
    assert not again.memory.knows(Position(run=Ulid("01JD0000000000000000000009"), n=0))


async def test_a_cut_at_every_byte_leaves_a_valid_prefix_that_can_be_written_on(path: Path) -> None:
    await written(path, "a", "bb", "ccc")
    content = path.read_bytes()
    whole = ["start", "a", "bb", "ccc"]
    lengths = set()
    for cut in range(len(content)):
        path.write_bytes(content[:cut])
        torn = await opened(path)
        assert torn.texts == whole[: len(torn.texts)]
        lengths.add(len(torn.texts))
        torn.memory.begin(NEXT_RUN, Note(text="next"))
        await torn.memory.async_close()
        again = await opened(path)
        assert again.texts == [*torn.texts]
    assert lengths == {0, 1, 2, 3}


async def test_a_torn_tail_is_dropped_and_said_without_its_content(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await written(path, "a", "Water in Ada's cellar")
    path.write_bytes(path.read_bytes()[:-3])
    assert (await opened(path)).texts == ["start", "a"]
    [line] = caplog.messages
    assert line.startswith("memory_torn: dropped ")
    assert line.endswith(" bytes at the end of site.memory")


async def test_zeros_at_the_end_are_no_records(path: Path) -> None:
    await written(path, "a")
    with path.open("ab") as file:
        file.write(bytes(4096))
    assert (await opened(path)).texts == ["start", "a"]


async def test_a_flipped_bit_costs_one_record_wherever_it_is_and_the_file_is_kept_aside_once(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await written(path, "aaaa", "bbbb", "cccc")
    content = path.read_bytes()
    (begin, end), *_ = [(begin, end) for begin, end, payload in find_frames(content) if b"aaaa" in payload]
    for place in range(begin, end):
        for bit in range(8):
            flipped = bytearray(content)
            flipped[place] ^= 1 << bit
            path.write_bytes(flipped)
            damaged = await opened(path)
            assert damaged.texts == ["start", "bbbb", "cccc"], (place, bit)
            assert damaged.memory.damaged == end - begin
            (aside,) = path.parent.glob("site.memory.damaged-*")
            assert aside.read_bytes() == flipped
            aside.unlink()
    assert "memory_damaged" in caplog.text
    again = await opened(path)
    assert (again.texts, again.memory.damaged) == (["start", "bbbb", "cccc"], 0)


async def test_a_damaged_header_costs_no_record(path: Path) -> None:
    await written(path, "a")
    content = path.read_bytes()
    path.write_bytes(bytes([content[0] ^ 0x40]) + content[1:])
    assert (await opened(path)).texts == ["start", "a"]
    assert (await written(path, "b", run=NEXT_RUN)).texts == ["start", "a", "start", "b"]


async def test_an_older_damaged_file_is_not_overwritten_and_a_full_disk_drops_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await written(path, "aaaa", "bbbb")
    damaged = path.read_bytes().replace(b"aaaa", b"aaba")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    path.with_name("site.memory.damaged-1").write_bytes(b"older")
    path.write_bytes(damaged)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        new = await opened(path)
    assert path.read_bytes() == damaged
    new.memory.begin(NEXT_RUN, Note(text="start"))
    await new.memory.async_close()
    assert path.read_bytes().startswith(damaged)
    assert (await opened(path)).texts == ["start", "bbbb", "start"]
    assert path.with_name("site.memory.damaged-1").read_bytes() == b"older"
    assert path.with_name("site.memory.damaged-2").read_bytes().startswith(damaged)


async def test_without_room_for_the_file_itself_it_is_written_once_there_is(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        new = await opened(path)
        new.memory.begin(RUN, Note(text="start"))
        with pytest.raises(RecordLogWriteError):
            await new.memory.async_append(Note(text="a"))
        await new.memory.async_close()
    later = await opened(path)
    later.memory.adopt(new.memory.queued)
    later.memory.begin(NEXT_RUN, Note(text="start"))
    await later.memory.async_close()
    again = await opened(path)
    assert again.texts == ["start", "a", "start"]
    assert [entry.position for entry in again.memory.entries] == [entry.position for entry in later.memory.entries]


async def test_a_disk_that_refuses_for_long_is_said_when_it_begins_and_when_it_is_over(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    new = await written(path, "a")
    new = await opened(path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        new.memory.begin(NEXT_RUN, Note(text="start"))
        for text in "bcd":
            with pytest.raises(RecordLogWriteError):
                await new.memory.async_append(Note(text=text))
    await new.memory.async_close()
    assert [message.split(":")[0] for message in caplog.messages] == ["memory_not_written", "memory_written"]


async def test_a_file_of_nothing_but_garbage_is_kept_aside(path: Path) -> None:
    path.write_bytes(b"garbage, not a memory at all")
    new = await written(path, "a")
    assert new.texts == ["start", "a"]
    assert path.with_name("site.memory.damaged-1").read_bytes().startswith(b"garbage")
    await new.memory.async_remove()
    assert list(path.parent.iterdir()) == []


async def test_a_record_of_an_unknown_kind_is_passed_over(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    await written(path, "a")
    other: Memory[Note] = Memory(path, {}, asyncio.to_thread, on_durable=lambda _: None, on_trouble=lambda _: None)
    await other.async_load()
    assert other.entries == []
    assert "memory_record_unreadable" in caplog.text


async def test_a_newer_version_is_refused_and_left_untouched(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(module, "VERSION", module.VERSION + 1)
        await written(path, "a")
    content = path.read_bytes()
    with pytest.raises(RecordLogTooNewError):
        await opened(path)
    assert path.read_bytes() == content


async def test_all_that_waits_shares_one_fsync(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new = await opened(path)
    new.memory.begin(RUN, Note(text="start"))
    await new.memory.async_durable()
    syncs = 0

    def count(file: int, sync: Callable[[int], None] = os.fsync) -> None:
        nonlocal syncs
        syncs += 1
        sync(file)

    monkeypatch.setattr(os, "fsync", count)
    await asyncio.gather(*(new.memory.async_append(Note(text=str(number))) for number in range(100)))
    assert syncs == 1
    assert len(new.durable) == 101


async def test_a_failed_write_is_told_kept_and_tried_again_on_a_new_handle(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await written(path, "a")
    new = await opened(path)
    new.memory.begin(NEXT_RUN, Note(text="start"))
    await new.memory.async_durable()
    failures = 1

    def fail_once(file: int, sync: Callable[[int], None] = os.fsync) -> None:
        nonlocal failures
        if failures:
            failures -= 1
            raise OSError(28, "No space left on device")
        sync(file)

    monkeypatch.setattr(os, "fsync", fail_once)
    with pytest.raises(RecordLogWriteError, match="No space"):
        await new.memory.async_append(Note(text="b"))
    assert new.texts == ["start", "a", "start", "b"]
    await new.memory.async_append(Note(text="c"))
    assert new.troubles == ["No space left on device", None]
    await new.memory.async_close()
    assert (await opened(path)).texts == ["start", "a", "start", "b", "c"]


async def test_closing_while_the_disk_refuses_says_what_is_lost(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await written(path, "a")
    new = await opened(path)
    new.memory.begin(NEXT_RUN, Note(text="start"))
    await new.memory.async_durable()

    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(RecordLogWriteError):
        await new.memory.async_append(Note(text="b"))
    await new.memory.async_close()
    assert "1 records of site.memory could not be written" in caplog.text


async def test_what_comes_after_closing_is_not_written(path: Path) -> None:
    new = await written(path, "a")
    content = path.read_bytes()
    with pytest.raises(RecordLogWriteError):
        await new.memory.async_append(Note(text="late"))
    assert path.read_bytes() == content


async def test_compaction_keeps_what_it_is_given_what_is_queued_and_the_last_n_of_each_run(path: Path) -> None:
    await written(path, "a", "b")
    new = await opened(path)
    new.memory.begin(NEXT_RUN, Note(text="start"))
    await new.memory.async_durable()
    keep = [entry for entry in new.memory.entries if entry.record.text == "b"]
    new.memory.append(Note(text="queued"))
    await new.memory.async_compact(keep)
    await new.memory.async_append(Note(text="c"))
    await new.memory.async_close()
    again = await opened(path)
    assert again.texts == ["b", "queued", "c"]
    assert again.memory.runs == {RUN: 2, NEXT_RUN: 2}


async def test_a_crash_during_compaction_leaves_the_old_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new = await written(path, "a")

    def crash(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", crash)
        with pytest.raises(OSError, match="Input/output"):
            await new.memory.async_compact([])
    assert (await opened(path)).texts == ["start", "a"]


async def test_a_compaction_whose_folder_cannot_be_synced_tears_nothing_that_comes_later(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = await opened(path)
    new.memory.begin(RUN, Note(text="start"))
    for number in range(9):
        await new.memory.async_append(Note(text=str(number)))

    def fail(*_: object) -> int:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", fail)
        with pytest.raises(OSError, match="Too many"):
            await new.memory.async_compact(new.memory.entries[-1:])
    await new.memory.async_append(Note(text="later"))
    await new.memory.async_close()
    assert (await opened(path)).texts == ["8", "later"]


@pytest.mark.parametrize(
    "strike",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:20]),
        lambda path: path.with_name("copy").write_bytes(path.read_bytes()) and path.with_name("copy").replace(path),
    ],
    ids=["deleted", "emptied", "cut", "replaced"],
)
async def test_a_file_that_is_changed_while_in_use_is_written_anew_and_loses_nothing(
    path: Path, strike: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    await written(path, "a")
    new = await opened(path)
    new.memory.begin(NEXT_RUN, Note(text="start"))
    await new.memory.async_append(Note(text="b"))
    strike(path)
    await new.memory.async_append(Note(text="c"))
    await new.memory.async_append(Note(text="d"))
    await new.memory.async_close()
    again = await opened(path)
    assert again.texts == ["start", "a", "start", "b", "c", "d"]
    assert again.memory.damaged == 0
    assert [message.split(":")[0] for message in caplog.messages] == ["memory_rewritten"]


async def test_an_empty_file_is_no_first_start(path: Path) -> None:
    first = await opened(path)
    assert (first.memory.is_new, first.memory.is_empty) == (True, False)
    path.touch()
    empty = await opened(path)
    assert (empty.memory.is_new, empty.memory.is_empty) == (False, True)
    await written(path, "a")
    usual = await opened(path)
    assert (usual.memory.is_new, usual.memory.is_empty) == (False, False)
