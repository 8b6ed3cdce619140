"""The decisions about asks, for any asks at any time."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from process_cosmos_gateway.alerts.notification_requests import (
    ROUND_GAP,
    Ask,
    AskState,
    Decision,
    Situation,
    decide,
    replace_asks,
    settled,
)
from process_cosmos_gateway.alerts.steady_clock import Anchor

from .parts import key

TIMES = st.integers(0, 600).map(float)
KEYS = st.builds(key, st.integers(0, 2), st.integers(0, 3), to=st.sampled_from(["cloud", "hook"]))


@st.composite
def ask_lists(draw: st.DrawFn) -> list[Ask]:
    keys = draw(st.lists(KEYS, unique=True))
    asks = []
    for tell in keys:
        due = draw(TIMES)
        state = draw(st.sampled_from(AskState))
        over = state in (AskState.DELIVERED, AskState.FAILED)
        asks.append(
            Ask(
                key=tell, due=due, due_away=min(due, draw(TIMES)), state=state, settled_at=draw(TIMES) if over else None
            )
        )
    return asks


SITUATIONS = st.builds(
    Situation,
    now=TIMES,
    until=TIMES,
    silent_until=st.one_of(st.just(float("-inf")), TIMES),
    home_assistant_away=st.booleans(),
    may_ask=st.booleans(),
)


def carried_out(asks: list[Ask], decision: Decision) -> list[Ask]:
    states = {ask.key: AskState.QUEUED for ask in decision.queue}
    states |= {ask.key: AskState.WITHDRAWN for ask in decision.withdraw}
    return [replace(ask, state=states.get(ask.key, ask.state)) for ask in asks if ask not in decision.gone]


@given(ask_lists(), SITUATIONS)
def test_nothing_is_queued_while_a_gate_is_closed(asks: list[Ask], situation: Situation) -> None:
    decision = decide(asks, situation)
    if not situation.may_ask or situation.now < situation.silent_until or situation.now >= situation.until:
        assert not decision.queue


@given(ask_lists(), SITUATIONS)
def test_only_waiting_asks_are_queued_and_never_before_their_time_while_home_assistant_is_there(
    asks: list[Ask], situation: Situation
) -> None:
    situation = replace(situation, home_assistant_away=False)
    for ask in decide(asks, situation).queue:
        assert ask.state is AskState.WAITING
        assert ask.due <= situation.now


@given(ask_lists(), SITUATIONS)
def test_home_assistant_being_away_never_makes_an_ask_later(asks: list[Ask], situation: Situation) -> None:
    there = decide(asks, replace(situation, home_assistant_away=False))
    away = decide(asks, replace(situation, home_assistant_away=True))
    over = {ask.key for ask in (*away.queue, *away.gone)}
    held_by_order = {ask.key for ask in asks if ask.state is AskState.WAITING and ask.due_away <= situation.now}
    assert {ask.key for ask in there.queue} <= over | held_by_order
    assert {ask.key for ask in there.gone} <= over


@given(ask_lists(), SITUATIONS)
def test_each_recipient_hears_of_a_level_once_and_not_twice_a_minute(asks: list[Ask], situation: Situation) -> None:
    decision = decide(asks, situation)
    lines = [(ask.key.level, ask.key.recipient) for ask in decision.queue]
    assert len(lines) == len(set(lines))
    for ask in asks:
        if ask.state is AskState.DELIVERED and (ask.key.level, ask.key.recipient) in lines:
            assert ask.settled_at is not None
            assert ask.settled_at + ROUND_GAP <= situation.now


@given(ask_lists(), SITUATIONS)
def test_asks_go_in_the_order_of_levels_and_rounds(asks: list[Ask], situation: Situation) -> None:
    places = [(ask.key.level, ask.key.round) for ask in decide(asks, situation).queue]
    assert places == sorted(places)


@given(ask_lists(), SITUATIONS)
def test_deciding_comes_to_rest_and_says_when_to_look_again(asks: list[Ask], situation: Situation) -> None:
    for _ in range(len(asks) + 1):
        decision = decide(asks, situation)
        asks = carried_out(asks, decision)
        if not decision.queue:
            break
    decision = decide(asks, situation)
    assert not decision.queue
    assert not decision.gone
    waiting = [ask for ask in asks if ask.state is AskState.WAITING]
    assert (decision.look_again is not None) == bool(waiting)
    if decision.look_again is not None:
        assert decision.look_again > situation.now
        if decision.look_again < situation.until:
            assert not decide(asks, replace(situation, now=(situation.now + decision.look_again) / 2)).queue


@given(ask_lists(), SITUATIONS)
def test_with_open_gates_and_time_enough_every_line_is_asked_in_the_end(asks: list[Ask], situation: Situation) -> None:
    """Whoever has an ask waiting is asked its newest round before the give-up: no gate starves a level."""
    situation = replace(situation, until=1e6, silent_until=float("-inf"), may_ask=True)
    waiting = {(ask.key.level, ask.key.recipient) for ask in asks if ask.state is AskState.WAITING}
    asked = set()
    look_again: float | None = situation.now
    while look_again is not None:
        situation = replace(situation, now=look_again)
        while (decision := decide(asks, situation)).queue:
            asked |= {(ask.key.level, ask.key.recipient) for ask in decision.queue}
            delivered = {ask.key for ask in decision.queue}
            asks = [
                replace(ask, state=AskState.DELIVERED, settled_at=situation.now) if ask.key in delivered else ask
                for ask in carried_out(asks, decision)
            ]
        asks = carried_out(asks, decision)
        look_again = decision.look_again
    assert asked == waiting


@given(ask_lists(), ask_lists())
def test_a_newer_list_leaves_nothing_of_the_older_to_be_asked(asks: list[Ask], newer: list[Ask]) -> None:
    newer = [replace(ask, state=AskState.WAITING, settled_at=None) for ask in newer]
    old = {ask.key: ask for ask in asks}
    replacement = replace_asks(old, newer)
    after = old | {ask.key: ask for ask in replacement.kept}
    after |= {ask.key: replace(ask, state=AskState.WITHDRAWN) for ask in replacement.withdraw}
    for ask in replacement.gone:
        del after[ask.key]
    wanted = {ask.key: ask for ask in newer}
    for ask in after.values():
        if ask.state is AskState.WAITING:
            assert ask == wanted[ask.key]
        if ask.state is AskState.FAILED:
            assert ask.key in wanted
    for tell in wanted:
        if tell in old and old[tell].state in (AskState.QUEUED, AskState.DELIVERED, AskState.FAILED):
            assert after[tell] == old[tell]


def test_an_outcome_is_only_ever_bettered() -> None:
    assert settled(AskState.QUEUED, reached=False) is AskState.FAILED
    assert settled(AskState.FAILED, reached=True) is AskState.DELIVERED
    assert settled(AskState.WITHDRAWN, reached=True) is AskState.DELIVERED
    assert settled(AskState.DELIVERED, reached=False) is None
    assert settled(AskState.FAILED, reached=False) is None
    assert settled(AskState.WITHDRAWN, reached=False) is None


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
    asks = [
        Ask(key=key(number=number), due=0, due_away=0, state=AskState.QUEUED if number == 0 else AskState.WAITING)
        for number in range(2)
    ]
    situation = Situation(now=10, until=100, silent_until=float("-inf"), home_assistant_away=False, may_ask=True)
    decision = decide(asks, situation)
    assert [ask.key for ask in decision.queue] == [key(number=1)]
    assert [ask.key for ask in decision.withdraw] == [key()]
