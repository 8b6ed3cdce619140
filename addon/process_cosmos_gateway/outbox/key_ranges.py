"""Which order keys the events of a stretch of a queue have: what waits for a few keys is not read at each draw."""

from dataclasses import dataclass, field
from sys import intern

from process_cosmos_gateway.contract.destinations import Priority
from process_cosmos_gateway.store import Transaction

from .statements import STATEMENTS

WIDTH = 4096
"""Sequence numbers in a stretch; stretch 0 begins at number 0."""


@dataclass(slots=True)
class KeyRanges:
    """The stretches of one destination's queues in which all that it waits for was found to be of unwanted keys.

    Events join a queue at its end and leave it anywhere, so the keys of a whole stretch become fewer, never more. Where
    a destination comes to want other kinds this no longer holds: then begin anew.
    """

    _keys: dict[tuple[Priority, int], frozenset[str]] = field(default_factory=dict)

    def has_only(self, priority: Priority, stretch: int, keys: frozenset[str]) -> bool:
        """Return whether nothing but events of ``keys`` is known to wait in a stretch."""
        known = self._keys.get((priority, stretch))
        return known is not None and known <= keys

    def note(self, transaction: Transaction, priority: Priority, stretch: int, destination: str, cursor: int) -> None:
        """Remember the keys of a stretch that ends before the queue does."""
        begin = stretch * WIDTH
        rows = transaction.rows(
            STATEMENTS[priority].keys, destination=destination, cursor=cursor, begin=begin, end=begin + WIDTH
        )
        self._keys[priority, stretch] = frozenset(intern(key) for (key,) in rows)

    def drop_before(self, priority: Priority, stretch: int) -> None:
        """Forget the stretches a destination has behind it."""
        for known in [each for each in self._keys if each[0] is priority and each[1] < stretch]:
            del self._keys[known]
