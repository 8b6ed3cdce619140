"""What is to be done about asks: decisions on values, without I/O."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from process_cosmos_gateway.contract.identifiers import NotificationKey

ROUND_GAP = 60.0
"""Seconds between a delivered round and the next of the same ring, level and destination."""


class RequestState(StrEnum):
    """An ask that is over before it was queued is gone: it has no state."""

    WAITING = "waiting"
    QUEUED = "queued"
    DELIVERED = "delivered"
    FAILED = "failed"
    WITHDRAWN = "withdrawn"


_UNDER_WAY = (RequestState.QUEUED, RequestState.FAILED)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackedRequest:
    """One ask; times are steady.

    ``due_away`` counts while Home Assistant is away. ``settled_at``: when the destination answered.
    """

    key: NotificationKey
    due: float
    due_away: float
    state: RequestState = RequestState.WAITING
    settled_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What bears on the asks of one living alert; times are steady.

    ``silent_until``: the end of an acknowledgement or of the pause a proposal makes. ``may_request``: no session with the
    integration is catching up.
    """

    now: float
    until: float
    silent_until: float
    home_assistant_away: bool
    may_request: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What to do now, and when to look again (None: not before something happens)."""

    queue: Sequence[TrackedRequest] = ()
    gone: Sequence[TrackedRequest] = ()
    withdraw: Sequence[TrackedRequest] = ()
    look_again: float | None = None


def decide(requests: Collection[TrackedRequest], situation: Situation) -> Decision:
    """Decide on the asks of one living alert."""
    waiting = [request for request in requests if request.state is RequestState.WAITING]
    if situation.now >= situation.until:
        return Decision(gone=waiting)
    times = {request.key: _effective_due(request, requests, situation) for request in waiting}
    due = [request for request in waiting if times[request.key] <= situation.now]
    gone = [request for request in due if _has_newer_round(request, due)]
    due = [request for request in due if request not in gone]
    look = [time for time in times.values() if time > situation.now]
    queue: Sequence[TrackedRequest] = ()
    if due and situation.may_request:
        if situation.now < situation.silent_until:
            look.append(situation.silent_until)
        else:
            opens = {request.key: _gap_ends(request, requests) for request in due}
            queue = _in_order(due, opens, situation.now)
            look += [time for time in opens.values() if time > situation.now]
    return Decision(
        queue=queue,
        gone=gone,
        withdraw=[request for request in requests if request.state in _UNDER_WAY and _has_newer_round(request, queue)],
        look_again=min([*look, situation.until]) if waiting else None,
    )


def _effective_due(request: TrackedRequest, requests: Collection[TrackedRequest], situation: Situation) -> float:
    if not situation.home_assistant_away:
        return request.due
    if _is_next_after_nobody(request, requests):
        return min(request.due, request.due_away, situation.now)
    return min(request.due, request.due_away)


def _is_next_after_nobody(request: TrackedRequest, requests: Collection[TrackedRequest]) -> bool:
    """Say whether ``request`` is the first round of a level whose predecessor has reached nobody."""
    of_revision = [other for other in requests if other.key.revision == request.key.revision]
    lower = [other.key.level for other in of_revision if other.key.level < request.key.level]
    if not lower:
        return False
    first = min(other.key.round for other in of_revision if other.key.level == request.key.level)
    return request.key.round == first and _reached_nobody(
        [other for other in of_revision if other.key.level == max(lower)]
    )


def _reached_nobody(level: Sequence[TrackedRequest]) -> bool:
    if any(request.state in (RequestState.QUEUED, RequestState.DELIVERED) for request in level):
        return False
    failed = {request.key.recipient for request in level if request.state is RequestState.FAILED}
    return failed == {request.key.recipient for request in level}


def _line(key: NotificationKey) -> tuple[int, int, str]:
    """Return what the rounds of one recipient have in common."""
    return key.revision, key.level, key.recipient


def _has_newer_round(request: TrackedRequest, others: Iterable[TrackedRequest]) -> bool:
    return any(_line(other.key) == _line(request.key) and other.key.round > request.key.round for other in others)


def _gap_ends(request: TrackedRequest, requests: Collection[TrackedRequest]) -> float:
    delivered = [
        other.settled_at
        for other in requests
        if other.state is RequestState.DELIVERED
        and other.settled_at is not None
        and _line(other.key) == _line(request.key)
    ]
    return max(delivered) + ROUND_GAP if delivered else float("-inf")


def _in_order(
    due: Sequence[TrackedRequest], opens: Mapping[NotificationKey, float], now: float
) -> Sequence[TrackedRequest]:
    """Return what may go now: nothing passes an earlier level or round that has to wait."""
    ordered = sorted(due, key=lambda request: (request.key.level, request.key.round, request.key.recipient))
    held = [(request.key.level, request.key.round) for request in ordered if opens[request.key] > now]
    return [
        request
        for request in ordered
        if opens[request.key] <= now and not (held and min(held) < (request.key.level, request.key.round))
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Replacement:
    """What a newer list does to the asks: ``kept`` is written, ``gone`` deleted, ``withdraw`` taken back."""

    kept: Sequence[TrackedRequest] = ()
    gone: Sequence[TrackedRequest] = ()
    withdraw: Sequence[TrackedRequest] = ()


def replace_requests(
    requests: Mapping[NotificationKey, TrackedRequest], newer: Iterable[TrackedRequest]
) -> Replacement:
    """Replace the list: what it lacks is over; what is under way or delivered stays what it is."""
    wanted = {request.key: request for request in newer}
    over = [request for key, request in requests.items() if key not in wanted]
    open_states = (RequestState.WAITING, RequestState.WITHDRAWN)
    return Replacement(
        kept=[request for key, request in wanted.items() if key not in requests or requests[key].state in open_states],
        gone=[request for request in over if request.state is RequestState.WAITING],
        withdraw=[request for request in over if request.state in _UNDER_WAY],
    )


def settled(state: RequestState, *, reached: bool) -> RequestState | None:
    """Return the state after a destination answered; None: as before.

    A late success replaces whatever was thought meanwhile: also that an ask withdrawn on its way waits again.
    """
    if reached:
        return None if state is RequestState.DELIVERED else RequestState.DELIVERED
    return RequestState.FAILED if state is RequestState.QUEUED else None
