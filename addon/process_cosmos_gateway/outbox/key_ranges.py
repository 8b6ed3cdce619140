"""An in-memory index of the order keys in each range of a queue: ranges with only blocked keys are not read again."""

from dataclasses import dataclass, field
from sys import intern

from process_cosmos_gateway.contract.destinations import Priority
from process_cosmos_gateway.store import Transaction

from .statements import STATEMENTS

WIDTH = 4096
"""Sequence numbers per range; range 0 begins at number 0."""


@dataclass(slots=True)
class KeyRanges:
    """The keys pending in the ranges of one destination's queues that were found to hold only blocked keys.

    Events are appended at the end of a queue and removed anywhere, so a complete range never gains keys. That no longer
    holds when the destination subscribes to other kinds: discard the index then.
    """

    _keys: dict[tuple[Priority, int], frozenset[str]] = field(default_factory=dict)

    def has_only_keys(self, priority: Priority, number: int, keys: frozenset[str]) -> bool:
        """Return whether the range is known to hold only events of ``keys``."""
        known = self._keys.get((priority, number))
        return known is not None and known <= keys

    def record_keys(
        self, transaction: Transaction, priority: Priority, number: int, destination: str, cursor: int
    ) -> None:
        """Read and remember the keys of a range that ends before the queue does."""
        begin = number * WIDTH
        rows = transaction.rows(
            STATEMENTS[priority].untried_keys, destination=destination, cursor=cursor, begin=begin, end=begin + WIDTH
        )
        # The same keys recur in many ranges; interned, each is in memory once.
        self._keys[priority, number] = frozenset(intern(key) for (key,) in rows)

    def forget_before(self, priority: Priority, number: int) -> None:
        """Forget the ranges before ``number``: the destination has passed them."""
        for known in [each for each in self._keys if each[0] is priority and each[1] < number]:
            del self._keys[known]
