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
from .key_ranges import WIDTH, KeyRanges
from .model import Delivery, Limits
from .order import Candidate, compose, sendable
from .statements import STATEMENTS

type BackingOff = Collection[tuple[Priority, int]]
type Busy = Collection[tuple[Priority, str]]

_READ_AT_ONCE = 8
"""Stretches a draw reads: a few milliseconds, in which nobody else can read."""


@dataclass(slots=True)
class FetchResult:
    """What may go now, and what stands in the way: rows to be given up, alarms to be unparked, a pack to be cut."""

    now: float
    waiting: dict[Priority, Sequence[Delivery]] = field(default_factory=dict)
    expired: list[tuple[Priority, int]] = field(default_factory=list)
    damaged: list[tuple[Priority, int]] = field(default_factory=list)
    moves_overflow: bool = False
    needs_cut: bool = False
    has_more: bool = False

    @property
    def goes_on(self) -> bool:
        """Whether nothing was found so far, and the queues hold more than a draw reads."""
        return self.has_more and not any(self.waiting.values())

    @property
    def is_clear(self) -> bool:
        """Whether nothing stands in the way."""
        return not (self.expired or self.damaged or self.moves_overflow or self.needs_cut)

    def compose(self, sent: Mapping[Priority, float], limit: int) -> Sequence[Delivery]:
        """Return the batch to be sent."""
        return compose(self.waiting, sent, limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchRequest:
    """At most ``limit`` events of each priority, but for those ``backing_off``.

    ``reached``: the newest of each priority that is on its way, not settled yet; only what comes after it is wanted.
    ``priorities``: those wanted; ``busy``: priorities and keys of which nothing is wanted now. ``key_ranges``: what
    earlier draws have found.
    """

    destination: str
    limit: int
    limits: Limits
    now: float
    site: Ulid
    backing_off: BackingOff = ()
    reached: Mapping[Priority, int] = field(default_factory=dict)
    priorities: Collection[Priority] = tuple(Priority)
    busy: Busy = ()
    key_ranges: KeyRanges = field(default_factory=KeyRanges)

    def wants(self, delivery: Delivery) -> bool:
        """Say whether ``delivery``, the next of its key, is wanted."""
        backs_off = (delivery.priority, delivery.sequence) in self.backing_off
        return (
            delivery.priority in self.priorities
            and (delivery.priority, delivery.key) not in self.busy
            and not backs_off
        )


def fetch(transaction: Transaction, request: FetchRequest) -> FetchResult:
    """Look at what waits for a destination."""
    result = FetchResult(request.now)
    for priority in STATEMENTS:
        if priority in request.priorities:
            result.waiting[priority] = _of_queue(transaction, priority, request, result)
    result.needs_cut = reading_batches.needs_cut(transaction, request.destination)
    pack = reading_batches.look(transaction, request.destination, request.site)
    result.damaged += ((Priority.READING, sequence) for sequence in pack.damaged)
    if pack.delivery is not None and request.wants(pack.delivery) and Priority.READING not in request.reached:
        result.waiting[Priority.READING] = [pack.delivery]
    expired = overflow_queue.has_expired(transaction, request.now)
    result.moves_overflow = expired or overflow_queue.may_requeue(transaction, request.destination, request.limits)
    return result


def _of_queue(
    transaction: Transaction, priority: Priority, request: FetchRequest, result: FetchResult
) -> Sequence[Delivery]:
    statements = STATEMENTS[priority]
    cursor = transaction.rows(statements.cursor, request.destination)
    if not cursor:
        return []
    if request.reached:
        if transaction.rows(statements.has_exceptions, request.destination):
            return []
        cursor = [(max(cursor[0][0], request.reached.get(priority, 0)),)]
    most = request.limit + request.limits.unsettled
    busy = [key for of_priority, key in request.busy if of_priority is priority]
    failed = transaction.rows(statements.failed, destination=request.destination, busy=array(busy), limit=most)
    if len(failed) < request.limits.unsettled:
        # What waits for a failed event of its key is not even looked at: however much it is, it keeps nobody waiting.
        blocked = frozenset(row[1] for row in failed).union(busy)
        untried = _untried(transaction, priority, request, cursor[0][0], blocked, result)
    else:
        untried = []
    rows = _chosen(failed, untried, priority, request) if failed else untried
    return [_delivery(priority, row) for row in rows if _may_leave(row, priority, request.now, result)]


def _untried(  # noqa: PLR0917 - what to look for, and from where
    transaction: Transaction,
    priority: Priority,
    request: FetchRequest,
    cursor: int,
    blocked: frozenset[str],
    result: FetchResult,
) -> Sequence[Row]:
    """Return the first events of other keys than ``blocked`` that have not failed; note if there may be more."""
    statements, destination = STATEMENTS[priority], request.destination
    [(behind, newest)] = transaction.rows(statements.bounds, destination)
    if behind is None and not blocked:
        return transaction.rows(statements.ahead, destination=destination, cursor=cursor, limit=request.limit)
    rows: list[Row] = []
    read = 0
    first = min(cursor + 1, behind or cursor + 1) // WIDTH
    request.key_ranges.drop_before(priority, first)
    for stretch in range(first, newest // WIDTH + 1):
        if request.key_ranges.has_only(priority, stretch, blocked):
            continue
        if read == _READ_AT_ONCE or len(rows) >= request.limit:
            result.has_more = True
            break
        read += 1
        found = transaction.rows(
            statements.unblocked,
            destination=destination,
            cursor=cursor,
            begin=stretch * WIDTH,
            end=(stretch + 1) * WIDTH,
            blocked=array([*blocked]),
            limit=request.limit - len(rows),
        )
        rows += found
        if not found and stretch < newest // WIDTH:
            request.key_ranges.note(transaction, priority, stretch, destination, cursor)
    return rows


def _chosen(failed: Sequence[Row], untried: Sequence[Row], priority: Priority, request: FetchRequest) -> Sequence[Row]:
    rows = {row[0]: row for row in sorted((*failed, *untried), key=itemgetter(0))}
    backoff = {sequence for of_priority, sequence in request.backing_off if of_priority is priority}
    candidates = [Candidate(*row[:3]) for row in rows.values()]
    return [rows[candidate.sequence] for candidate in islice(sendable(candidates, backoff), request.limit)]


def _may_leave(row: Row, priority: Priority, now: float, result: FetchResult) -> bool:
    sequence, body, expires, checksum = row[0], row[6], row[8], row[9]
    if expires is not None and expires <= now:
        result.expired.append((priority, sequence))
        return False
    if zlib.crc32(body) != checksum:
        result.damaged.append((priority, sequence))
        return False
    return True


def _delivery(priority: Priority, row: Row) -> Delivery:
    sequence, key, failures, identifier, kind, subject, body, replayed, _, _ = row
    return Delivery(
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
