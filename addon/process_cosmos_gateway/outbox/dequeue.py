"""What a destination gets next, as one transaction sees it."""

import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from operator import itemgetter

from process_cosmos_gateway.contract.destinations import Priority
from process_cosmos_gateway.contract.identifiers import Ulid
from process_cosmos_gateway.store import Transaction
from process_cosmos_gateway.store.transaction import Row

from . import overflow_queue, reading_batches
from .counters import array
from .key_ranges import WIDTH, Stretches
from .model import Limits, Parcel
from .order import Candidate, compose, sendable
from .statements import STATEMENTS

type Resting = Collection[tuple[Priority, int]]
type Busy = Collection[tuple[Priority, str]]

_READ_AT_ONCE = 8
"""Stretches a draw reads: a few milliseconds, in which nobody else can read."""


@dataclass(slots=True)
class Drawn:
    """What may go now, and what stands in the way: rows to be given up, alarms to be unparked, a pack to be cut."""

    now: float
    waiting: dict[Priority, Sequence[Parcel]] = field(default_factory=dict)
    expired: list[tuple[Priority, int]] = field(default_factory=list)
    damaged: list[tuple[Priority, int]] = field(default_factory=list)
    moves_parked: bool = False
    needs_cut: bool = False
    has_more: bool = False

    @property
    def goes_on(self) -> bool:
        """Whether nothing was found so far, and the queues hold more than a draw reads."""
        return self.has_more and not any(self.waiting.values())

    @property
    def is_clear(self) -> bool:
        """Whether nothing stands in the way."""
        return not (self.expired or self.damaged or self.moves_parked or self.needs_cut)

    def compose(self, sent: Mapping[Priority, float], limit: int) -> Sequence[Parcel]:
        """Return the batch to be sent."""
        return compose(self.waiting, sent, limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """At most ``limit`` events of each priority, but for those ``resting``.

    ``reached``: the newest of each priority that is on its way, not settled yet; only what comes after it is wanted.
    ``priorities``: those wanted; ``busy``: priorities and keys of which nothing is wanted now. ``stretches``: what
    earlier draws have found.
    """

    destination: str
    limit: int
    limits: Limits
    now: float
    site: Ulid
    resting: Resting = ()
    reached: Mapping[Priority, int] = field(default_factory=dict)
    priorities: Collection[Priority] = tuple(Priority)
    busy: Busy = ()
    stretches: Stretches = field(default_factory=Stretches)

    def wants(self, parcel: Parcel) -> bool:
        """Say whether ``parcel``, the next of its key, is wanted."""
        rests = (parcel.priority, parcel.sequence) in self.resting
        return parcel.priority in self.priorities and (parcel.priority, parcel.key) not in self.busy and not rests


def draw(transaction: Transaction, wish: Wish) -> Drawn:
    """Look at what waits for a destination."""
    drawn = Drawn(wish.now)
    for priority in STATEMENTS:
        if priority in wish.priorities:
            drawn.waiting[priority] = _of_queue(transaction, priority, wish, drawn)
    drawn.needs_cut = reading_batches.needs_cut(transaction, wish.destination)
    pack = reading_batches.look(transaction, wish.destination, wish.site)
    drawn.damaged += ((Priority.MEASUREMENT, sequence) for sequence in pack.damaged)
    if pack.parcel is not None and wish.wants(pack.parcel) and Priority.MEASUREMENT not in wish.reached:
        drawn.waiting[Priority.MEASUREMENT] = [pack.parcel]
    expired = overflow_queue.has_expired(transaction, wish.now)
    drawn.moves_parked = expired or overflow_queue.may_unpark(transaction, wish.destination, wish.limits)
    return drawn


def _of_queue(transaction: Transaction, priority: Priority, wish: Wish, drawn: Drawn) -> Sequence[Parcel]:
    statements = STATEMENTS[priority]
    cursor = transaction.rows(statements.cursor, wish.destination)
    if not cursor:
        return []
    if wish.reached:
        if transaction.rows(statements.has_exceptions, wish.destination):
            return []
        cursor = [(max(cursor[0][0], wish.reached.get(priority, 0)),)]
    most = wish.limit + wish.limits.unsettled
    busy = [key for of_priority, key in wish.busy if of_priority is priority]
    failed = transaction.rows(statements.failed, destination=wish.destination, busy=array(busy), limit=most)
    if len(failed) < wish.limits.unsettled:
        # What waits for a failed event of its key is not even looked at: however much it is, it keeps nobody waiting.
        blocked = frozenset(row[1] for row in failed).union(busy)
        untried = _untried(transaction, priority, wish, cursor[0][0], blocked, drawn)
    else:
        untried = []
    rows = _chosen(failed, untried, priority, wish) if failed else untried
    return [_parcel(priority, row) for row in rows if _may_leave(row, priority, wish.now, drawn)]


def _untried(  # noqa: PLR0917 - what to look for, and from where
    transaction: Transaction, priority: Priority, wish: Wish, cursor: int, blocked: frozenset[str], drawn: Drawn
) -> Sequence[Row]:
    """Return the first events of other keys than ``blocked`` that have not failed; note if there may be more."""
    statements, destination = STATEMENTS[priority], wish.destination
    [(behind, newest)] = transaction.rows(statements.bounds, destination)
    if behind is None and not blocked:
        return transaction.rows(statements.ahead, destination=destination, cursor=cursor, limit=wish.limit)
    rows: list[Row] = []
    read = 0
    first = min(cursor + 1, behind or cursor + 1) // WIDTH
    wish.stretches.drop_before(priority, first)
    for stretch in range(first, newest // WIDTH + 1):
        if wish.stretches.has_only(priority, stretch, blocked):
            continue
        if read == _READ_AT_ONCE or len(rows) >= wish.limit:
            drawn.has_more = True
            break
        read += 1
        found = transaction.rows(
            statements.unblocked,
            destination=destination,
            cursor=cursor,
            begin=stretch * WIDTH,
            end=(stretch + 1) * WIDTH,
            blocked=array([*blocked]),
            limit=wish.limit - len(rows),
        )
        rows += found
        if not found and stretch < newest // WIDTH:
            wish.stretches.note(transaction, priority, stretch, destination, cursor)
    return rows


def _chosen(failed: Sequence[Row], untried: Sequence[Row], priority: Priority, wish: Wish) -> Sequence[Row]:
    rows = {row[0]: row for row in sorted((*failed, *untried), key=itemgetter(0))}
    tired = {sequence for of_priority, sequence in wish.resting if of_priority is priority}
    candidates = [Candidate(*row[:3]) for row in rows.values()]
    return [rows[candidate.sequence] for candidate in islice(sendable(candidates, tired), wish.limit)]


def _may_leave(row: Row, priority: Priority, now: float, drawn: Drawn) -> bool:
    sequence, body, expires, checksum = row[0], row[6], row[8], row[9]
    if expires is not None and expires <= now:
        drawn.expired.append((priority, sequence))
        return False
    if checksum is not None and zlib.crc32(body) != checksum:
        drawn.damaged.append((priority, sequence))
        return False
    return True


def _parcel(priority: Priority, row: Row) -> Parcel:
    sequence, key, failures, identifier, kind, subject, body, replayed, _, _ = row
    return Parcel(
        priority=priority,
        sequence=sequence,
        id=identifier,
        type=kind,
        subject=subject,
        key=key,
        body=body,
        attempts=failures,
        replayed=bool(replayed),
    )
