"""What is to be done about asks: decisions on values, without I/O."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from process_cosmos_gateway.contract.identifiers import TellKey

ROUND_GAP = 60.0
"""Seconds between a delivered round and the next of the same ring, level and destination."""


class AskState(StrEnum):
    """An ask that is over before it was queued is gone: it has no state."""

    WAITING = "waiting"
    QUEUED = "queued"
    DELIVERED = "delivered"
    FAILED = "failed"
    WITHDRAWN = "withdrawn"


_UNDER_WAY = (AskState.QUEUED, AskState.FAILED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One ask; times are steady.

    ``due_away`` counts while Home Assistant is away. ``settled_at``: when the destination answered.
    """

    key: TellKey
    due: float
    due_away: float
    state: AskState = AskState.WAITING
    settled_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What bears on the asks of one living alert; times are steady.

    ``silent_until``: the end of an acknowledgement or of the pause a proposal makes. ``may_ask``: no session with the
    integration is catching up.
    """

    now: float
    until: float
    silent_until: float
    home_assistant_away: bool
    may_ask: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What to do now, and when to look again (None: not before something happens)."""

    queue: Sequence[Ask] = ()
    gone: Sequence[Ask] = ()
    withdraw: Sequence[Ask] = ()
    look_again: float | None = None


def decide(asks: Collection[Ask], situation: Situation) -> Decision:
    """Decide on the asks of one living alert."""
    waiting = [ask for ask in asks if ask.state is AskState.WAITING]
    if situation.now >= situation.until:
        return Decision(gone=waiting)
    times = {ask.key: _effective_due(ask, asks, situation) for ask in waiting}
    due = [ask for ask in waiting if times[ask.key] <= situation.now]
    gone = [ask for ask in due if _has_newer_round(ask, due)]
    due = [ask for ask in due if ask not in gone]
    look = [time for time in times.values() if time > situation.now]
    queue: Sequence[Ask] = ()
    if due and situation.may_ask:
        if situation.now < situation.silent_until:
            look.append(situation.silent_until)
        else:
            opens = {ask.key: _gap_ends(ask, asks) for ask in due}
            queue = _in_order(due, opens, situation.now)
            look += [time for time in opens.values() if time > situation.now]
    return Decision(
        queue=queue,
        gone=gone,
        withdraw=[ask for ask in asks if ask.state in _UNDER_WAY and _has_newer_round(ask, queue)],
        look_again=min([*look, situation.until]) if waiting else None,
    )


def _effective_due(ask: Ask, asks: Collection[Ask], situation: Situation) -> float:
    if not situation.home_assistant_away:
        return ask.due
    if _is_next_after_nobody(ask, asks):
        return min(ask.due, ask.due_away, situation.now)
    return min(ask.due, ask.due_away)


def _is_next_after_nobody(ask: Ask, asks: Collection[Ask]) -> bool:
    """Say whether ``ask`` is the first round of a level whose predecessor has reached nobody."""
    of_ring = [other for other in asks if other.key.ring == ask.key.ring]
    lower = [other.key.level for other in of_ring if other.key.level < ask.key.level]
    if not lower:
        return False
    first = min(other.key.round for other in of_ring if other.key.level == ask.key.level)
    return ask.key.round == first and _reached_nobody([other for other in of_ring if other.key.level == max(lower)])


def _reached_nobody(level: Sequence[Ask]) -> bool:
    if any(ask.state in (AskState.QUEUED, AskState.DELIVERED) for ask in level):
        return False
    failed = {ask.key.recipient for ask in level if ask.state is AskState.FAILED}
    return failed == {ask.key.recipient for ask in level}


def _line(key: TellKey) -> tuple[int, int, str]:
    """Return what the rounds of one recipient have in common."""
    return key.ring, key.level, key.recipient


def _has_newer_round(ask: Ask, others: Iterable[Ask]) -> bool:
    return any(_line(other.key) == _line(ask.key) and other.key.round > ask.key.round for other in others)


def _gap_ends(ask: Ask, asks: Collection[Ask]) -> float:
    delivered = [
        other.settled_at
        for other in asks
        if other.state is AskState.DELIVERED and other.settled_at is not None and _line(other.key) == _line(ask.key)
    ]
    return max(delivered) + ROUND_GAP if delivered else float("-inf")


def _in_order(due: Sequence[Ask], opens: Mapping[TellKey, float], now: float) -> Sequence[Ask]:
    """Return what may go now: nothing passes an earlier level or round that has to wait."""
    ordered = sorted(due, key=lambda ask: (ask.key.level, ask.key.round, ask.key.recipient))
    held = [(ask.key.level, ask.key.round) for ask in ordered if opens[ask.key] > now]
    return [
        ask for ask in ordered if opens[ask.key] <= now and not (held and min(held) < (ask.key.level, ask.key.round))
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Replacement:
    """What a newer list does to the asks: ``kept`` is written, ``gone`` deleted, ``withdraw`` taken back."""

    kept: Sequence[Ask] = ()
    gone: Sequence[Ask] = ()
    withdraw: Sequence[Ask] = ()


def replace_asks(asks: Mapping[TellKey, Ask], newer: Iterable[Ask]) -> Replacement:
    """Replace the list: what it lacks is over; what is under way or delivered stays what it is."""
    wanted = {ask.key: ask for ask in newer}
    over = [ask for key, ask in asks.items() if key not in wanted]
    open_states = (AskState.WAITING, AskState.WITHDRAWN)
    return Replacement(
        kept=[ask for key, ask in wanted.items() if key not in asks or asks[key].state in open_states],
        gone=[ask for ask in over if ask.state is AskState.WAITING],
        withdraw=[ask for ask in over if ask.state in _UNDER_WAY],
    )


def settled(state: AskState, *, reached: bool) -> AskState | None:
    """Return the state after a destination answered; None: as before.

    A late success replaces whatever was thought meanwhile: also that an ask withdrawn on its way waits again.
    """
    if reached:
        return None if state is AskState.DELIVERED else AskState.DELIVERED
    return AskState.FAILED if state is AskState.QUEUED else None
