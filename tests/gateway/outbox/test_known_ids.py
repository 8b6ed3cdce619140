"""Known ids: a foreign id affects neither the gateway's own ids nor how long other ids are known."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from process_cosmos_gateway.contract.identifiers import Ulid, UlidFactory, encode_base_32
from process_cosmos_gateway.outbox import Added, Event, Limits, Outbox
from process_cosmos_gateway.outbox.counters import read_counters
from process_cosmos_gateway.outbox.known_ids import remember_ids
from process_cosmos_gateway.outbox.quotas import ID_BYTES
from process_cosmos_gateway.store import Store, Transaction
from tests.gateway.store.parts import HandClock, new_ulids, opened
from tests.gateway.store.plans import Explained

from .parts import ALL, accept, drain, event

LAST = Ulid("7ZZZZZZZZZZZZZZZZZZZZZZZZZ")
MAX_IDS = 160
WITHIN_ONE_GENERATION = MAX_IDS // 16

ulids = st.integers(0, (1 << 128) - 1).map(lambda number: Ulid(encode_base_32(number, 26)))


def ulid_factory(clock: HandClock, last: int | None) -> UlidFactory:
    """Return a factory that makes ids above ``last`` (ms), as the gateway does after a start."""
    return UlidFactory(lambda: int(clock.now().timestamp() * 1000), os.urandom, last)


def own_event(identifier: Ulid, name: str) -> Event:
    """Return an event whose id the gateway has generated."""
    return event(name, id=identifier, is_own=True)


@pytest.mark.parametrize("clock_shift", [0.0, -86_400.0], ids=["the clock goes on", "the clock is a day behind"])
async def test_own_events_are_delivered_after_the_greatest_possible_id_and_a_restart(
    tmp_path: Path, clock: HandClock, clock_shift: float
) -> None:
    async with opened(tmp_path) as store:
        outbox = Outbox(store, clock)
        await outbox.register("cloud", ALL)
        first = ulid_factory(clock, await outbox.last_own_id_ms())()
        await accept(outbox, own_event(first, "before"), event("foreign", id=LAST))
        assert await drain(outbox, "cloud") == ["before", "foreign"]
    clock.set_wall(clock_shift)
    async with opened(tmp_path) as store:
        outbox = Outbox(store, clock)
        ulids = ulid_factory(clock, await outbox.last_own_id_ms())
        after = [ulids() for _ in range(3)]
        assert after == sorted(after)
        assert first < after[0] < LAST
        await accept(outbox, *(own_event(each, f"after {number}") for number, each in enumerate(after)))
        assert await drain(outbox, "cloud") == ["after 0", "after 1", "after 2"]


async def test_a_program_that_guesses_the_id_of_an_own_event_does_not_suppress_it(outbox: Outbox, store: Store) -> None:
    await outbox.register("cloud", ALL)
    guessed = event("the program's")
    await accept(outbox, guessed)
    added = await store.write(lambda transaction: outbox.add(transaction, own_event(guessed.id, "the gateway's")))
    assert added is Added.ADDED
    assert await drain(outbox, "cloud") == ["the program's", "the gateway's"]


def limited_outbox(store: Store, clock: HandClock) -> Outbox:
    """Return an outbox that keeps at most ``MAX_IDS`` known ids."""
    return Outbox(store, clock, Limits(id_bytes=MAX_IDS * ID_BYTES))


async def test_the_oldest_ids_are_forgotten_and_counted(store: Store, clock: HandClock) -> None:
    outbox = limited_outbox(store, clock)
    events = [event(str(number)) for number in range(3 * MAX_IDS)]
    await accept(outbox, *events)
    assert MAX_IDS <= (await outbox.depths()).forgotten <= 2 * MAX_IDS + 2 * WITHIN_ONE_GENERATION
    assert await outbox.accept(events[0]) is Added.ADDED
    assert await outbox.accept(events[-1]) is Added.DUPLICATE


@pytest.mark.parametrize("foreign", [Ulid("0" * 26), LAST], ids=["the least", "the greatest"])
async def test_ids_are_forgotten_by_arrival_whatever_their_characters(
    store: Store, clock: HandClock, foreign: Ulid
) -> None:
    outbox, early = limited_outbox(store, clock), event("early")
    await accept(outbox, early, *(event(str(number)) for number in range(MAX_IDS // 2)))
    late = event("late", id=foreign)
    await accept(outbox, late, *(event(str(number)) for number in range(MAX_IDS - 3 * WITHIN_ONE_GENERATION)))
    assert await outbox.accept(late) is Added.DUPLICATE
    assert await outbox.accept(early) is Added.ADDED
    await accept(outbox, *(event(str(number)) for number in range(2 * MAX_IDS)))
    assert await outbox.accept(late) is Added.ADDED, "it is forgotten like any other id"


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(st.lists(ulids, min_size=1, max_size=40, unique=True), max_size=30))
async def test_the_newest_ids_are_known_and_their_number_is_bounded(
    tmp_path_factory: pytest.TempPathFactory, batches: Sequence[Sequence[Ulid]]
) -> None:
    limits, arrived = Limits(id_bytes=MAX_IDS * ID_BYTES), dict[Ulid, None]()

    def change(transaction: Transaction) -> None:
        for batch in batches:
            fresh = [each for each in batch if each not in arrived]
            arrived.update(dict.fromkeys(fresh))
            remember_ids(transaction, [(each, b"") for each in fresh], read_counters(transaction), limits, 1 << 40)
        known = {each for (each,) in transaction.rows("SELECT id FROM outbox_id")}
        newest = list(arrived)[-(MAX_IDS - 40 - 2 * WITHIN_ONE_GENERATION) :]
        assert known >= set(newest)
        assert len(known) <= MAX_IDS + 40
        counted = read_counters(transaction)
        assert (counted["id"], counted["forgotten"]) == (len(known), len(arrived) - len(known))

    async with opened(tmp_path_factory.mktemp("store")) as store:
        await store.write(change)


def test_a_sweep_reads_only_the_ids_between_its_bounds() -> None:
    transaction, new = Explained(), new_ulids()
    ids = [(new(), b"") for _ in range(3 * MAX_IDS)]
    for each in ids:
        remember_ids(transaction, [each], read_counters(transaction), Limits(id_bytes=MAX_IDS * ID_BYTES), 1 << 40)
    deletes = [steps for sql, steps in transaction.plans.items() if sql.startswith("DELETE FROM outbox_id ")]
    assert deletes == [["SEARCH outbox_id USING PRIMARY KEY (id>? AND id<?)"]]


@pytest.mark.parametrize(("new_ids", "chunks"), [(1, 1), (500, 17)])
def test_a_commit_sweeps_in_proportion_to_the_ids_it_remembers(new_ids: int, chunks: int) -> None:
    transaction, limits, new = Explained(), Limits(id_bytes=0), new_ulids()
    stored = [(new(), b"", 2) for _ in range(100_000)]
    transaction.insert("INSERT INTO outbox_id VALUES ", stored)
    transaction.run("UPDATE outbox_counter SET value = 100000 WHERE name = 'id'")
    transaction.run("UPDATE outbox_counter SET value = 3 WHERE name = 'id_generation'")
    transaction.ran.clear()
    remember_ids(transaction, [(new(), b"") for _ in range(new_ids)], read_counters(transaction), limits, 0)
    assert sum("generation <= ?" in sql for sql in transaction.ran) == chunks
