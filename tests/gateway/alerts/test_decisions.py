"""Properties of the decisions about notification requests."""

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
    state_after,
)
from process_cosmos_gateway.alerts.steady_clock import Anchor

from .parts import key

TIMES = st.integers(0, 600).map(float)
KEYS = st.builds(key, st.integers(0, 2), st.integers(0, 3), to=st.sampled_from(["cloud", "hook"]))


@st.composite
def request_lists(draw: st.DrawFn) -> list[TrackedRequest]:
    keys = draw(st.lists(KEYS, unique=True))
    requests = []
    for each in keys:
        due = draw(TIMES)
        state = draw(st.sampled_from(RequestState))
        over = state in (RequestState.DELIVERED, RequestState.FAILED)
        requests.append(
            TrackedRequest(
                key=each,
                due=due,
                due_away=min(due, draw(TIMES)),
                state=state,
                settled_at=draw(TIMES) if over else None,
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


def applied(requests: list[TrackedRequest], decision: Decision) -> list[TrackedRequest]:
    states = {request.key: RequestState.QUEUED for request in decision.queue}
    states |= {request.key: RequestState.WITHDRAWN for request in decision.withdraw}
    return [
        replace(request, state=states.get(request.key, request.state))
        for request in requests
        if request not in decision.dropped
    ]


@given(request_lists(), SITUATIONS)
def test_nothing_is_queued_while_requests_are_not_permitted_or_paused(
    requests: list[TrackedRequest], situation: Situation
) -> None:
    decision = decide(requests, situation)
    if not situation.may_request or situation.now < situation.silent_until or situation.now >= situation.until:
        assert not decision.queue


@given(request_lists(), SITUATIONS)
def test_only_waiting_requests_are_queued_and_never_early_while_home_assistant_is_present(
    requests: list[TrackedRequest], situation: Situation
) -> None:
    situation = replace(situation, home_assistant_away=False)
    for request in decide(requests, situation).queue:
        assert request.state is RequestState.WAITING
        assert request.due <= situation.now


@given(request_lists(), SITUATIONS)
def test_an_absent_home_assistant_never_delays_a_request(requests: list[TrackedRequest], situation: Situation) -> None:
    there = decide(requests, replace(situation, home_assistant_away=False))
    away = decide(requests, replace(situation, home_assistant_away=True))
    over = {request.key for request in (*away.queue, *away.dropped)}
    held_by_order = {
        request.key
        for request in requests
        if request.state is RequestState.WAITING and request.due_away <= situation.now
    }
    assert {request.key for request in there.queue} <= over | held_by_order
    assert {request.key for request in there.dropped} <= over


@given(request_lists(), SITUATIONS)
def test_each_recipient_is_notified_once_per_level_and_not_twice_a_minute(
    requests: list[TrackedRequest], situation: Situation
) -> None:
    decision = decide(requests, situation)
    series = [(request.key.level, request.key.recipient) for request in decision.queue]
    assert len(series) == len(set(series))
    for request in requests:
        if request.state is RequestState.DELIVERED and (request.key.level, request.key.recipient) in series:
            assert request.settled_at is not None
            assert request.settled_at + ROUND_GAP <= situation.now


@given(request_lists(), SITUATIONS)
def test_requests_are_queued_in_the_order_of_levels_and_rounds(
    requests: list[TrackedRequest], situation: Situation
) -> None:
    places = [(request.key.level, request.key.round) for request in decide(requests, situation).queue]
    assert places == sorted(places)


@given(request_lists(), SITUATIONS)
def test_decisions_settle_and_name_the_next_check(requests: list[TrackedRequest], situation: Situation) -> None:
    for _ in range(len(requests) + 1):
        decision = decide(requests, situation)
        requests = applied(requests, decision)
        if not decision.queue:
            break
    decision = decide(requests, situation)
    assert not decision.queue
    assert not decision.dropped
    waiting = [request for request in requests if request.state is RequestState.WAITING]
    assert (decision.next_check is not None) == bool(waiting)
    if decision.next_check is not None:
        assert decision.next_check > situation.now
        if decision.next_check < situation.until:
            assert not decide(requests, replace(situation, now=(situation.now + decision.next_check) / 2)).queue


@given(request_lists(), SITUATIONS)
def test_every_recipient_is_notified_in_the_end_if_nothing_pauses_requests(
    requests: list[TrackedRequest], situation: Situation
) -> None:
    """Each waiting series queues its newest round before the alert closes: no level starves."""
    situation = replace(situation, until=1e6, silent_until=float("-inf"), may_request=True)
    waiting = {
        (request.key.level, request.key.recipient) for request in requests if request.state is RequestState.WAITING
    }
    requested = set()
    next_check: float | None = situation.now
    while next_check is not None:
        situation = replace(situation, now=next_check)
        while (decision := decide(requests, situation)).queue:
            requested |= {(request.key.level, request.key.recipient) for request in decision.queue}
            delivered = {request.key for request in decision.queue}
            requests = [
                replace(request, state=RequestState.DELIVERED, settled_at=situation.now)
                if request.key in delivered
                else request
                for request in applied(requests, decision)
            ]
        requests = applied(requests, decision)
        next_check = decision.next_check
    assert requested == waiting


@given(request_lists(), request_lists())
def test_a_newer_list_leaves_no_older_request_to_be_sent(
    requests: list[TrackedRequest], newer: list[TrackedRequest]
) -> None:
    newer = [replace(request, state=RequestState.WAITING, settled_at=None) for request in newer]
    old = {request.key: request for request in requests}
    replacement = replace_requests(old, newer)
    after = old | {request.key: request for request in replacement.saved}
    after |= {request.key: replace(request, state=RequestState.WITHDRAWN) for request in replacement.withdraw}
    for request in replacement.dropped:
        del after[request.key]
    wanted = {request.key: request for request in newer}
    for request in after.values():
        if request.state is RequestState.WAITING:
            assert request == wanted[request.key]
        if request.state is RequestState.FAILED:
            assert request.key in wanted
    for each in wanted:
        if each in old and old[each].state in (RequestState.QUEUED, RequestState.DELIVERED, RequestState.FAILED):
            assert after[each] == old[each]


def test_an_outcome_only_ever_improves() -> None:
    assert state_after(RequestState.QUEUED, reached=False) is RequestState.FAILED
    assert state_after(RequestState.FAILED, reached=True) is RequestState.DELIVERED
    assert state_after(RequestState.WITHDRAWN, reached=True) is RequestState.DELIVERED
    assert state_after(RequestState.DELIVERED, reached=False) is None
    assert state_after(RequestState.FAILED, reached=False) is None
    assert state_after(RequestState.WITHDRAWN, reached=False) is None


@given(st.lists(st.tuples(st.floats(0, 3600), st.sampled_from([0.0, 30.0, -30.0, 61.0, -7200.0, 3e8]))))
def test_steady_time_follows_the_monotonic_clock_however_the_wall_clock_is_set(
    steps: list[tuple[float, float]],
) -> None:
    wall, monotonic = 1.7e9, 0.0
    anchor = Anchor(wall=wall, monotonic=monotonic, offset=0.0)
    start = wall
    for passed, jump in steps:
        wall += passed + jump
        monotonic += passed
        anchor = anchor.at(wall, monotonic)
        assert abs((wall - anchor.offset) - (start + monotonic)) <= 60.001


def test_a_newer_round_of_the_same_series_withdraws_the_older_one() -> None:
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
