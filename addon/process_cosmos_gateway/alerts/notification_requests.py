"""Decisions about notification requests, computed from values without I/O."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from process_cosmos_gateway.contract.identifiers import NotificationKey

ROUND_GAP = 60.0
"""Seconds between a delivered round and the next one of the same revision, level and destination."""


class RequestState(StrEnum):
    """State of a notification request; a request dropped before it was queued is deleted and has none."""

    WAITING = "waiting"
    QUEUED = "queued"
    DELIVERED = "delivered"
    FAILED = "failed"
    WITHDRAWN = "withdrawn"


_UNDER_WAY = (RequestState.QUEUED, RequestState.FAILED)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackedRequest:
    """Notification request and its delivery state; times are steady.

    ``due_away`` applies while Home Assistant is away. ``settled_at``: the time of the delivery result.
    """

    key: NotificationKey
    due: float
    due_away: float
    state: RequestState = RequestState.WAITING
    settled_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """Conditions for the notification requests of one alive alert; times are steady.

    ``until``: the time the alert closes as unanswered. ``silent_until``: the end of an acknowledgement, or of the pause
    caused by a proposal. ``may_request``: deliveries are permitted, which they are not while a session catches up.
    """

    now: float
    until: float
    silent_until: float
    home_assistant_away: bool
    may_request: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Requests to queue, drop and withdraw now, and the time of the next check (None: after the next change)."""

    queue: Sequence[TrackedRequest] = ()
    dropped: Sequence[TrackedRequest] = ()
    withdraw: Sequence[TrackedRequest] = ()
    next_check: float | None = None


def decide(requests: Collection[TrackedRequest], situation: Situation) -> Decision:
    """Return the decision about the notification requests of one alive alert."""
    waiting = [request for request in requests if request.state is RequestState.WAITING]
    if situation.now >= situation.until:
        return Decision(dropped=waiting)
    times = {request.key: _effective_due(request, requests, situation) for request in waiting}
    due = [request for request in waiting if times[request.key] <= situation.now]
    # After a long wait several rounds are due; sending each of them would notify the same people many times at once.
    dropped = [request for request in due if _has_newer_round(request, due)]
    due = [request for request in due if request not in dropped]
    checks = [time for time in times.values() if time > situation.now]
    queue: Sequence[TrackedRequest] = ()
    if due and situation.may_request:
        if situation.now < situation.silent_until:
            checks.append(situation.silent_until)
        else:
            gap_ends = {request.key: _gap_ends(request, requests) for request in due}
            queue = _sendable(due, gap_ends, situation.now)
            checks += [time for time in gap_ends.values() if time > situation.now]
    return Decision(
        queue=queue,
        dropped=dropped,
        withdraw=[request for request in requests if request.state in _UNDER_WAY and _has_newer_round(request, queue)],
        next_check=min([*checks, situation.until]) if waiting else None,
    )


def _effective_due(request: TrackedRequest, requests: Collection[TrackedRequest], situation: Situation) -> float:
    if not situation.home_assistant_away:
        return request.due
    if _follows_unreached_level(request, requests):
        return min(request.due, request.due_away, situation.now)
    return min(request.due, request.due_away)


def _follows_unreached_level(request: TrackedRequest, requests: Collection[TrackedRequest]) -> bool:
    """Return whether ``request`` is the first round of a level whose preceding level reached no recipient."""
    of_revision = [other for other in requests if other.key.revision == request.key.revision]
    lower = [other.key.level for other in of_revision if other.key.level < request.key.level]
    if not lower:
        return False
    # Only the first round: if all rounds became due at once, only the last one would be sent.
    first = min(other.key.round for other in of_revision if other.key.level == request.key.level)
    return request.key.round == first and _reached_none(
        [other for other in of_revision if other.key.level == max(lower)]
    )


def _reached_none(level: Sequence[TrackedRequest]) -> bool:
    # A queued request may still be delivered, so the next level keeps its time.
    if any(request.state in (RequestState.QUEUED, RequestState.DELIVERED) for request in level):
        return False
    failed = {request.key.recipient for request in level if request.state is RequestState.FAILED}
    return failed == {request.key.recipient for request in level}


def _series(key: NotificationKey) -> tuple[int, int, str]:
    """Return the part of the key that the rounds of one recipient share."""
    return key.revision, key.level, key.recipient


def _has_newer_round(request: TrackedRequest, others: Iterable[TrackedRequest]) -> bool:
    return any(_series(other.key) == _series(request.key) and other.key.round > request.key.round for other in others)


def _gap_ends(request: TrackedRequest, requests: Collection[TrackedRequest]) -> float:
    delivered = [
        other.settled_at
        for other in requests
        if other.state is RequestState.DELIVERED
        and other.settled_at is not None
        and _series(other.key) == _series(request.key)
    ]
    return max(delivered) + ROUND_GAP if delivered else float("-inf")


def _sendable(
    due: Sequence[TrackedRequest], gap_ends: Mapping[NotificationKey, float], now: float
) -> Sequence[TrackedRequest]:
    """Return the requests to queue now, in order; none may overtake an earlier level or round that has to wait."""
    ordered = sorted(due, key=lambda request: (request.key.level, request.key.round, request.key.recipient))
    held = [(request.key.level, request.key.round) for request in ordered if gap_ends[request.key] > now]
    return [
        request
        for request in ordered
        if gap_ends[request.key] <= now and not (held and min(held) < (request.key.level, request.key.round))
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Replacement:
    """Effect of a newer request list: requests to save, to delete, and to withdraw from the outbox."""

    saved: Sequence[TrackedRequest] = ()
    dropped: Sequence[TrackedRequest] = ()
    withdraw: Sequence[TrackedRequest] = ()


def replace_requests(
    requests: Mapping[NotificationKey, TrackedRequest], newer: Iterable[TrackedRequest]
) -> Replacement:
    """Return the effect of replacing ``requests`` by ``newer``.

    Requests missing from the newer list end; queued, failed and delivered ones in both lists keep their state.
    """
    wanted = {request.key: request for request in newer}
    ended = [request for key, request in requests.items() if key not in wanted]
    # The outbox no longer holds a withdrawn request; if the newer list contains it, it has to be queued again.
    open_states = (RequestState.WAITING, RequestState.WITHDRAWN)
    return Replacement(
        saved=[request for key, request in wanted.items() if key not in requests or requests[key].state in open_states],
        dropped=[request for request in ended if request.state is RequestState.WAITING],
        withdraw=[request for request in ended if request.state in _UNDER_WAY],
    )


def state_after(state: RequestState, *, reached: bool) -> RequestState | None:
    """Return the state after a delivery result; None: unchanged.

    A late success overrides every other state, even that of a request which was withdrawn in transit and waits again.
    """
    if reached:
        return None if state is RequestState.DELIVERED else RequestState.DELIVERED
    return RequestState.FAILED if state is RequestState.QUEUED else None
