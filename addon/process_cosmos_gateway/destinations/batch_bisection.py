"""Which event of a batch makes a cloud endpoint fail, found with few failures more: decisions without I/O."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Self

from process_cosmos_gateway.contract.destinations import Priority
from process_cosmos_gateway.contract.identifiers import Ulid
from process_cosmos_gateway.outbox import Delivery

from .failure_cause import key_of

PARTS = 32
"""A batch that failed goes on in so many: each failure may cost a time-out, what passes costs next to nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchBisection:
    """How many events go at once, and which may be the one at fault.

    ``size``: events of the next batch; ``most``: when all is well; ``suspects``: ids of the events of the batch that
    failed and have not passed since; ``others_next``: alarms that are no suspects go first, in a batch of their own.
    """

    most: int
    size: int
    suspects: frozenset[Ulid] = frozenset()
    others_next: bool = False

    @classmethod
    def of(cls, most: int) -> Self:
        """Return the state in which all is well."""
        return cls(most=most, size=most)

    @property
    def wanted(self) -> int:
        """How many events to choose from; while there are suspects, all that may be among them."""
        return self.most if self.suspects else self.size

    def choose(self, deliveries: Sequence[Delivery]) -> Sequence[Delivery]:
        """Return the events of the next batch, in order per key."""
        if not self.suspects:
            return deliveries[: self.size]
        others = list(self._alarms_apart(deliveries)) if self.others_next else []
        if others:
            return others[: self.size]
        suspects = list(islice((each for each in deliveries if each.id in self.suspects), self.size))
        return suspects or deliveries[: self.size]

    def _alarms_apart(self, deliveries: Sequence[Delivery]) -> Iterator[Delivery]:
        """Yield alarms that are no suspects and wait behind none of their key."""
        behind = {key_of(delivery) for delivery in deliveries if delivery.id in self.suspects}
        for delivery in deliveries:
            if delivery.priority is Priority.URGENT and key_of(delivery) not in behind:
                yield delivery

    def passed(self, deliveries: Sequence[Delivery]) -> Self:
        """Return the state after these were settled; once no suspect is left, batches grow again."""
        if not self.suspects:
            return self if self.size == self.most else replace(self, size=self._grown(deliveries))
        settled = {delivery.id for delivery in deliveries}
        suspects = self.suspects - settled
        size = self.size if suspects else self._grown(deliveries)
        return replace(self, suspects=suspects, size=size, others_next=bool(settled & self.suspects))

    def _grown(self, deliveries: Sequence[Delivery]) -> int:
        return min(self.most, max(self.size, len(deliveries)) * 2)

    def failed(self, deliveries: Sequence[Delivery]) -> Self:
        """Return the state after a batch got no proper reply while the endpoint is there.

        One that failed alone is found: it is to be held back, and the others are no suspects any more.
        """
        if len(deliveries) == 1:
            return replace(self, suspects=frozenset(), size=1, others_next=False)
        suspects = frozenset(delivery.id for delivery in deliveries)
        return replace(self, suspects=suspects, size=max(1, len(deliveries) // PARTS), others_next=True)

    def split(self, deliveries: Sequence[Delivery]) -> Self:
        """Return the state after a reply that says at once that something in the batch is never taken."""
        return replace(self, size=max(1, len(deliveries) // 2))
