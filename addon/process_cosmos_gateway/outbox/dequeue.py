"""Selection of the next deliveries for a destination, within one read transaction."""

import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from operator import itemgetter

from process_cosmos_gateway.contract.destinations import Priority
from process_cosmos_gateway.contract.identifiers import Ulid
from process_cosmos_gateway.store import Transaction
from process_cosmos_gateway.store.transaction import Row

from . import reading_batches
from .counters import json_array
from .key_ranges import WIDTH, KeyRanges
from .model import Delivery, Limits
from .order import Candidate, sendable
from .statements import STATEMENTS

type BackingOff = Collection[tuple[Priority, int]]
type Busy = Collection[tuple[Priority, str]]

_RANGES_PER_FETCH = 8
"""Key ranges read per fetch: a few milliseconds, during which no other transaction can read."""


@dataclass(slots=True)
class FetchResult:
    """Deliveries that may be sent now, and the writes needed first: quarantine, a new reading batch."""

    waiting: dict[Priority, Sequence[Delivery]] = field(default_factory=dict)
    damaged: list[tuple[Priority, int]] = field(default_factory=list)
    needs_batch: bool = False
    has_more: bool = False

    @property
    def is_incomplete(self) -> bool:
        """Whether nothing was found and the queues hold more than one fetch reads."""
        return self.has_more and not any(self.waiting.values())

    @property
    def needs_write(self) -> bool:
        """Whether rows must be changed before anything is sent."""
        return bool(self.damaged or self.needs_batch)


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchRequest:
    """A request for at most ``limit`` events per priority, without those ``backing_off``.

    ``in_flight``: the highest sequence number per priority that is sent and not settled; only later events are
    fetched. ``priorities``: those to fetch; ``busy``: priorities and keys of which nothing is fetched. ``key_ranges``:
    the index filled by earlier fetches.
    """

    destination: str
    limit: int
    limits: Limits
    site: Ulid
    backing_off: BackingOff = ()
    in_flight: Mapping[Priority, int] = field(default_factory=dict)
    priorities: Collection[Priority] = tuple(Priority)
    busy: Busy = ()
    key_ranges: KeyRanges = field(default_factory=KeyRanges)

    def allows(self, delivery: Delivery) -> bool:
        """Return whether the request allows ``delivery``, the next of its key."""
        backs_off = (delivery.priority, delivery.sequence) in self.backing_off
        return (
            delivery.priority in self.priorities
            and (delivery.priority, delivery.key) not in self.busy
            and not backs_off
        )


def fetch_deliveries(transaction: Transaction, request: FetchRequest) -> FetchResult:
    """Read the next deliveries of a destination, and which rows must be changed before they are sent."""
    result = FetchResult()
    for priority in STATEMENTS:
        if priority in request.priorities:
            result.waiting[priority] = _fetch_priority(transaction, priority, request, result)
    result.needs_batch = reading_batches.needs_batch(transaction, request.destination)
    batch = reading_batches.read_batch(transaction, request.destination, request.site)
    result.damaged += ((Priority.READING, sequence) for sequence in batch.damaged)
    # A destination has one batch at a time: the next one is created when the batch in flight is settled.
    if batch.delivery is not None and request.allows(batch.delivery) and Priority.READING not in request.in_flight:
        result.waiting[Priority.READING] = [batch.delivery]
    return result


def _fetch_priority(
    transaction: Transaction, priority: Priority, request: FetchRequest, result: FetchResult
) -> Sequence[Delivery]:
    statements = STATEMENTS[priority]
    cursor = transaction.rows(statements.cursor, request.destination)
    if not cursor:
        return []
    if request.in_flight:
        # Exceptions lie behind the cursor, so ``in_flight`` cannot exclude them: one could be sent a second time.
        if transaction.rows(statements.has_exceptions, request.destination):
            return []
        cursor = [(max(cursor[0][0], request.in_flight.get(priority, 0)),)]
    # More than ``limit``, because failed events that are backing off must not hide later ones whose retry is due.
    limit_failed = request.limit + request.limits.unsettled
    busy = [key for event_priority, key in request.busy if event_priority is priority]
    failed = transaction.rows(
        statements.failed, destination=request.destination, busy=json_array(busy), limit=limit_failed
    )
    if len(failed) < request.limits.unsettled:
        # Events behind a failed one of their key are not read, so their number does not delay other keys.
        blocked = frozenset(row[1] for row in failed).union(busy)
        untried = _fetch_untried(transaction, priority, request, cursor[0][0], blocked, result)
    else:
        untried = []
    rows = _select_sendable(failed, untried, priority, request) if failed else untried
    return [_to_delivery(priority, row) for row in rows if _check_row(row, priority, result)]


def _fetch_untried(  # noqa: PLR0917 - one query
    transaction: Transaction,
    priority: Priority,
    request: FetchRequest,
    cursor: int,
    blocked: frozenset[str],
    result: FetchResult,
) -> Sequence[Row]:
    """Return the first events without failures whose key is not ``blocked``; set ``has_more`` on an early stop."""
    statements, destination = STATEMENTS[priority], request.destination
    [(first_exception, newest)] = transaction.rows(statements.exception_and_newest, destination)
    if first_exception is None and not blocked:
        return transaction.rows(statements.after_cursor, destination=destination, cursor=cursor, limit=request.limit)
    rows: list[Row] = []
    read = 0
    first = min(cursor + 1, first_exception or cursor + 1) // WIDTH
    request.key_ranges.forget_before(priority, first)
    for number in range(first, newest // WIDTH + 1):
        if request.key_ranges.has_only_keys(priority, number, blocked):
            continue
        if read == _RANGES_PER_FETCH or len(rows) >= request.limit:
            result.has_more = True
            break
        read += 1
        found = transaction.rows(
            statements.unblocked,
            destination=destination,
            cursor=cursor,
            begin=number * WIDTH,
            end=(number + 1) * WIDTH,
            blocked=json_array([*blocked]),
            limit=request.limit - len(rows),
        )
        rows += found
        # The last range still grows, so its keys are not recorded.
        if not found and number < newest // WIDTH:
            request.key_ranges.record_keys(transaction, priority, number, destination, cursor)
    return rows


def _select_sendable(
    failed: Sequence[Row], untried: Sequence[Row], priority: Priority, request: FetchRequest
) -> Sequence[Row]:
    rows = {row[0]: row for row in sorted((*failed, *untried), key=itemgetter(0))}
    backoff = {sequence for event_priority, sequence in request.backing_off if event_priority is priority}
    candidates = [Candidate(*row[:3]) for row in rows.values()]
    return [rows[candidate.sequence] for candidate in islice(sendable(candidates, backoff), request.limit)]


def _check_row(row: Row, priority: Priority, result: FetchResult) -> bool:
    sequence, body, checksum = row[0], row[6], row[8]
    if zlib.crc32(body) != checksum:
        result.damaged.append((priority, sequence))
        return False
    return True


def _to_delivery(priority: Priority, row: Row) -> Delivery:
    sequence, key, failures, identifier, kind, subject, body, replayed, _ = row
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
