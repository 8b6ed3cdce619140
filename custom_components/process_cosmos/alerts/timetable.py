"""Timetable of an alert: which recipient is notified when, as a pure function."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from custom_components.process_cosmos.contract.identifiers import NotificationKey

from .model import Alert
from .policy import Level, Policy
from .records import PlannedRequest, PlannedRequests

TRY_AGAIN_AFTER = timedelta(seconds=60)
"""Time between two attempts to reach a recipient that no attempt of the current revision has reached."""

RESCHEDULED_BY = timedelta(seconds=1)
"""How much earlier a planned request must become due to be rescheduled."""

type _LevelRecipient = tuple[int, str]
"""Index of a level, and one of its recipients."""


@dataclass(slots=True)
class NotificationAttempts:
    """Attempts to notify one recipient at one level in the current revision.

    ``round``: the newest round that was attempted; ``at``: when. ``reached_round``: the newest successful one, or -1.
    """

    round: int
    at: datetime
    reached_round: int = -1

    @property
    def reached(self) -> bool:
        """Whether an attempt of this revision reached the recipient."""
        return self.reached_round >= 0


@dataclass(slots=True)
class NotificationOutcomes:
    """Outcomes of the notifications of one alert.

    ``attempts`` covers the current revision; the other fields cover the current cycle and decide when levels start.
    """

    revision: int = 0
    cycle_revision: int = 0
    attempts: dict[_LevelRecipient, NotificationAttempts] = field(default_factory=dict)
    first_notification: dict[int, datetime] = field(default_factory=dict)
    failed: dict[_LevelRecipient, datetime] = field(default_factory=dict)
    """Time of the first failure of each recipient that was not reached since."""
    reached: dict[_LevelRecipient, tuple[int, int]] = field(default_factory=dict)
    """Newest (revision, round) that reached each recipient."""

    def reset_for(self, revision: int, cycle_revision: int) -> None:
        """Discard outcomes of an earlier revision or an earlier cycle."""
        if revision != self.revision:
            self.revision = revision
            self.attempts.clear()
        if cycle_revision != self.cycle_revision:
            self.cycle_revision = cycle_revision
            self.first_notification.clear()
            self.failed.clear()
            self.reached.clear()

    def add(self, key: NotificationKey, *, reached: bool, at: datetime) -> None:
        """Add the outcome of the notification ``key``.

        Outcomes may arrive out of order: a late success replaces a failure, but a late failure never a success.
        """
        if key.revision < self.cycle_revision:
            return
        target = (key.level, key.recipient)
        self.first_notification[key.level] = min(at, self.first_notification.get(key.level, at))
        newest_reached = self.reached.get(target, (0, 0))
        if reached:
            self.reached[target] = max(newest_reached, (key.revision, key.round))
            self.failed.pop(target, None)
        elif (key.revision, key.round) > newest_reached:
            self.failed.setdefault(target, at)
        if key.revision == self.revision:
            self._add_attempt(target, key.round, reached=reached, at=at)

    def includes(self, key: NotificationKey, *, reached: bool) -> bool:
        """Return whether this outcome of ``key`` adds nothing to those already recorded."""
        attempts = self.attempts.get((key.level, key.recipient))
        if attempts is None or key.revision != self.revision:
            return key.revision < self.revision
        return attempts.reached_round >= key.round or (not reached and attempts.round >= key.round)

    def _add_attempt(self, target: _LevelRecipient, number: int, *, reached: bool, at: datetime) -> None:
        attempts = self.attempts.setdefault(target, NotificationAttempts(round=number, at=at))
        attempts.round, attempts.at = max(attempts.round, number), max(attempts.at, at)
        if reached:
            attempts.reached_round = max(attempts.reached_round, number)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timetable:
    """Actions for one alert at one moment.

    ``notifications``: to send to people now, lowest level first. ``requests``: notification requests for the gateway.
    ``next_check_at``: when to compute the timetable again (None: never).
    """

    notifications: Sequence[NotificationKey]
    requests: PlannedRequests
    next_check_at: datetime | None


def timetable(
    policy: Policy, alert: Alert, outcomes: NotificationOutcomes, now: datetime, gateway_away_since: datetime | None
) -> Timetable:
    """Return the notifications due now, the requests for the gateway, and when to compute this again.

    ``gateway_away_since``: since when destinations cannot be reached because the gateway is away; None if it is not.
    """
    if not alert.alive or now >= alert.until:
        return Timetable(notifications=(), requests=(), next_check_at=None)
    starts = _level_starts(policy, alert, outcomes, _misses_so_far(outcomes, gateway_away_since))
    notifications: list[NotificationKey] = []
    checks = [alert.until, alert.notify_at]
    for index, level in enumerate(policy.levels):
        due = max(alert.notify_at, starts[index])
        checks.append(due)
        if due > now:
            continue
        for person in level.people:
            number, later = _next_round(level, due, outcomes.attempts.get((index, person)), now)
            checks += later
            if number is not None:
                notifications.append(_key(alert, index, number, person))
    return Timetable(
        notifications=notifications,
        requests=_requests(policy, alert, outcomes, now, starts),
        next_check_at=min((moment for moment in checks if moment > now), default=None),
    )


def is_earlier(requests: PlannedRequests, last: PlannedRequests) -> bool:
    """Return whether a request is due over a second earlier than in the ``last`` recorded list, or is not in it."""
    known = {request.key: request for request in last}
    return any(
        (old := known.get(request.key)) is None
        or request.due < old.due - RESCHEDULED_BY
        or request.due_if_home_assistant_away < old.due_if_home_assistant_away - RESCHEDULED_BY
        for request in requests
    )


def _key(alert: Alert, level: int, number: int, recipient: str) -> NotificationKey:
    return NotificationKey(alert=alert.id, revision=alert.revision, level=level, round=number, recipient=recipient)


type _MissesFn = Callable[[int, Level], Sequence[datetime | None]]
"""(index, level) → since when each recipient of the level was not reached; None for one that was, or may be."""


def _level_starts(
    policy: Policy, alert: Alert, outcomes: NotificationOutcomes, misses_fn: _MissesFn
) -> Sequence[datetime]:
    """Return when each level starts.

    That is the earliest of its planned time, the time when the preceding level had reached none of its recipients, and
    its first notification.
    """
    starts: list[datetime] = []
    earliest = alert.cycle_started_at
    all_missed_at: datetime | None = None
    for index, level in enumerate(policy.levels):
        bounds = [earliest + level.after]
        if all_missed_at is not None:
            bounds.append(max(all_missed_at, earliest))
        # A level that has notified stays started, even if the preceding level turns out to be reached.
        if index in outcomes.first_notification:
            bounds.append(outcomes.first_notification[index])
        earliest = min(bounds)
        starts.append(earliest)
        moments = misses_fn(index, level)
        known = [moment for moment in moments if moment is not None]
        # A level without recipients counts as missed at its start, so that the next one does not wait for it.
        all_missed_at = max(known, default=earliest) if len(known) == len(moments) else None
    return starts


def _misses_so_far(outcomes: NotificationOutcomes, gateway_away_since: datetime | None) -> _MissesFn:
    def misses(index: int, level: Level) -> Sequence[datetime | None]:
        moments = [outcomes.failed.get((index, person)) for person in level.people]
        for destination in level.destinations:
            attempts = outcomes.attempts.get((index, destination))
            reached = attempts is not None and attempts.reached
            moments.append(outcomes.failed.get((index, destination)) or (None if reached else gateway_away_since))
        return moments

    return misses


def _misses_while_home_assistant_is_away(outcomes: NotificationOutcomes) -> _MissesFn:
    """Count all people as not reached, and destinations as reached unless a failure is known."""
    return lambda index, level: [outcomes.failed.get((index, destination)) for destination in level.destinations]


def _next_round(
    level: Level, due: datetime, attempts: NotificationAttempts | None, now: datetime
) -> tuple[int | None, Sequence[datetime]]:
    """Return the round to notify a person of now, if any, and when to check again.

    Missed rounds are replaced by the newest one.
    """
    number = min((now - due) // level.every, level.rounds - 1)
    following = [due + (number + 1) * level.every] if number + 1 < level.rounds else []
    if attempts is None or attempts.round < number:
        return number, following
    if attempts.reached:
        return None, following
    again = attempts.at + TRY_AGAIN_AFTER
    return (number, following) if again <= now else (None, [again, *following])


def _requests(
    policy: Policy, alert: Alert, outcomes: NotificationOutcomes, now: datetime, starts: Sequence[datetime]
) -> PlannedRequests:
    away = _level_starts(policy, alert, outcomes, _misses_while_home_assistant_is_away(outcomes))
    requests: list[PlannedRequest] = []
    for index, level in enumerate(policy.levels):
        due = max(alert.notify_at, starts[index])
        due_away = max(alert.notify_at, min(starts[index], away[index]))
        newest_due = min((now - due) // level.every, level.rounds - 1) if due <= now else 0
        for destination in level.destinations:
            attempts = outcomes.attempts.get((index, destination))
            first = max(newest_due, attempts.reached_round + 1) if attempts else newest_due
            requests += [
                PlannedRequest(
                    key=_key(alert, index, number, destination),
                    due=due + number * level.every,
                    due_if_home_assistant_away=due_away + number * level.every,
                )
                for number in range(first, level.rounds)
                if due_away + number * level.every <= alert.until
            ]
    return tuple(requests)
