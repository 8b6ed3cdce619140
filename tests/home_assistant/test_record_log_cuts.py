"""Record log on a simulated disk that loses power: torn and reordered sectors at each write and in a compaction."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest

from custom_components.process_cosmos.contract.identifiers import Position
from tests.gateway.powercut.disk import SECTOR, Disk, Kept
from tests.gateway.powercut.recorder import lay_out, recorded

from .test_record_log import NEXT_RUN, RUN, Note, OpenedLog, open_log

SEEDS = 12
"""Random cuts of each kind at each step."""
LONG = "x" * 3 * SECTOR
NAME = "site.memory"


@dataclass(slots=True)
class Recording:
    """Record log on a simulated disk.

    ``held``: its successive contents, each with the step from which it may be on disk and the one from which it must.
    """

    folder: Path
    disk: Disk = field(default_factory=lambda: Disk({}))
    held: list[tuple[list[str], int, int]] = field(default_factory=list)

    async def append(self, new: OpenedLog, *texts: str) -> None:
        """Append several records at once, which share one write."""
        began = len(self.disk.steps)
        states = []
        for text in texts:
            new.record_log.append(Note(text=text))
            states.append(list(new.texts))
        await new.record_log.async_flush()
        self.held += [(state, began, len(self.disk.steps)) for state in states]

    async def compact(self, new: OpenedLog, *texts: str, queued: str) -> None:
        """Compact the log to the records in ``texts`` while ``queued`` is not written yet."""
        before, began = list(new.texts), len(self.disk.steps)
        keep = [entry for entry in new.record_log.entries if entry.record.text in texts]
        new.record_log.append(Note(text=queued))
        await new.record_log.async_compact(keep)
        compacted = list(new.texts)
        await new.record_log.async_flush()
        # The queued record may reach the disk before the compaction, or after it.
        states = ([*before, queued], compacted[:-1], compacted)
        self.held += [(state, began, len(self.disk.steps)) for state in states]

    def possible(self, step: int) -> list[list[str]]:
        """Return the contents that a cut after ``step`` steps may leave: none older than the newest durable one."""
        durable = [number for number, (_, _, until) in enumerate(self.held) if until <= step]
        begun = [texts for texts, since, _ in self.held[durable[-1] :] if since <= step] if durable else []
        return begun or [[], *(texts for texts, since, _ in self.held if since <= step)]

    def cuts(self, tmp_path: Path) -> Iterator[tuple[int, Path]]:
        """Yield each step with a file that a cut there may leave."""
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


async def test_a_power_cut_at_any_write_leaves_all_durable_and_only_appended_records(
    recording: Recording, tmp_path: Path
) -> None:
    new = await open_log(recording.folder / NAME)
    new.record_log.begin_run(RUN, Note(text="start"))
    await recording.append(new, "a")
    await recording.append(new, f"b{LONG}", "c", f"d{LONG}", "e")
    await recording.append(new, "f")
    await new.record_log.async_close()
    for step, path in recording.cuts(tmp_path):
        found = await open_log(path)
        assert found.texts in recording.possible(step), step
        await assert_writable(found, path)


async def test_a_power_cut_during_compaction_leaves_the_complete_old_or_new_file(
    recording: Recording, tmp_path: Path
) -> None:
    new = await open_log(recording.folder / NAME)
    new.record_log.begin_run(RUN, Note(text="start"))
    await recording.append(new, f"a{LONG}", "b", f"c{LONG}")
    await recording.compact(new, "b", queued="queued")
    await recording.append(new, f"d{LONG}", "e")
    await new.record_log.async_close()
    for step, path in recording.cuts(tmp_path):
        found = await open_log(path)
        assert found.texts in recording.possible(step), step
        await assert_writable(found, path)


async def assert_writable(found: OpenedLog, path: Path) -> None:
    """Assert that records can be appended to the remaining log and read with it."""
    before = list(found.texts)
    found.record_log.begin_run(NEXT_RUN, Note(text="start"))
    await found.append("after")
    assert found.record_log.durable_after(None)[-1].position == Position(run=NEXT_RUN, n=1)
    await found.record_log.async_close()
    assert (await open_log(path)).texts == [*before, "start", "after"]
