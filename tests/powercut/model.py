"""What the outbox must hold, as values: every state it was in, and which of them a power cut may leave."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from process_cosmos_gateway.contract.destinations import Priority
from process_cosmos_gateway.contract.identifiers import Ulid
from process_cosmos_gateway.outbox import Delivered, Event, Failed, Verdict

type Group = tuple[Priority, str]
"""Priority and key: within it the order is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """An event that waits for a destination. ``row``: the one event many destinations may wait for."""

    event: Ulid
    priority: Priority
    key: str
    row: int
    attempts: int = 0
    replayed: bool = False

    @property
    def group(self) -> Group:
        """Return that within which the order is kept."""
        return self.priority, self.key


@dataclass(frozen=True, slots=True)
class State:
    """One state of the outbox. ``known``: the ids; ``rejected``: destination and event."""

    waiting: Mapping[str, tuple[Waiting, ...]]
    known: frozenset[Ulid] = frozenset()
    rejected: tuple[tuple[str, Waiting], ...] = ()

    def accepted(self, event: Event, wanted_by: Sequence[str], row: int) -> State:
        """Return the state with ``event``, once."""
        if event.id in self.known:
            return self
        new = Waiting(event=event.id, priority=event.priority, key=event.key, row=row)
        waiting = {name: (*of, new) if name in wanted_by else of for name, of in self.waiting.items()}
        return replace(self, waiting=waiting, known=self.known | {event.id})

    def settled(self, destination: str, verdicts: Mapping[Ulid, Verdict]) -> State:
        """Return the state after ``destination`` has answered."""
        left: list[Waiting] = []
        rejected = list(self.rejected)
        for each in self.waiting[destination]:
            match verdicts.get(each.event):
                case None:
                    left.append(each)
                case Failed():
                    left.append(replace(each, attempts=each.attempts + 1))
                case Delivered():
                    pass
                case _:
                    rejected.append((destination, each))
        return replace(self, waiting={**self.waiting, destination: tuple(left)}, rejected=tuple(rejected))

    def sent_again(self, row: int) -> State:
        """Return the state with all that was rejected back at the end of its destination's queue."""
        waiting = {name: list(of) for name, of in self.waiting.items()}
        again = sorted(self.rejected, key=lambda each: list(Priority).index(each[1].priority))
        for number, (destination, each) in enumerate(again):
            waiting[destination].append(replace(each, row=row + number, attempts=0, replayed=True))
        return replace(self, waiting={name: tuple(of) for name, of in waiting.items()}, rejected=())

    def discarded(self) -> State:
        """Return the state without what was rejected."""
        return replace(self, rejected=())

    def groups(self, destination: str) -> Mapping[Group, list[tuple[Ulid, int, bool]]]:
        """Return what waits for a destination, in order within each group: event, attempts, replayed."""
        groups: dict[Group, list[tuple[Ulid, int, bool]]] = {}
        for each in self.waiting[destination]:
            groups.setdefault(each.group, []).append((each.event, each.attempts, each.replayed))
        return groups

    def rows(self) -> Mapping[Priority, int]:
        """Return how many events wait for anybody."""
        everywhere = {each.row: each.priority for of in self.waiting.values() for each in of}
        return {priority: list(everywhere.values()).count(priority) for priority in Priority}

    def seen(self) -> Seen:
        """Return what a look from outside must find."""
        return Seen(
            groups={name: self.groups(name) for name in self.waiting},
            known=self.known,
            rejected=frozenset((name, each.event) for name, each in self.rejected),
            rows=self.rows(),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a look from outside finds: all of it but for the order between groups."""

    groups: Mapping[str, Mapping[Group, Sequence[tuple[Ulid, int, bool]]]]
    known: frozenset[Ulid]
    rejected: frozenset[tuple[str, Ulid]]
    rows: Mapping[Priority, int]


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
