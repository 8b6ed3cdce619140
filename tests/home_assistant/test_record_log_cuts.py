"""The memory on a disk whose power is cut: torn and reordered sectors at each record, and in a compaction."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest

from custom_components.process_cosmos.contract.identifiers import Position
from tests.powercut.disk import SECTOR, Disk, Kept
from tests.powercut.recorder import lay_out, recorded

from .test_record_log import NEXT_RUN, RUN, Note, Opened, opened

SEEDS = 12
"""Cuts of each kind at each step."""
LONG = "x" * 3 * SECTOR
NAME = "site.memory"


@dataclass(slots=True)
class Recording:
    """A memory on a disk; what it held, from which step on it may be on the disk, and from which on it must."""

    folder: Path
    disk: Disk = field(default_factory=lambda: Disk({}))
    held: list[tuple[list[str], int, int]] = field(default_factory=list)

    async def append(self, new: Opened, *texts: str) -> None:
        """Let several callers append at once: their records share one write."""
        began = len(self.disk.steps)
        states = []
        for text in texts:
            new.memory.append(Note(text=text))
            states.append(list(new.texts))
        await new.memory.async_durable()
        self.held += [(state, began, len(self.disk.steps)) for state in states]

    async def compact(self, new: Opened, *texts: str, queued: str) -> None:
        """Keep only ``texts``, while ``queued`` waits to be written."""
        before, began = list(new.texts), len(self.disk.steps)
        keep = [entry for entry in new.memory.entries if entry.record.text in texts]
        new.memory.append(Note(text=queued))
        await new.memory.async_compact(keep)
        compacted = list(new.texts)
        await new.memory.async_durable()
        # The queued record may reach the disk before the compaction, or after it.
        states = ([*before, queued], compacted[:-1], compacted)
        self.held += [(state, began, len(self.disk.steps)) for state in states]

    def possible(self, step: int) -> list[list[str]]:
        """Return what a cut after ``step`` steps may leave: nothing older than what was durable by then."""
        durable = [number for number, (_, _, until) in enumerate(self.held) if until <= step]
        begun = [texts for texts, since, _ in self.held[durable[-1] :] if since <= step] if durable else []
        return begun or [[], *(texts for texts, since, _ in self.held if since <= step)]

    def cuts(self, tmp_path: Path) -> Iterator[tuple[int, Path]]:
        """Yield each step and a file a cut there may leave."""
        for step in range(len(self.disk.steps) + 1):
            for kept in Kept:
                for seed in range(SEEDS if kept in {Kept.TORN, Kept.PREFIX} else 1):
                    folder = tmp_path / f"{step}-{kept}-{seed}"
                    lay_out(self.disk.cut(step, kept, Random(step + seed)), folder)  # noqa: S311 - no secret
                    yield step, folder / NAME


@pytest.fixture
def recording(tmp_path: Path) -> Iterator[Recording]:
    recording = Recording(tmp_path / "live")
    recording.folder.mkdir()
    with recorded(recording.folder, recording.disk):
        yield recording


async def test_a_power_cut_at_any_record_leaves_what_was_durable_and_no_more_than_was_appended(
    recording: Recording, tmp_path: Path
) -> None:
    new = await opened(recording.folder / NAME)
    new.memory.begin(RUN, Note(text="start"))
    await recording.append(new, "a")
    await recording.append(new, f"b{LONG}", "c", f"d{LONG}", "e")
    await recording.append(new, "f")
    await new.memory.async_close()
    for step, path in recording.cuts(tmp_path):
        found = await opened(path)
        assert found.texts in recording.possible(step), step
        await goes_on(found, path)


async def test_a_power_cut_in_a_compaction_leaves_all_before_it_or_all_after_it(
    recording: Recording, tmp_path: Path
) -> None:
    new = await opened(recording.folder / NAME)
    new.memory.begin(RUN, Note(text="start"))
    await recording.append(new, f"a{LONG}", "b", f"c{LONG}")
    await recording.compact(new, "b", queued="queued")
    await recording.append(new, f"d{LONG}", "e")
    await new.memory.async_close()
    for step, path in recording.cuts(tmp_path):
        found = await opened(path)
        assert found.texts in recording.possible(step), step
        await goes_on(found, path)


async def goes_on(found: Opened, path: Path) -> None:
    """What is left can be written on, and read again with it."""
    before = list(found.texts)
    found.memory.begin(NEXT_RUN, Note(text="start"))
    await found.memory.async_append(Note(text="after"))
    assert found.memory.durable_after(None)[-1].position == Position(run=NEXT_RUN, n=1)
    await found.memory.async_close()
    assert (await opened(path)).texts == [*before, "start", "after"]
