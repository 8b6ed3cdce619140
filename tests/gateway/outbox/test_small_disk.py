"""Quotas follow the free disk space, also on a small disk."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from process_cosmos_gateway.contract.destinations import Priority
from process_cosmos_gateway.outbox import DropReason, Event, Outbox
from process_cosmos_gateway.outbox.quotas import (
    MB,
    READING_BYTES,
    Backlogs,
    current_quotas,
    default_quotas,
    id_quota,
    refused_by_disk,
    share_per_destination,
    watermarks,
)
from process_cosmos_gateway.store import Store, disk_reserve
from process_cosmos_gateway.store.disk_reserve import RESERVE
from tests.gateway.store.parts import HandClock

from .parts import ALL, ULIDS, accept, drain, enqueue_readings, event

CHANGE, URGENT, READING = Priority.CHANGE, Priority.URGENT, Priority.READING

sizes = st.integers(0, 1 << 41)
backlogs = st.dictionaries(
    st.tuples(st.sampled_from(["cloud", "webhook", "third"]), st.sampled_from(list(Priority))), st.integers(0, 4 << 30)
)


class SmallDisk:
    """A disk whose free space the test sets."""

    def __init__(self, free: int) -> None:
        """Set the free space to ``free`` bytes."""
        self.free = free

    def __call__(self, _: Path) -> int:
        """Return the free bytes."""
        return self.free


@pytest.fixture
def disk() -> SmallDisk:
    return SmallDisk(200 * MB)


@pytest.fixture
async def store(tmp_path: Path, disk: SmallDisk, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Store]:
    """A store that looks at its disk each time it is asked, not once a second."""
    monkeypatch.setattr(disk_reserve, "_MAX_AGE_SECONDS", 0.0)
    opened = await Store.open(tmp_path, ULIDS, free_fn=disk)
    yield opened
    await opened.close()


@pytest.fixture
async def outbox(store: Store) -> Outbox:
    """An outbox with default limits and an offline destination."""
    outbox = Outbox(store, HandClock())
    await outbox.register("offline", ALL)
    return outbox


def large(number: int) -> Event:
    """Return a change of 100 kB."""
    return event(f"c{number}", priority=CHANGE, data={"name": f"c{number}", "padding": "x" * 100_000})


@pytest.mark.parametrize("free", [130 * MB, 200 * MB, 320 * MB, 400 * MB])
async def test_an_empty_outbox_on_a_small_disk_drops_nothing(
    outbox: Outbox, store: Store, disk: SmallDisk, free: int
) -> None:
    disk.free = free
    for number in range(30):
        await accept(outbox, event(f"c{number}", priority=CHANGE), event(f"a{number}"))
        await enqueue_readings(store, outbox, number)
    assert (await outbox.depths()).drops == {}
    assert len(await drain(outbox, "offline")) == 90


async def test_shares_follow_the_free_disk_space_without_a_restart(outbox: Outbox, disk: SmallDisk) -> None:
    await accept(outbox, *(large(number) for number in range(200)))
    small = (await outbox.depths()).bytes[CHANGE]
    assert 15 * MB < small <= 16 * MB
    disk.free = 4000 * MB
    await accept(outbox, *(large(number) for number in range(200, 500)))
    grown = await outbox.depths()
    assert grown.bytes[CHANGE] > small + 300 * 100_000
    assert CHANGE not in grown.full
    disk.free = 150 * MB
    await accept(outbox, *(large(number) for number in range(500, 600)))
    shrunk = await outbox.depths()
    assert shrunk.bytes[CHANGE] <= grown.bytes[CHANGE]
    assert CHANGE in shrunk.full


async def test_accepted_events_stay_while_another_program_fills_the_disk_temporarily(
    outbox: Outbox, disk: SmallDisk
) -> None:
    disk.free = 4000 * MB
    await accept(outbox, *(large(number) for number in range(400)))
    disk.free = 60 * MB
    await accept(outbox, event("one more", priority=CHANGE))
    disk.free = 4000 * MB
    assert len(await drain(outbox, "offline")) >= 400
    assert sum((await outbox.depths()).drops.values()) <= 1


async def test_a_second_destination_does_not_drop_the_backlog_of_the_first(outbox: Outbox, disk: SmallDisk) -> None:
    disk.free = 400 * MB
    await accept(outbox, *(large(number) for number in range(120)))
    await outbox.register("second", ALL)
    await accept(outbox, *(event(f"small {number}", priority=CHANGE) for number in range(5)))
    drops = sum((await outbox.depths()).drops.values())
    assert drops <= 5


async def test_pending_readings_make_room_for_urgent_events_below_the_reserve(
    outbox: Outbox, store: Store, disk: SmallDisk
) -> None:
    for begin in range(0, 60_000, 10_000):
        await enqueue_readings(store, outbox, *range(begin, begin + 10_000))
    waiting = (await outbox.depths()).bytes[READING]
    disk.free = RESERVE - 1 * MB
    await accept(outbox, event("urgent"))
    after = await outbox.depths()
    assert waiting - 2 * MB < after.bytes[READING] <= waiting - 1 * MB
    dropped = (waiting - after.bytes[READING]) // READING_BYTES
    assert after.drops == {(READING, DropReason.DISK): dropped}
    assert {CHANGE, READING} <= after.full
    for number in range(20):
        await accept(outbox, event(f"urgent {number}"))
    assert (await outbox.depths()).bytes[READING] >= waiting - 2 * MB, "pages freed in the database count as free space"
    disk.free = 200 * MB
    left = await drain(outbox, "offline")
    assert sum(name[0] == "u" for name in left) == 21
    assert left[-1] == "m59999"


@given(free=sizes)
def test_default_quotas_are_a_fifth_of_the_free_disk_and_at_most_2_gb_with_a_minimum_each(free: int) -> None:
    quotas = default_quotas(free)
    assert quotas[URGENT] >= 64 * MB
    assert min(quotas.values()) >= 16 * MB
    assert sum(quotas.values()) <= max(96 * MB, min(2048 * MB, free // 5) + 32 * MB)


@given(free=sizes, more=sizes, destinations=st.integers(1, 10))
def test_an_empty_outbox_accepts_a_useful_number_of_events_of_each_priority(
    free: int, more: int, destinations: int
) -> None:
    empty: Backlogs = {(str(number), priority): 0 for number in range(destinations) for priority in Priority}
    quotas, _ = current_quotas(free, RESERVE, empty, {})
    larger, _ = current_quotas(free + more, RESERVE, empty, {})
    for priority in Priority:
        assert larger[priority] >= quotas[priority]
        if not refused_by_disk(priority, free, RESERVE):
            assert watermarks(share_per_destination(quotas[priority], destinations)).low >= 1_000 * 1_000


@given(free=sizes, waiting=backlogs)
def test_a_backlog_is_not_cut_for_a_shrinking_disk_unless_urgent_events_need_room(free: int, waiting: Backlogs) -> None:
    quotas, keeps_backlog = current_quotas(free, RESERVE, waiting, {})
    destinations = len({name for name, _ in waiting})
    assert quotas[URGENT] >= 64 * MB
    assert URGENT not in keeps_backlog
    longest = max((size for (_, of), size in waiting.items() if of == READING), default=0)
    for (_, priority), size in waiting.items():
        marks = watermarks(
            share_per_destination(quotas[Priority(priority)], destinations), size, keeps=priority in keeps_backlog
        )
        assert marks.low <= marks.high
        if priority == CHANGE or (priority == READING and free >= RESERVE):
            assert marks.high >= size
        elif priority == READING:
            assert marks.high <= max(0, longest - (RESERVE - free))


@given(free=sizes, waiting=backlogs, moved=sizes)
def test_filling_the_outbox_does_not_change_the_quotas_of_others(free: int, waiting: Backlogs, moved: int) -> None:
    moved = min(moved, max(0, free - RESERVE))
    with_room: Backlogs = {**waiting, ("first", READING): 5 << 30}
    filled: Backlogs = {**waiting, ("first", READING): (5 << 30) + moved}
    if free >= RESERVE:
        assert current_quotas(free - moved, RESERVE, filled, {}) == current_quotas(free, RESERVE, with_room, {})


@given(free=sizes, waiting=backlogs, mine=st.integers(1, 1 << 40))
def test_a_quota_from_the_options_stays_as_it_is(free: int, waiting: Backlogs, mine: int) -> None:
    quotas, keeps_backlog = current_quotas(free, RESERVE, waiting, {CHANGE: mine})
    assert quotas[CHANGE] == mine
    assert CHANGE not in keeps_backlog


@given(free=sizes, taken=st.integers(0, 64 * MB))
def test_known_ids_use_a_small_part_of_a_small_disk(free: int, taken: int) -> None:
    quota = id_quota(64 * MB, free, taken)
    assert 4 * MB <= quota <= 64 * MB
    assert quota <= max(4 * MB, (free + taken) // 8)


def test_an_almost_full_disk_refuses_readings_first_and_urgent_events_never() -> None:
    refused = [{priority for priority in Priority if refused_by_disk(priority, free, 10)} for free in (31, 29, 19, 0)]
    assert refused == [set(), {READING}, {READING, CHANGE}, {READING, CHANGE}]
