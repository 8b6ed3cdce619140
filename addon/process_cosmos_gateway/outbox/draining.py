"""What a destination gets next, as one transaction sees it."""

import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from process_cosmos_gateway.contract.destinations import Priority
from process_cosmos_gateway.contract.identifiers import Ulid
from process_cosmos_gateway.store import Transaction
from process_cosmos_gateway.store.transaction import Row

from . import packs, parking
from .books import array
from .model import Limits, Parcel
from .order import Candidate, compose, sendable
from .statements import LARGEST, STATEMENTS

type Resting = Collection[tuple[Priority, int]]
type Busy = Collection[tuple[Priority, str]]

LOOKED_PAST = 4096
"""How far past what waits for a busy key is looked: looking costs time, and so does what is left behind."""


@dataclass(slots=True)
class Drawn:
    """What may go now, and what stands in the way: rows to be given up, alarms to be unparked, a pack to be cut."""

    now: float
    waiting: dict[Priority, Sequence[Parcel]] = field(default_factory=dict)
    expired: list[tuple[Priority, int]] = field(default_factory=list)
    damaged: list[tuple[Priority, int]] = field(default_factory=list)
    moves_parked: bool = False
    needs_cut: bool = False

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
    ``priorities``: those wanted; ``busy``: priorities and keys of which nothing is wanted now.
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
    drawn.needs_cut = packs.needs_cut(transaction, wish.destination)
    pack = packs.look(transaction, wish.destination, wish.site)
    drawn.damaged += ((Priority.MEASUREMENT, sequence) for sequence in pack.damaged)
    if pack.parcel is not None and wish.wants(pack.parcel) and Priority.MEASUREMENT not in wish.reached:
        drawn.waiting[Priority.MEASUREMENT] = [pack.parcel]
    expired = parking.has_expired(transaction, wish.now)
    drawn.moves_parked = expired or parking.may_unpark(transaction, wish.destination, wish.limits)
    return drawn


def _of_queue(transaction: Transaction, priority: Priority, wish: Wish, drawn: Drawn) -> Sequence[Parcel]:
    statements = STATEMENTS[priority]
    cursor = transaction.rows(statements.cursor, wish.destination)
    if not cursor:
        return []
    # What waits for a failed event of its key is not even looked at: however much it is, it keeps nobody waiting.
    most = wish.limit + wish.limits.unsettled
    busy = [key for of_priority, key in wish.busy if of_priority is priority]
    behind = transaction.rows(statements.behind, destination=wish.destination, busy=array(busy), limit=most)
    if behind and wish.reached:
        return []
    failed = [row[1] for row in behind if row[2]]
    ahead: list[Row] = []
    if len(behind) < most and len(failed) < wish.limits.unsettled:
        begin = max(cursor[0][0], wish.reached.get(priority, 0))
        ahead = transaction.rows(
            statements.ahead,
            destination=wish.destination,
            cursor=begin,
            end=begin + LOOKED_PAST if busy else LARGEST,
            blocked=array([*failed, *busy]),
            limit=wish.limit,
        )
    rows = _chosen(behind, ahead, priority, wish) if behind else ahead
    return [_parcel(priority, row) for row in rows if _may_leave(row, priority, wish.now, drawn)]


def _chosen(behind: Sequence[Row], ahead: Sequence[Row], priority: Priority, wish: Wish) -> Sequence[Row]:
    rows = {row[0]: row for row in (*behind, *ahead)}
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
