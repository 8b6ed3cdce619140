"""Whose fault a failure is, the event's or the link's, and how many events may be on their way: pure decisions."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from process_cosmos_gateway.contract.destinations import Priority
from process_cosmos_gateway.outbox import Delivery, Failed

from .destination import Trouble

IN_FLIGHT = 8
"""Requests at a time, each of another order key: an alarm waits for one reply, not for a queue of them."""

MOST_IN_FLIGHT = 32
"""Requests at a time where late ones would make alarms wait."""

LATE_SECONDS = 2.0
"""An alarm waits for a free request no longer than this; then the one in its way counts as late."""

MOST_SUSPECTS = 64
"""Whole events, so that an outage takes no more memory the longer it lasts."""

MOST_TRIED = 1024
"""Keys, beyond which the oldest is tried as if it had not failed."""

type Key = tuple[Priority, str]
"""Order is kept within it."""

type Failure = tuple[Delivery, Failed]


def key_of(delivery: Delivery) -> Key:
    """Return the order key of an event."""
    return delivery.priority, delivery.key


@dataclass(frozen=True, slots=True, kw_only=True)
class Blame:
    """What the failures since the last delivery say.

    A failure is the event's own if another event was delivered while it was under way, or if the next event of another
    key is delivered after it. Where a second key fails instead, it is the link, and nobody is charged.

    ``suspects``: the newest failure of each key that nobody was charged with, of the newest 64 keys; ``tried``: all
    keys that failed, which go once no others wait; ``passed_at``: the monotonic time of the last delivery.
    """

    suspects: Mapping[Key, Failure] = field(default_factory=dict)
    tried: Sequence[Key] = ()
    passed_at: float | None = None

    @property
    def is_of_link(self) -> bool:
        """Whether events of several keys failed and nothing was delivered since."""
        return len(self.suspects) > 1

    def started(self, delivery: Delivery) -> Blame:
        """Return the state after an event was sent: if it was a suspect, this try decides anew."""
        return replace(self, suspects={key: each for key, each in self.suspects.items() if key != key_of(delivery)})

    def failed(self, delivery: Delivery, trouble: Trouble, *, began: float) -> tuple[Blame, Sequence[Failure]]:
        """Return the state after a failure that may be the event's, and the failures that are now known to be own."""
        failure = delivery, Failed(trouble.reason, trouble.detail)
        if self.passed_at is not None and self.passed_at >= began:
            return self, [failure]
        key = key_of(delivery)
        others = [(each, suspect) for each, suspect in self.suspects.items() if each != key]
        suspects = dict([*others, (key, failure)][-MOST_SUSPECTS:])
        tried = self.tried if key in self.tried else (*self.tried, key)[-MOST_TRIED:]
        return replace(self, suspects=suspects, tried=tried), []

    def passed(self, delivery: Delivery, *, at: float) -> tuple[Blame, Sequence[Failure]]:
        """Return the state after a delivery, and the failures that are now known to be the events' own."""
        own = [each for key, each in self.suspects.items() if key != key_of(delivery)]
        return Blame(passed_at=at), [] if self.is_of_link else own


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """How many more events may be sent now: of any priority, and alarms (the greater of both in all)."""

    any: int
    alarms: int

    @property
    def priorities(self) -> Collection[Priority]:
        """The priorities of which one may be sent."""
        if self.any > 0:
            return tuple(Priority)
        return (Priority.URGENT,) if self.alarms > 0 else ()


def room(ages: Sequence[float]) -> Room:
    """Return the room beside requests that began ``ages`` seconds ago; late ones are not in the way of alarms."""
    in_time = sum(age < LATE_SECONDS for age in ages)
    return Room(any=IN_FLIGHT - len(ages), alarms=min(IN_FLIGHT - in_time, MOST_IN_FLIGHT - len(ages)))
