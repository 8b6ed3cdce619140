"""A model of the outbox as values: its states over time, and which of them a power failure may leave."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from process_cosmos_gateway.contract.destinations import Priority
from process_cosmos_gateway.contract.identifiers import Ulid
from process_cosmos_gateway.outbox import Delivered, DeliveryResult, Event, Failed

type Group = tuple[Priority, str, bool]
"""Priority, key and ``replayed`` of an event: events of one group are delivered in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingEvent:
    """An event pending for a destination. ``row``: number of its database row, which several destinations may share."""

    event: Ulid
    priority: Priority
    key: str
    row: int
    attempts: int = 0
    replayed: bool = False

    @property
    def group(self) -> Group:
        """Return the group within which order is guaranteed."""
        return self.priority, self.key, self.replayed


@dataclass(frozen=True, slots=True)
class State:
    """A state of the outbox. ``known``: ids; ``rejected``: destination and event; ``readings``: pending values."""

    waiting: Mapping[str, tuple[PendingEvent, ...]]
    readings: Mapping[str, tuple[float, ...]]
    known: frozenset[Ulid] = frozenset()
    rejected: tuple[tuple[str, PendingEvent], ...] = ()

    def with_accepted(self, event: Event, receivers: Sequence[str], row: int) -> State:
        """Return the state after ``event`` was accepted; the same state if its id is known."""
        if event.id in self.known:
            return self
        new = PendingEvent(event=event.id, priority=event.priority, key=event.key, row=row)
        waiting = {name: (*of, new) if name in receivers else of for name, of in self.waiting.items()}
        return replace(self, waiting=waiting, known=self.known | {event.id})

    def with_settled(self, destination: str, results: Mapping[Ulid, DeliveryResult]) -> State:
        """Return the state after the delivery ``results`` of ``destination`` were settled."""
        left: list[PendingEvent] = []
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

    def with_readings(self, destination: str, values: Sequence[float]) -> State:
        """Return the state after readings with ``values`` were enqueued for ``destination``."""
        return replace(self, readings={**self.readings, destination: (*self.readings[destination], *values)})

    def with_readings_delivered(self, destination: str, number: int) -> State:
        """Return the state after the oldest ``number`` readings were delivered to ``destination``."""
        return replace(self, readings={**self.readings, destination: self.readings[destination][number:]})

    def with_batch_rejected(self, destination: str, number: int, batch: PendingEvent) -> State:
        """Return the state after ``destination`` rejected a batch of its oldest ``number`` readings."""
        return replace(
            self.with_readings_delivered(destination, number), rejected=(*self.rejected, (destination, batch))
        )

    def with_rejected_requeued(self, row: int) -> State:
        """Return the state after all rejected events were requeued at the end of their destinations' queues."""
        waiting = {name: list(of) for name, of in self.waiting.items()}
        for number, (destination, each) in enumerate(self.rejected):
            priority = Priority.URGENT if each.priority is Priority.URGENT else Priority.CHANGE
            again = replace(each, priority=priority, row=row + number, attempts=0, replayed=True)
            waiting[destination].append(again)
        return replace(self, waiting={name: tuple(of) for name, of in waiting.items()}, rejected=())

    def with_rejected_discarded(self) -> State:
        """Return the state after all rejected events were deleted."""
        return replace(self, rejected=())

    def groups(self, destination: str) -> Mapping[Group, list[tuple[Ulid, int, bool]]]:
        """Return the events to deliver to a destination by group, in order: id, attempts, replayed."""
        groups: dict[Group, list[tuple[Ulid, int, bool]]] = {}
        for each in self.waiting[destination]:
            groups.setdefault(each.group, []).append((each.event, each.attempts, each.replayed))
        return groups

    def rows(self) -> Mapping[Priority, int]:
        """Return the row counts: one row per event, whatever the number of its destinations."""
        by_row = {each.row: each.priority for of in self.waiting.values() for each in of}
        counted = {priority: list(by_row.values()).count(priority) for priority in Priority}
        return {**counted, Priority.READING: max(map(len, self.readings.values()))}

    def matches(self, found: Content) -> bool:
        """Return whether ``found`` was read from a database in this state."""
        return (
            found.groups == {name: self.groups(name) for name in self.waiting}
            and found.readings == self.readings
            and found.known == self.known
            and found.rejected == {(name, each.event) for name, each in self.rejected}
            and found.rows == self.rows()
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """The content of an outbox, read through its public methods; the order between groups is not recorded.

    ``is_beyond_share``: some destination has more urgent events than its share.
    """

    groups: Mapping[str, Mapping[Group, Sequence[tuple[Ulid, int, bool]]]]
    readings: Mapping[str, tuple[float, ...]]
    known: frozenset[Ulid]
    rejected: frozenset[tuple[str, Ulid]]
    rows: Mapping[Priority, int]
    is_beyond_share: bool
    bodies: Mapping[Ulid, bytes]


@dataclass(slots=True)
class RequestedState:
    """A state, the disk step at which it was requested, and the step by which it was acknowledged."""

    state: State
    requested_at: int
    acknowledged_at: int | None = None


@dataclass(slots=True)
class History:
    """All states since the disk was created, in order."""

    states: list[RequestedState] = field(default_factory=list)

    @property
    def now(self) -> State:
        """Return the newest requested state."""
        return self.states[-1].state

    def request(self, state: State, step: int) -> RequestedState:
        """Record a requested state, which is not acknowledged yet."""
        self.states.append(RequestedState(state, step))
        return self.states[-1]

    def edges(self) -> Sequence[int]:
        """Return the steps at which a state was requested or acknowledged: the guarantees are tightest there."""
        return sorted(
            {step for each in self.states for step in (each.requested_at, each.acknowledged_at) if step is not None}
        )

    def possible(self, cut: int) -> Sequence[State]:
        """Return the states that a cut after ``cut`` steps may leave: the last acknowledged one and all later ones."""
        acknowledged = [
            number
            for number, each in enumerate(self.states)
            if each.acknowledged_at is not None and each.acknowledged_at <= cut
        ]
        requested = [number for number, each in enumerate(self.states) if each.requested_at <= cut]
        return [each.state for each in self.states[acknowledged[-1] : requested[-1] + 1]]
