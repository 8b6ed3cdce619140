"""The attribution of failures to an event or to the link, and the number of parallel requests. Pure decisions."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from process_cosmos_gateway.contract.destinations import Priority
from process_cosmos_gateway.outbox import Delivery, Failed

from .destination import Trouble

IN_FLIGHT = 8
"""Parallel requests, each for another order key: an urgent event waits for one reply, not for a queue of them."""

MOST_IN_FLIGHT = 32
"""Parallel requests when late ones would otherwise make urgent events wait."""

LATE_SECONDS = 2.0
"""An urgent event waits no longer than this for a free request; then the request in its way counts as late."""

MOST_SUSPECTS = 64
"""Limit of remembered failures, which hold whole events: memory must not grow with the length of an outage."""

MOST_FAILED_KEYS = 1024
"""Limit of keys that failed; beyond it the oldest is sent as if it had not failed."""

type Key = tuple[Priority, str]
"""The scope in which order is kept."""

type Failure = tuple[Delivery, Failed]


def key_of(delivery: Delivery) -> Key:
    """Return the order key of an event."""
    return delivery.priority, delivery.key


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureAttribution:
    """The failures since the last delivery, attributed to an event or to the link.

    A failure is attributed to the event if another event was delivered while its request was running, or if the next
    event of another key is delivered after it. If a second key fails instead, the link is at fault and the failure
    counts against no event.

    ``suspects``: the newest unattributed failure of each key, of the newest 64 keys. ``failed_keys``: all keys that
    failed, sent again once no others wait. ``delivered_at``: monotonic time of the last delivery.
    """

    suspects: Mapping[Key, Failure] = field(default_factory=dict)
    failed_keys: Sequence[Key] = ()
    delivered_at: float | None = None

    @property
    def is_link_failure(self) -> bool:
        """Whether events of several keys failed and nothing was delivered since."""
        return len(self.suspects) > 1

    def started(self, delivery: Delivery) -> FailureAttribution:
        """Return the state after an event was sent; if it was a suspect, this attempt decides anew."""
        return replace(self, suspects={key: each for key, each in self.suspects.items() if key != key_of(delivery)})

    def failed(
        self, delivery: Delivery, trouble: Trouble, *, began: float
    ) -> tuple[FailureAttribution, Sequence[Failure]]:
        """Return the state after a failure that may be the event's, and the failures now attributed to events."""
        failure = delivery, Failed(trouble.reason, trouble.detail)
        if self.delivered_at is not None and self.delivered_at >= began:
            return self, [failure]
        key = key_of(delivery)
        others = [(each, suspect) for each, suspect in self.suspects.items() if each != key]
        # The key is moved to the end, so that the limit drops the oldest failure.
        suspects = dict([*others, (key, failure)][-MOST_SUSPECTS:])
        failed_keys = self.failed_keys if key in self.failed_keys else (*self.failed_keys, key)[-MOST_FAILED_KEYS:]
        return replace(self, suspects=suspects, failed_keys=failed_keys), []

    def delivered(self, delivery: Delivery, *, at: float) -> tuple[FailureAttribution, Sequence[Failure]]:
        """Return the state after a delivery, and the failures now attributed to events."""
        own = [each for key, each in self.suspects.items() if key != key_of(delivery)]
        # After failures of several keys a delivery only shows that the link works again.
        return FailureAttribution(delivered_at=at), [] if self.is_link_failure else own


@dataclass(frozen=True, slots=True, kw_only=True)
class SendCapacity:
    """The number of further events that may be sent: of any priority, and urgent ones (the greater is the total)."""

    any: int
    urgent: int

    @property
    def priorities(self) -> Collection[Priority]:
        """The priorities of events that may be sent."""
        if self.any > 0:
            return tuple(Priority)
        return (Priority.URGENT,) if self.urgent > 0 else ()


def send_capacity(ages: Sequence[float]) -> SendCapacity:
    """Return the capacity beside requests begun ``ages`` seconds ago; late ones do not block urgent events."""
    in_time = sum(age < LATE_SECONDS for age in ages)
    return SendCapacity(any=IN_FLIGHT - len(ages), urgent=min(IN_FLIGHT - in_time, MOST_IN_FLIGHT - len(ages)))
