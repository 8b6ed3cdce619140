"""The decisions about asks, for any asks at any time."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from process_cosmos_gateway.alerts.notification_requests import (
    ROUND_GAP,
    Decision,
    RequestState,
    Situation,
    TrackedRequest,
    decide,
    replace_requests,
    settled,
)
from process_cosmos_gateway.alerts.steady_clock import Anchor

from .parts import key

TIMES = st.integers(0, 600).map(float)
KEYS = st.builds(key, st.integers(0, 2), st.integers(0, 3), to=st.sampled_from(["cloud", "hook"]))


@st.composite
def ask_lists(fetch: st.DrawFn) -> list[TrackedRequest]:
    keys = fetch(st.lists(KEYS, unique=True))
    requests = []
    for tell in keys:
        due = fetch(TIMES)
        state = fetch(st.sampled_from(RequestState))
        over = state in (RequestState.DELIVERED, RequestState.FAILED)
        requests.append(
            TrackedRequest(
                key=tell,
                due=due,
                due_away=min(due, fetch(TIMES)),
                state=state,
                settled_at=fetch(TIMES) if over else None,
            )
        )
    return requests


SITUATIONS = st.builds(
    Situation,
    now=TIMES,
    until=TIMES,
    silent_until=st.one_of(st.just(float("-inf")), TIMES),
    home_assistant_away=st.booleans(),
    may_request=st.booleans(),
)


def carried_out(requests: list[TrackedRequest], decision: Decision) -> list[TrackedRequest]:
    states = {request.key: RequestState.QUEUED for request in decision.queue}
    states |= {request.key: RequestState.WITHDRAWN for request in decision.withdraw}
    return [
        replace(request, state=states.get(request.key, request.state))
        for request in requests
        if request not in decision.gone
    ]


@given(ask_lists(), SITUATIONS)
def test_nothing_is_queued_while_a_gate_is_closed(requests: list[TrackedRequest], situation: Situation) -> None:
    decision = decide(requests, situation)
    if not situation.may_request or situation.now < situation.silent_until or situation.now >= situation.until:
        assert not decision.queue


@given(ask_lists(), SITUATIONS)
def test_only_waiting_asks_are_queued_and_never_before_their_time_while_home_assistant_is_there(
    requests: list[TrackedRequest], situation: Situation
) -> None:
    situation = replace(situation, home_assistant_away=False)
    for request in decide(requests, situation).queue:
        assert request.state is RequestState.WAITING
        assert request.due <= situation.now


@given(ask_lists(), SITUATIONS)
def test_home_assistant_being_away_never_makes_an_ask_later(
    requests: list[TrackedRequest], situation: Situation
) -> None:
    there = decide(requests, replace(situation, home_assistant_away=False))
    away = decide(requests, replace(situation, home_assistant_away=True))
    over = {request.key for request in (*away.queue, *away.gone)}
    held_by_order = {
        request.key
        for request in requests
        if request.state is RequestState.WAITING and request.due_away <= situation.now
    }
    assert {request.key for request in there.queue} <= over | held_by_order
    assert {request.key for request in there.gone} <= over


@given(ask_lists(), SITUATIONS)
def test_each_recipient_hears_of_a_level_once_and_not_twice_a_minute(
    requests: list[TrackedRequest], situation: Situation
) -> None:
    decision = decide(requests, situation)
    lines = [(request.key.level, request.key.recipient) for request in decision.queue]
    assert len(lines) == len(set(lines))
    for request in requests:
        if request.state is RequestState.DELIVERED and (request.key.level, request.key.recipient) in lines:
            assert request.settled_at is not None
            assert request.settled_at + ROUND_GAP <= situation.now


@given(ask_lists(), SITUATIONS)
def test_asks_go_in_the_order_of_levels_and_rounds(requests: list[TrackedRequest], situation: Situation) -> None:
    places = [(request.key.level, request.key.round) for request in decide(requests, situation).queue]
    assert places == sorted(places)


@given(ask_lists(), SITUATIONS)
def test_deciding_comes_to_rest_and_says_when_to_look_again(
    requests: list[TrackedRequest], situation: Situation
) -> None:
    for _ in range(len(requests) + 1):
        decision = decide(requests, situation)
        requests = carried_out(requests, decision)
        if not decision.queue:
            break
    decision = decide(requests, situation)
    assert not decision.queue
    assert not decision.gone
    waiting = [request for request in requests if request.state is RequestState.WAITING]
    assert (decision.look_again is not None) == bool(waiting)
    if decision.look_again is not None:
        assert decision.look_again > situation.now
        if decision.look_again < situation.until:
            assert not decide(requests, replace(situation, now=(situation.now + decision.look_again) / 2)).queue


@given(ask_lists(), SITUATIONS)
def test_with_open_gates_and_time_enough_every_line_is_asked_in_the_end(
    requests: list[TrackedRequest], situation: Situation
) -> None:
    """Whoever has an ask waiting is asked its newest round before the give-up: no gate starves a level."""
    situation = replace(situation, until=1e6, silent_until=float("-inf"), may_request=True)
    waiting = {
        (request.key.level, request.key.recipient) for request in requests if request.state is RequestState.WAITING
    }
    requested = set()
    look_again: float | None = situation.now
    while look_again is not None:
        situation = replace(situation, now=look_again)
        while (decision := decide(requests, situation)).queue:
            requested |= {(request.key.level, request.key.recipient) for request in decision.queue}
            delivered = {request.key for request in decision.queue}
            requests = [
                replace(request, state=RequestState.DELIVERED, settled_at=situation.now)
                if request.key in delivered
                else request
                for request in carried_out(requests, decision)
            ]
        requests = carried_out(requests, decision)
        look_again = decision.look_again
    assert requested == waiting


@given(ask_lists(), ask_lists())
def test_a_newer_list_leaves_nothing_of_the_older_to_be_asked(
    requests: list[TrackedRequest], newer: list[TrackedRequest]
) -> None:
    newer = [replace(request, state=RequestState.WAITING, settled_at=None) for request in newer]
    old = {request.key: request for request in requests}
    replacement = replace_requests(old, newer)
    after = old | {request.key: request for request in replacement.kept}
    after |= {request.key: replace(request, state=RequestState.WITHDRAWN) for request in replacement.withdraw}
    for request in replacement.gone:
        del after[request.key]
    wanted = {request.key: request for request in newer}
    for request in after.values():
        if request.state is RequestState.WAITING:
            assert request == wanted[request.key]
        if request.state is RequestState.FAILED:
            assert request.key in wanted
    for tell in wanted:
        if tell in old and old[tell].state in (RequestState.QUEUED, RequestState.DELIVERED, RequestState.FAILED):
            assert after[tell] == old[tell]


def test_an_outcome_is_only_ever_bettered() -> None:
    assert settled(RequestState.QUEUED, reached=False) is RequestState.FAILED
    assert settled(RequestState.FAILED, reached=True) is RequestState.DELIVERED
    assert settled(RequestState.WITHDRAWN, reached=True) is RequestState.DELIVERED
    assert settled(RequestState.DELIVERED, reached=False) is None
    assert settled(RequestState.FAILED, reached=False) is None
    assert settled(RequestState.WITHDRAWN, reached=False) is None


@given(st.lists(st.tuples(st.floats(0, 3600), st.sampled_from([0.0, 30.0, -30.0, 61.0, -7200.0, 3e8]))))
def test_steady_time_goes_with_the_monotonic_clock_whatever_is_set(steps: list[tuple[float, float]]) -> None:
    wall, monotonic = 1.7e9, 0.0
    anchor = Anchor(wall=wall, monotonic=monotonic, offset=0.0)
    start = wall
    for passed, jump in steps:
        wall += passed + jump
        monotonic += passed
        anchor = anchor.at(wall, monotonic)
        assert abs((wall - anchor.offset) - (start + monotonic)) <= 60.001


def test_keys_of_a_line_differ_only_in_the_round() -> None:
    requests = [
        TrackedRequest(
            key=key(number=number),
            due=0,
            due_away=0,
            state=RequestState.QUEUED if number == 0 else RequestState.WAITING,
        )
        for number in range(2)
    ]
    situation = Situation(now=10, until=100, silent_until=float("-inf"), home_assistant_away=False, may_request=True)
    decision = decide(requests, situation)
    assert [request.key for request in decision.queue] == [key(number=1)]
    assert [request.key for request in decision.withdraw] == [key()]
