"""The timetable: who is told when, as a function of values."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from custom_components.process_cosmos.contract.identifiers import NotificationKey

from .model import Alert
from .policy import Level, Policy
from .records import PlannedRequest, PlannedRequests

TRY_AGAIN_AFTER = timedelta(seconds=60)
"""Between two tries at a recipient never reached in this ring."""

RESCHEDULED_BY = timedelta(seconds=1)
"""How much earlier an unasked due must be to be moved."""

type _Place = tuple[int, str]
"""A level and one of its recipients."""


@dataclass(slots=True)
class Tries:
    """How telling one recipient at one level went in the current ring. ``round``: the newest that ended."""

    round: int
    at: datetime
    reached_round: int = -1

    @property
    def reached(self) -> bool:
        """Whether any tell of this ring reached the recipient."""
        return self.reached_round >= 0


@dataclass(slots=True)
class Outcomes:
    """What is known of the tells of one alert: of the current ring in full, of its walk what starts levels."""

    revision: int = 0
    cycle_revision: int = 0
    tries: dict[_Place, Tries] = field(default_factory=dict)
    first_notification: dict[int, datetime] = field(default_factory=dict)
    failed: dict[_Place, datetime] = field(default_factory=dict)
    """When a recipient not reached since then was first missed."""
    reached: dict[_Place, tuple[int, int]] = field(default_factory=dict)
    """The newest (ring, round) that reached a recipient."""

    def follow(self, revision: int, cycle_revision: int) -> None:
        """Start over with what a new ring or a new walk makes old."""
        if revision != self.revision:
            self.revision = revision
            self.tries.clear()
        if cycle_revision != self.cycle_revision:
            self.cycle_revision = cycle_revision
            self.first_notification.clear()
            self.failed.clear()
            self.reached.clear()

    def learn(self, key: NotificationKey, *, reached: bool, at: datetime) -> None:
        """Take in how the tell ``key`` ended; a late success replaces a failure, a late failure no success."""
        if key.revision < self.cycle_revision:
            return
        place = (key.level, key.recipient)
        self.first_notification[key.level] = min(at, self.first_notification.get(key.level, at))
        newest_reached = self.reached.get(place, (0, 0))
        if reached:
            self.reached[place] = max(newest_reached, (key.revision, key.round))
            self.failed.pop(place, None)
        elif (key.revision, key.round) > newest_reached:
            self.failed.setdefault(place, at)
        if key.revision == self.revision:
            self._learn_of_this_revision(place, key.round, reached=reached, at=at)

    def knows(self, key: NotificationKey, *, reached: bool) -> bool:
        """Say whether the memory already has this outcome of ``key``."""
        tries = self.tries.get((key.level, key.recipient))
        if tries is None or key.revision != self.revision:
            return key.revision < self.revision
        return tries.reached_round >= key.round or (not reached and tries.round >= key.round)

    def _learn_of_this_revision(self, place: _Place, number: int, *, reached: bool, at: datetime) -> None:
        tries = self.tries.setdefault(place, Tries(round=number, at=at))
        tries.round, tries.at = max(tries.round, number), max(tries.at, at)
        if reached:
            tries.reached_round = max(tries.reached_round, number)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timetable:
    """``tells``: to people, due now, lowest level first. ``look_at``: when to look again (None: never)."""

    tells: Sequence[NotificationKey]
    requests: PlannedRequests
    look_at: datetime | None


def timetable(
    policy: Policy, alert: Alert, outcomes: Outcomes, now: datetime, gateway_away_since: datetime | None
) -> Timetable:
    """Return whom to tell now, what to ask of the gateway, and when to look again.

    ``gateway_away_since``: since when no destination can be reached through the gateway, None while it is there.
    """
    if not alert.alive or now >= alert.until:
        return Timetable(tells=(), requests=(), look_at=None)
    starts = _starts(policy, alert, outcomes, _missed_now(outcomes, gateway_away_since))
    tells: list[NotificationKey] = []
    looks = [alert.until, alert.notify_at]
    for index, level in enumerate(policy.levels):
        due = max(alert.notify_at, starts[index])
        looks.append(due)
        if due > now:
            continue
        for person in level.people:
            number, look = _next_round(level, due, outcomes.tries.get((index, person)), now)
            looks += look
            if number is not None:
                tells.append(_key(alert, index, number, person))
    return Timetable(
        tells=tells,
        requests=_requests(policy, alert, outcomes, now, starts),
        look_at=min((look for look in looks if look > now), default=None),
    )


def is_earlier(requests: PlannedRequests, last: PlannedRequests) -> bool:
    """Say whether one of ``requests`` is due over a second before the ``last`` list on record says, or is not on it."""
    known = {request.key: request for request in last}
    return any(
        (old := known.get(request.key)) is None
        or request.due < old.due - RESCHEDULED_BY
        or request.due_if_home_assistant_away < old.due_if_home_assistant_away - RESCHEDULED_BY
        for request in requests
    )


def _key(alert: Alert, level: int, number: int, recipient: str) -> NotificationKey:
    return NotificationKey(alert=alert.id, revision=alert.revision, level=level, round=number, recipient=recipient)


type _Missed = Callable[[int, Level, datetime], datetime | None]
"""(index, level, its start) → since when every recipient of the level is known as not reached."""


def _starts(policy: Policy, alert: Alert, outcomes: Outcomes, missed: _Missed) -> Sequence[datetime]:
    """Return when each level starts: at its time, when the level before it reached nobody, or at its first tell."""
    starts: list[datetime] = []
    earliest = alert.cycle_started_at
    over: datetime | None = None
    for index, level in enumerate(policy.levels):
        bounds = [earliest + level.after]
        if over is not None:
            bounds.append(max(over, earliest))
        if index in outcomes.first_notification:
            bounds.append(outcomes.first_notification[index])
        earliest = min(bounds)
        starts.append(earliest)
        over = missed(index, level, earliest)
    return starts


def _missed_now(outcomes: Outcomes, gateway_away_since: datetime | None) -> _Missed:
    def missed(index: int, level: Level, start: datetime) -> datetime | None:
        moments = [outcomes.failed.get((index, person)) for person in level.people]
        for destination in level.destinations:
            tries = outcomes.tries.get((index, destination))
            reached = tries is not None and tries.reached
            moments.append(outcomes.failed.get((index, destination)) or (None if reached else gateway_away_since))
        return _last(moments, start)

    return missed


def _missed_while_home_assistant_is_away(outcomes: Outcomes) -> _Missed:
    """All people count as not reached, destinations as reached unless known otherwise."""

    def missed(index: int, level: Level, start: datetime) -> datetime | None:
        return _last([outcomes.failed.get((index, destination)) for destination in level.destinations], start)

    return missed


def _last(moments: Sequence[datetime | None], start: datetime) -> datetime | None:
    known = [moment for moment in moments if moment is not None]
    return max(known, default=start) if len(known) == len(moments) else None


def _next_round(
    level: Level, due: datetime, tries: Tries | None, now: datetime
) -> tuple[int | None, Sequence[datetime]]:
    """Return the round a person is told now, if any, and when to look again; missed rounds collapse into the newest."""
    number = min((now - due) // level.every, level.rounds - 1)
    following = [due + (number + 1) * level.every] if number + 1 < level.rounds else []
    if tries is None or tries.round < number:
        return number, following
    if tries.reached:
        return None, following
    again = tries.at + TRY_AGAIN_AFTER
    return (number, following) if again <= now else (None, [again, *following])


def _requests(
    policy: Policy, alert: Alert, outcomes: Outcomes, now: datetime, starts: Sequence[datetime]
) -> PlannedRequests:
    away = _starts(policy, alert, outcomes, _missed_while_home_assistant_is_away(outcomes))
    requests: list[PlannedRequest] = []
    for index, level in enumerate(policy.levels):
        due = max(alert.notify_at, starts[index])
        due_away = max(alert.notify_at, min(starts[index], away[index]))
        newest_due = min((now - due) // level.every, level.rounds - 1) if due <= now else 0
        for destination in level.destinations:
            tries = outcomes.tries.get((index, destination))
            first = max(newest_due, tries.reached_round + 1) if tries else newest_due
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
