"""The order of deliveries, with and without failures."""

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from process_cosmos_gateway.contract.destinations import Priority
from process_cosmos_gateway.outbox import Failed, Outbox
from process_cosmos_gateway.outbox.order import Candidate, sendable
from process_cosmos_gateway.store import Store

from .parts import ALL, accept, enqueue_readings, event, names

KEYS = st.sampled_from("abc")


@given(st.lists(st.tuples(KEYS, st.integers(0, 2), st.booleans())))
def test_no_event_overtakes_a_failed_event_of_its_key(events: list[tuple[str, int, bool]]) -> None:
    candidates = [Candidate(number, key, failures) for number, (key, failures, _) in enumerate(events)]
    backing_off = {number for number, (_, _, backs_off) in enumerate(events) if backs_off}
    sent = list(sendable(candidates, backing_off))
    assert sent == sorted(sent, key=lambda each: each.sequence)
    failed_before: defaultdict[str, bool] = defaultdict(bool)
    expected = []
    for candidate in candidates:
        if not failed_before[candidate.key] and not (candidate.failures and candidate.sequence in backing_off):
            expected.append(candidate)
        failed_before[candidate.key] |= candidate.failures > 0
    assert sent == expected


async def test_prefetch_returns_the_events_after_those_in_flight(outbox: Outbox, store: Store) -> None:
    await outbox.register("cloud", ALL)
    await accept(outbox, *(event(f"a{number}") for number in range(3)))
    await accept(outbox, *(event(f"c{number}", priority=Priority.CHANGE) for number in range(2)))
    await enqueue_readings(store, outbox, 1.0)
    first = await outbox.deliveries("cloud", 2)
    second = await outbox.prefetch("cloud", 2, first)
    assert [names(first), names(second)] == [["a0", "a1"], ["a2", "c0"]]
    third = await outbox.prefetch("cloud", 2, [*first, *second])
    assert names(third) == ["c1", "m1"]
    assert await outbox.prefetch("cloud", 2, [*first, *second, *third]) == []
    assert await outbox.deliveries("cloud", 2) == first


async def test_prefetch_returns_nothing_after_a_failure(outbox: Outbox) -> None:
    await outbox.register("cloud", ALL)
    await accept(outbox, *(event(f"a{number}", key=f"key {number}") for number in range(4)))
    first = (await outbox.deliveries("cloud", 4))[0]
    await outbox.settle("cloud", [(first, Failed("http_500"))])
    deliveries = await outbox.deliveries("cloud", 1)
    assert names(deliveries) == ["a1"]
    assert await outbox.prefetch("cloud", 1, deliveries) == ()
