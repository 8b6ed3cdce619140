"""The search for the event in a batch that makes a cloud endpoint fail. Decisions without I/O."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Self

from process_cosmos_gateway.contract.destinations import Priority
from process_cosmos_gateway.contract.identifiers import Ulid
from process_cosmos_gateway.outbox import Delivery

from .failure_cause import key_of

PARTS = 32
"""Number of parts into which a failed batch is split: a failure may cost a time-out, a success costs almost nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchBisection:
    """The size of the next batch, and the events suspected of making the endpoint fail.

    ``size``: events in the next batch. ``most``: events in a batch when nothing fails. ``suspects``: ids of the events
    of the failed batch not settled since. ``urgent_next``: urgent events that are not suspects go next, in
    a batch of their own.
    """

    most: int
    size: int
    suspects: frozenset[Ulid] = frozenset()
    urgent_next: bool = False

    @classmethod
    def initial(cls, most: int) -> Self:
        """Return the state without suspects."""
        return cls(most=most, size=most)

    @property
    def fetch_limit(self) -> int:
        """Number of events to choose from: all that may contain a suspect while there are suspects."""
        return self.most if self.suspects else self.size

    def choose(self, deliveries: Sequence[Delivery]) -> Sequence[Delivery]:
        """Return the events of the next batch, in order within each key."""
        if not self.suspects:
            return deliveries[: self.size]
        others = list(self._unsuspected_urgent(deliveries)) if self.urgent_next else []
        if others:
            return others[: self.size]
        # Only suspects: a part that fails replaces them by its own events, so others would widen the search.
        suspects = list(islice((each for each in deliveries if each.id in self.suspects), self.size))
        return suspects or deliveries[: self.size]

    def _unsuspected_urgent(self, deliveries: Sequence[Delivery]) -> Iterator[Delivery]:
        """Yield urgent events that are not suspects and have no suspect of the same key before them."""
        behind = {key_of(delivery) for delivery in deliveries if delivery.id in self.suspects}
        for delivery in deliveries:
            if delivery.priority is Priority.URGENT and key_of(delivery) not in behind:
                yield delivery

    def settled(self, deliveries: Sequence[Delivery]) -> Self:
        """Return the state after these events were settled; batches grow again once no suspect is left."""
        if not self.suspects:
            return self if self.size == self.most else replace(self, size=self._grown_size(deliveries))
        settled = {delivery.id for delivery in deliveries}
        suspects = self.suspects - settled
        size = self.size if suspects else self._grown_size(deliveries)
        # Urgent events and parts of the search alternate, so that neither holds up the other.
        return replace(self, suspects=suspects, size=size, urgent_next=bool(settled & self.suspects))

    def _grown_size(self, deliveries: Sequence[Delivery]) -> int:
        return min(self.most, max(self.size, len(deliveries)) * 2)

    def failed(self, deliveries: Sequence[Delivery]) -> Self:
        """Return the state after a batch got no valid reply although the endpoint works.

        A batch of one event identifies it: the caller fails that event, and no other event is suspected any more.
        """
        if len(deliveries) == 1:
            return replace(self, suspects=frozenset(), size=1, urgent_next=False)
        suspects = frozenset(delivery.id for delivery in deliveries)
        return replace(self, suspects=suspects, size=max(1, len(deliveries) // PARTS), urgent_next=True)

    def split(self, deliveries: Sequence[Delivery]) -> Self:
        """Return the state after a reply that reports an unacceptable event without naming it."""
        return replace(self, size=max(1, len(deliveries) // 2))
