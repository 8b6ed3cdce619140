"""What the outbox must hold, as values: every state it was in, and which of them a power cut may leave."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from process_cosmos_gateway.contract.destinations import Priority
from process_cosmos_gateway.contract.identifiers import Ulid
from process_cosmos_gateway.outbox import Delivered, DeliveryResult, Event, Failed

type Group = tuple[Priority, str, bool]
"""Priority, key, whether it was sent again: within it the order is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """An event that waits for a destination. ``row``: the one event many destinations may wait for."""

    event: Ulid
    priority: Priority
    key: str
    row: int
    attempts: int = 0
    replayed: bool = False
    expires_at: datetime | None = None

    def expired(self, now: datetime) -> bool:
        """Say whether it is not to be sent any more: whether it is still there is nobody's promise."""
        return self.expires_at is not None and self.expires_at <= now

    @property
    def group(self) -> Group:
        """Return that within which the order is kept."""
        return self.priority, self.key, self.replayed


@dataclass(frozen=True, slots=True)
class State:
    """One state of the outbox. ``known``: the ids; ``rejected``: destination and event; ``readings``: their values."""

    waiting: Mapping[str, tuple[Waiting, ...]]
    readings: Mapping[str, tuple[float, ...]]
    known: frozenset[Ulid] = frozenset()
    rejected: tuple[tuple[str, Waiting], ...] = ()

    def accepted(self, event: Event, wanted_by: Sequence[str], row: int) -> State:
        """Return the state with ``event``, once."""
        if event.id in self.known:
            return self
        new = Waiting(event=event.id, priority=event.priority, key=event.key, row=row, expires_at=event.expires_at)
        waiting = {name: (*of, new) if name in wanted_by else of for name, of in self.waiting.items()}
        return replace(self, waiting=waiting, known=self.known | {event.id})

    def settled(self, destination: str, results: Mapping[Ulid, DeliveryResult]) -> State:
        """Return the state after ``destination`` has answered."""
        left: list[Waiting] = []
        rejected = list(self.rejected)
        for each in self.waiting[destination]:
            match results.get(each.event):
                case None:
                    left.append(each)
                case Failed():
                    left.append(replace(each, attempts=each.attempts + 1))
                case Delivered():
                    pass
                case _:
                    rejected.append((destination, each))
        return replace(self, waiting={**self.waiting, destination: tuple(left)}, rejected=tuple(rejected))

    def measured(self, destination: str, values: Sequence[float]) -> State:
        """Return the state with readings that wait for ``destination``."""
        return replace(self, readings={**self.readings, destination: (*self.readings[destination], *values)})

    def packed(self, destination: str, number: int) -> State:
        """Return the state after ``destination`` has taken its oldest ``number`` readings."""
        return replace(self, readings={**self.readings, destination: self.readings[destination][number:]})

    def pack_rejected(self, destination: str, number: int, pack: Waiting) -> State:
        """Return the state after ``destination`` has refused its oldest ``number`` readings for good."""
        return replace(self.packed(destination, number), rejected=(*self.rejected, (destination, pack)))

    def sent_again(self, row: int) -> State:
        """Return the state with all that was rejected back at the end of its destination's queue."""
        waiting = {name: list(of) for name, of in self.waiting.items()}
        for number, (destination, each) in enumerate(self.rejected):
            priority = Priority.URGENT if each.priority is Priority.URGENT else Priority.CHANGE
            again = replace(each, priority=priority, row=row + number, attempts=0, replayed=True, expires_at=None)
            waiting[destination].append(again)
        return replace(self, waiting={name: tuple(of) for name, of in waiting.items()}, rejected=())

    def discarded(self) -> State:
        """Return the state without what was rejected."""
        return replace(self, rejected=())

    def groups(self, destination: str, now: datetime) -> Mapping[Group, list[tuple[Ulid, int, bool]]]:
        """Return what is to be sent to a destination, in order within each group: event, attempts, replayed."""
        groups: dict[Group, list[tuple[Ulid, int, bool]]] = {}
        for each in self.waiting[destination]:
            if each.expired(now):
                continue
            groups.setdefault(each.group, []).append((each.event, each.attempts, each.replayed))
        return groups

    def expired(self, now: datetime) -> int:
        """Return how many events wait that are not to be sent any more."""
        return len({each.row for of in self.waiting.values() for each in of if each.expired(now)})

    def fits(self, rows: Mapping[Priority, int]) -> bool:
        """Say whether so much may wait: a row for all who want it, and one for each for whom an alarm is parked."""
        everywhere = {each.row: each.priority for of in self.waiting.values() for each in of}
        once = {priority: list(everywhere.values()).count(priority) for priority in Priority}
        most = sum(each.priority is Priority.URGENT for of in self.waiting.values() for each in of)
        return (
            once[Priority.URGENT] <= rows[Priority.URGENT] <= most
            and rows[Priority.CHANGE] == once[Priority.CHANGE]
            and rows[Priority.READING] == max(map(len, self.readings.values()))
        )

    def left(self, seen: Seen, now: datetime) -> bool:
        """Say whether a look from outside finds this state."""
        exact = not self.expired(now)
        return (
            seen.groups == {name: self.groups(name, now) for name in self.waiting}
            and seen.readings == self.readings
            and seen.known == self.known
            and seen.rejected == {(name, each.event) for name, each in self.rejected}
            and (self.fits(seen.rows) if exact else seen.expired >= self.expired(now))
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a look from outside finds: all of it but for the order between groups.

    ``parked``: alarms. ``expired``: how many events were counted as expired after all the rest was drained.
    """

    groups: Mapping[str, Mapping[Group, Sequence[tuple[Ulid, int, bool]]]]
    readings: Mapping[str, tuple[float, ...]]
    known: frozenset[Ulid]
    rejected: frozenset[tuple[str, Ulid]]
    rows: Mapping[Priority, int]
    expired: int
    parked: int
    bodies: Mapping[Ulid, bytes]


@dataclass(slots=True)
class Moment:
    """A state: the step of the disk at which it was asked for, and the one by which it was acknowledged."""

    state: State
    began: int
    acknowledged: int | None = None


@dataclass(slots=True)
class History:
    """All states since the disk was laid out."""

    moments: list[Moment] = field(default_factory=list)

    @property
    def now(self) -> State:
        """Return the newest state, as far as it was asked for."""
        return self.moments[-1].state

    def ask(self, state: State, step: int) -> Moment:
        """Note a state that was asked for and is not acknowledged yet."""
        self.moments.append(Moment(state, step))
        return self.moments[-1]

    def edges(self) -> Sequence[int]:
        """Return the steps at which something was asked for or acknowledged: there the promises are closest."""
        return sorted({step for each in self.moments for step in (each.began, each.acknowledged) if step is not None})

    def possible(self, cut: int) -> Sequence[State]:
        """Return the states a cut after ``cut`` steps may leave: none older than the last one acknowledged by then."""
        acknowledged = [
            number
            for number, each in enumerate(self.moments)
            if each.acknowledged is not None and each.acknowledged <= cut
        ]
        asked = [number for number, each in enumerate(self.moments) if each.began <= cut]
        return [each.state for each in self.moments[acknowledged[-1] : asked[-1] + 1]]
