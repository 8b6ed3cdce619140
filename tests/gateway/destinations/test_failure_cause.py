"""Attribution of failures, simulated with links that go up and down and events that always fail."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from process_cosmos_gateway.contract.destinations import Priority
from process_cosmos_gateway.destinations.destination import Down
from process_cosmos_gateway.destinations.failure_cause import (
    IN_FLIGHT,
    LATE_SECONDS,
    MOST_FAILED_KEYS,
    MOST_IN_FLIGHT,
    MOST_SUSPECTS,
    FailureAttribution,
    key_of,
    send_capacity,
)
from process_cosmos_gateway.outbox import Delivery, Failed

from .parts import delivery

TIMED_OUT = Down(reason="timeout", event_suspected=True)
A, B, C = (delivery(number) for number in (1, 2, 3))


def names(failures: Sequence[tuple[Delivery, Failed]]) -> list[int]:
    return [each.sequence for each, _ in failures]


def test_a_failure_during_another_delivery_is_attributed_to_the_event() -> None:
    attribution, own = FailureAttribution().started(A).started(B).delivered(B, at=5.0)
    attribution, own = attribution.failed(A, TIMED_OUT, began=1.0)
    assert own == [(A, Failed("timeout"))]
    assert not attribution.suspects


def test_a_failure_is_attributed_to_the_event_if_another_key_is_delivered_next() -> None:
    attribution, own = FailureAttribution().failed(A, TIMED_OUT, began=1.0)
    assert (own, attribution.is_link_failure) == ([], False)
    attribution, own = attribution.delivered(B, at=30.0)
    assert names(own) == [1]
    assert not attribution.suspects


def test_failures_of_two_keys_are_attributed_to_the_link() -> None:
    attribution, _ = FailureAttribution().failed(A, TIMED_OUT, began=1.0)
    attribution, own = attribution.failed(B, TIMED_OUT, began=2.0)
    assert (own, attribution.is_link_failure) == ([], True)
    assert attribution.delivered(C, at=60.0)[1] == []


def test_an_event_delivered_by_its_next_attempt_was_not_at_fault() -> None:
    attribution, _ = FailureAttribution().failed(A, TIMED_OUT, began=1.0)
    _, own = attribution.started(A).delivered(A, at=40.0)
    assert own == []


def test_memory_does_not_grow_with_an_outage() -> None:
    attribution = FailureAttribution()
    for number in range(1, 2 * MOST_FAILED_KEYS):
        attribution, _ = attribution.failed(delivery(number), TIMED_OUT, began=1.0)
    assert (len(attribution.suspects), len(attribution.failed_keys)) == (MOST_SUSPECTS, MOST_FAILED_KEYS)
    attribution, _ = attribution.delivered(C, at=60.0)
    assert (attribution.suspects, attribution.failed_keys) == ({}, ())


@dataclass
class LinkSimulation:
    """A link that is up at times, with events of which some always fail; one request of a key at a time."""

    up: Sequence[bool]
    bad: frozenset[int]
    attribution: FailureAttribution = field(default_factory=FailureAttribution)
    attributed: Counter[int] = field(default_factory=Counter)
    attributed_while_down: int = 0
    delivered: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))

    def turn(self, now: int, waiting: Mapping[int, list[int]]) -> None:
        """Send the first event of each key that has not failed, else of all keys; a turn lasts one unit of time."""
        first_events = [delivery(line[0], key=str(key)) for key, line in waiting.items() if line]
        chosen = [each for each in first_events if key_of(each) not in self.attribution.failed_keys][
            :IN_FLIGHT
        ] or first_events[:IN_FLIGHT]
        passed = [each for each in chosen if self.up[now] and each.sequence not in self.bad]
        for each in chosen:
            self.attribution = self.attribution.started(each)
        for each in chosen:
            if each in passed:
                self.attribution, own = self.attribution.delivered(each, at=now + 0.1)
                waiting[int(each.key)].pop(0)
                self.delivered[int(each.key)].append(each.sequence)
            else:
                self.attribution, own = self.attribution.failed(each, TIMED_OUT, began=now)
            self.attributed.update(names(own))
            if own and not passed:
                self.attributed_while_down += 1


@settings(deadline=None)
@given(
    st.lists(st.booleans(), min_size=1, max_size=30),
    st.dictionaries(st.integers(0, 9), st.integers(1, 3), min_size=1),
    st.sets(st.integers(0, 9), max_size=3),
)
def test_order_is_kept_and_failures_count_against_events_only_while_others_are_delivered(
    up: list[bool], sizes: dict[int, int], bad_keys: set[int]
) -> None:
    waiting = {key: [100 * key + place for place in range(1, size + 1)] for key, size in sizes.items()}
    total = sum(sizes.values())
    bad = frozenset(100 * key + 1 for key in bad_keys)
    simulation = LinkSimulation([*up, *[True] * (2 * total + 4)], bad)
    for now in range(len(simulation.up)):
        simulation.turn(now, waiting)

    assert simulation.attributed_while_down == 0
    for key, line in simulation.delivered.items():
        assert line == sorted(line), "in order"
        assert len(set(line)) == len(line), "once"
        assert key not in bad_keys, "nothing passes what its key waits for"
    assert {key for key, line in waiting.items() if line} <= bad_keys, "all others arrive"


@settings(deadline=None)
@given(st.lists(st.floats(0, 100), max_size=MOST_IN_FLIGHT))
def test_an_urgent_event_has_capacity_unless_timely_requests_use_it(ages: list[float]) -> None:
    capacity = send_capacity(ages)
    in_time = sum(age < LATE_SECONDS for age in ages)
    assert capacity.any <= max(0, capacity.urgent) or len(ages) >= IN_FLIGHT
    if in_time < IN_FLIGHT and len(ages) < MOST_IN_FLIGHT:
        assert Priority.URGENT in capacity.priorities
    assert len(ages) + max(capacity.any, capacity.urgent, 0) <= max(MOST_IN_FLIGHT, len(ages))
