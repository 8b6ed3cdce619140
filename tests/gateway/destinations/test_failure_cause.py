"""Whose fault a failure is: played against links that are up and down, and events that always fail."""

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
    MOST_IN_FLIGHT,
    MOST_SUSPECTS,
    MOST_TRIED,
    Blame,
    key_of,
    room,
)
from process_cosmos_gateway.outbox import Delivery, Failed

from .parts import delivery

TIMED_OUT = Down(reason="timeout", of_event=True)
A, B, C = (delivery(number) for number in (1, 2, 3))


def names(failures: Sequence[tuple[Delivery, Failed]]) -> list[int]:
    return [each.sequence for each, _ in failures]


def test_a_failure_while_another_passed_is_the_events_own() -> None:
    blame, own = Blame().started(A).started(B).passed(B, at=5.0)
    blame, own = blame.failed(A, TIMED_OUT, began=1.0)
    assert own == [(A, Failed("timeout"))]
    assert not blame.suspects


def test_a_failure_is_the_events_own_if_the_next_of_another_key_passes() -> None:
    blame, own = Blame().failed(A, TIMED_OUT, began=1.0)
    assert (own, blame.is_of_link) == ([], False)
    blame, own = blame.passed(B, at=30.0)
    assert names(own) == [1]
    assert not blame.suspects


def test_failures_of_two_keys_are_the_links_and_charged_to_nobody() -> None:
    blame, _ = Blame().failed(A, TIMED_OUT, began=1.0)
    blame, own = blame.failed(B, TIMED_OUT, began=2.0)
    assert (own, blame.is_of_link) == ([], True)
    assert blame.passed(C, at=60.0)[1] == []


def test_an_event_that_passes_in_its_next_try_was_not_at_fault() -> None:
    blame, _ = Blame().failed(A, TIMED_OUT, began=1.0)
    _, own = blame.started(A).passed(A, at=40.0)
    assert own == []


def test_what_is_remembered_of_an_outage_does_not_grow_with_it() -> None:
    blame = Blame()
    for number in range(1, 2 * MOST_TRIED):
        blame, _ = blame.failed(delivery(number), TIMED_OUT, began=1.0)
    assert (len(blame.suspects), len(blame.tried)) == (MOST_SUSPECTS, MOST_TRIED)
    blame, _ = blame.passed(C, at=60.0)
    assert (blame.suspects, blame.tried) == ({}, ())


@dataclass
class Play:
    """A link that is up at times, and events of which some always fail; one request of a key at a time."""

    up: Sequence[bool]
    bad: frozenset[int]
    blame: Blame = field(default_factory=Blame)
    charged: Counter[int] = field(default_factory=Counter)
    charged_while_down: int = 0
    delivered: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))

    def turn(self, now: int, waiting: Mapping[int, list[int]]) -> None:
        """Send the first event of each key that has not failed, else of all; each turn takes one unit of time."""
        heads = [delivery(line[0], key=str(key)) for key, line in waiting.items() if line]
        chosen = [each for each in heads if key_of(each) not in self.blame.tried][:IN_FLIGHT] or heads[:IN_FLIGHT]
        passed = [each for each in chosen if self.up[now] and each.sequence not in self.bad]
        for each in chosen:
            self.blame = self.blame.started(each)
        for each in chosen:
            if each in passed:
                self.blame, own = self.blame.passed(each, at=now + 0.1)
                waiting[int(each.key)].pop(0)
                self.delivered[int(each.key)].append(each.sequence)
            else:
                self.blame, own = self.blame.failed(each, TIMED_OUT, began=now)
            self.charged.update(names(own))
            if own and not passed:
                self.charged_while_down += 1


@settings(deadline=None)
@given(
    st.lists(st.booleans(), min_size=1, max_size=30),
    st.dictionaries(st.integers(0, 9), st.integers(1, 3), min_size=1),
    st.sets(st.integers(0, 9), max_size=3),
)
def test_whatever_the_link_does_order_holds_and_only_while_others_pass_is_anything_charged(
    up: list[bool], sizes: dict[int, int], bad_keys: set[int]
) -> None:
    waiting = {key: [100 * key + place for place in range(1, size + 1)] for key, size in sizes.items()}
    total = sum(sizes.values())
    bad = frozenset(100 * key + 1 for key in bad_keys)
    play = Play([*up, *[True] * (2 * total + 4)], bad)
    for now in range(len(play.up)):
        play.turn(now, waiting)

    assert play.charged_while_down == 0
    for key, line in play.delivered.items():
        assert line == sorted(line), "in order"
        assert len(set(line)) == len(line), "once"
        assert key not in bad_keys, "nothing passes what its key waits for"
    assert {key for key, line in waiting.items() if line} <= bad_keys, "all others arrive"


@settings(deadline=None)
@given(st.lists(st.floats(0, 100), max_size=MOST_IN_FLIGHT))
def test_there_is_room_for_an_alarm_but_behind_requests_that_are_in_time(ages: list[float]) -> None:
    space = room(ages)
    in_time = sum(age < LATE_SECONDS for age in ages)
    assert space.any <= max(0, space.alarms) or len(ages) >= IN_FLIGHT
    if in_time < IN_FLIGHT and len(ages) < MOST_IN_FLIGHT:
        assert Priority.URGENT in space.priorities
    assert len(ages) + max(space.any, space.alarms, 0) <= max(MOST_IN_FLIGHT, len(ages))
