"""Readings: stored as one small row each, sent in batches as SenML events (RFC 8428)."""

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from secrets import token_bytes
from typing import Any

import orjson

from process_cosmos_gateway.contract.destinations import EventKind, Priority
from process_cosmos_gateway.contract.events import event_type, site_source
from process_cosmos_gateway.contract.identifiers import Ulid, UlidFactory, join_names, milliseconds_of
from process_cosmos_gateway.store import Transaction

from .counters import add_to_backlog, add_to_counter, count_drops, read_backlog
from .enqueue import EnqueueContext, Row
from .model import Delivery, DeliveryResult, DropReason, Failed, Limits, OutgoingReading, Rejected
from .quotas import READING_BYTES, Watermarks, share_per_destination, watermarks

READINGS = event_type("readings")
READINGS_AT_ONCE = 500
"""The maximum number of readings in one event."""

_CONTENT_TYPE = "application/senml+json"
_KEY = "readings"
_SELECT_CURSOR = "SELECT sequence FROM outbox_cursor WHERE destination = ? AND priority = 'reading'"
_SUBSCRIBED = "SELECT 1 FROM outbox_kind WHERE kind = 'reading' AND destination = ?"


def add_readings(transaction: Transaction, readings: Sequence[OutgoingReading], context: EnqueueContext) -> None:
    """Enqueue readings for all subscribers; where the share of a destination is full, drop its oldest readings."""
    destinations = context.destinations
    receivers = destinations.receivers(EventKind.READING, None)
    if not receivers or not readings:
        return
    if context.refuses(Priority.READING):
        count_drops(transaction, Priority.READING, DropReason.DISK, len(readings))
        return
    numbers = {series: _series_number(transaction, series) for series in {_series_key(each) for each in readings}}
    rows = [_row(each, numbers[_series_key(each)], context.now) for each in readings]
    transaction.insert("INSERT INTO outbox_reading (series, time, value, accepted_at, checksum) VALUES ", rows)
    add_to_counter(transaction, Priority.READING, len(rows))
    share = share_per_destination(context.limits.quota[Priority.READING], len(destinations.kinds))
    for name in receivers:
        add_to_backlog(transaction, name, Priority.READING, len(rows), len(rows) * READING_BYTES)
        before = destinations.backlog_bytes[name, Priority.READING]
        marks = watermarks(share, before, keeps=Priority.READING in context.limits.keeps_backlog)
        if before + len(rows) * READING_BYTES > marks.high:
            _drop_oldest_readings(transaction, name, marks, DropReason.QUOTA)


def drop_for_urgent_events(transaction: Transaction, limits: Limits) -> None:
    """Drop the oldest readings of each backlog beyond its share: an almost full disk must hold urgent events."""
    waiting = transaction.rows("SELECT destination, bytes FROM outbox_backlog WHERE priority = 'reading'")
    marks = watermarks(share_per_destination(limits.quota[Priority.READING], len(waiting)))
    for name, size in waiting:
        if size > marks.high:
            _drop_oldest_readings(transaction, name, marks, DropReason.DISK)


type _Series = tuple[str, str, str]


def _series_key(reading: OutgoingReading) -> _Series:
    """Return the series key. It includes the unit, so that a batch already created keeps its old unit."""
    return reading.device, reading.property, reading.unit or ""


def _series_number(transaction: Transaction, series: _Series) -> int:
    known = "SELECT number FROM outbox_series WHERE device = ? AND property = ? AND unit = ?"
    new = "INSERT INTO outbox_series (device, property, unit) VALUES (?, ?, ?) RETURNING number"
    [(number,)] = transaction.rows(known, *series) or transaction.rows(new, *series)
    return int(number)


def _row(reading: OutgoingReading, number: int, now: float) -> Row:
    # SQLite stores -0.0 as 0.0 in the REAL column of the time, but not in the ANY column of the value.
    time, value = float(reading.time) + 0.0, float(reading.value)
    return number, time, value, now, _checksum(*_series_key(reading), time, value, now)


def _checksum(*fields: object) -> int:
    """Return a CRC-32 over the fields, also if a flipped bit changed the type of one."""
    return zlib.crc32(orjson.dumps(fields, default=repr))


def _drop_oldest_readings(transaction: Transaction, destination: str, marks: Watermarks, reason: DropReason) -> None:
    waiting, size = read_backlog(transaction, destination, Priority.READING)
    excess = -(-(size - marks.low) // READING_BYTES)
    [(cursor,)] = transaction.rows(_SELECT_CURSOR, destination)
    # Numbers have gaps where damaged readings were removed, so rows are counted.
    last = transaction.rows(
        "SELECT max(sequence) FROM ("
        "  SELECT sequence FROM outbox_reading WHERE sequence > ? ORDER BY sequence LIMIT ?)",
        cursor,
        min(excess, waiting),
    )[0][0]
    # A batch starts with the oldest reading, so it is dropped completely, up to its last reading.
    batches = transaction.rows("DELETE FROM outbox_reading_batch WHERE destination = ? RETURNING last", destination)
    dropped = _advance_cursor(transaction, destination, max([last, *(last_of_batch for (last_of_batch,) in batches)]))
    count_drops(transaction, Priority.READING, reason, dropped)


def _advance_cursor(transaction: Transaction, destination: str, last: int) -> int:
    """Move the cursor of ``destination`` to ``last``; return how many readings it passed."""
    [(cursor,)] = transaction.rows(_SELECT_CURSOR, destination)
    passed: int
    [(passed,)] = transaction.rows(
        "SELECT count(*) FROM outbox_reading WHERE sequence > ? AND sequence <= ?", cursor, last
    )
    transaction.run(
        "UPDATE outbox_cursor SET sequence = ? WHERE destination = ? AND priority = 'reading'", last, destination
    )
    add_to_backlog(transaction, destination, Priority.READING, -passed, -passed * READING_BYTES)
    delete_settled_readings(transaction)
    return passed


def delete_settled_readings(transaction: Transaction) -> None:
    """Delete the readings that all subscribers have passed."""
    [(last,)] = transaction.rows(
        "SELECT min(sequence) FROM outbox_cursor WHERE priority = 'reading'"
        " AND destination IN (SELECT destination FROM outbox_kind WHERE kind = 'reading')"
    )
    # NULL: there is no subscriber left, so no reading is kept.
    deleted = transaction.run("DELETE FROM outbox_reading WHERE ?1 IS NULL OR sequence <= ?1", last)
    add_to_counter(transaction, Priority.READING, -deleted)


def start_at_end(transaction: Transaction, destination: str) -> None:
    """Set the cursor of ``destination`` to the end of the readings."""
    transaction.run("DELETE FROM outbox_reading_batch WHERE destination = ?", destination)
    transaction.run(
        "INSERT OR REPLACE INTO outbox_cursor SELECT ?, 'reading',"
        " coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'outbox_reading'), 0)",
        destination,
    )


def needs_batch(transaction: Transaction, destination: str) -> bool:
    """Return whether readings are pending and the destination has no batch with stored readings."""
    if not transaction.rows(_SUBSCRIBED, destination):
        return False
    current = (
        "SELECT 1 FROM outbox_reading_batch JOIN outbox_reading ON sequence BETWEEN first AND last"
        " WHERE destination = ? LIMIT 1"
    )
    if transaction.rows(current, destination):
        return False
    pending = "SELECT 1 FROM outbox_reading WHERE sequence > (SELECT sequence FROM outbox_cursor"
    where = "WHERE destination = ? AND priority = 'reading') LIMIT 1"
    return bool(transaction.rows(f"{pending} {where}", destination))


def drop_damaged_reading(transaction: Transaction, sequence: int) -> None:
    """Drop a damaged reading for all destinations; a batch that contains it will be created again with a new id."""
    waiting = transaction.rows(
        "SELECT destination FROM outbox_cursor WHERE priority = 'reading' AND sequence < ?"
        " AND destination IN (SELECT destination FROM outbox_kind WHERE kind = 'reading')",
        sequence,
    )
    for (name,) in waiting:
        add_to_backlog(transaction, name, Priority.READING, -1, -READING_BYTES)
    count_drops(transaction, Priority.READING, DropReason.DAMAGED, len(waiting))
    transaction.run("DELETE FROM outbox_reading_batch WHERE ? BETWEEN first AND last", sequence)
    transaction.run("DELETE FROM outbox_reading WHERE sequence = ?", sequence)
    add_to_counter(transaction, Priority.READING, -1)


def _next_batch_id(transaction: Transaction, ulid_fn: Callable[[], Ulid]) -> Ulid:
    """Return an id above those of all earlier batches, even if the clock was set back before a restart."""
    made = ulid_fn()
    for (last,) in transaction.rows("SELECT id FROM outbox_last_reading_batch"):
        if made <= last:
            made = UlidFactory(lambda: 0, token_bytes, milliseconds_of(last))()
    transaction.run("INSERT OR REPLACE INTO outbox_last_reading_batch VALUES (1, ?)", made)
    return made


def create_batch(transaction: Transaction, destination: str, ulid_fn: Callable[[], Ulid]) -> None:
    """Store the id and range of the next batch if readings are pending and there is no batch yet."""
    if not needs_batch(transaction, destination):
        return
    [(first, last)] = transaction.rows(
        "SELECT min(sequence), max(sequence) FROM (SELECT sequence FROM outbox_reading"
        " WHERE sequence > (SELECT sequence FROM outbox_cursor WHERE destination = ? AND priority = 'reading')"
        " ORDER BY sequence LIMIT ?)",
        destination,
        READINGS_AT_ONCE,
    )
    transaction.run(
        "INSERT OR REPLACE INTO outbox_reading_batch (destination, id, first, last) VALUES (?, ?, ?, ?)",
        destination,
        _next_batch_id(transaction, ulid_fn),
        first,
        last,
    )


@dataclass(frozen=True, slots=True)
class NextBatch:
    """The next batch as a delivery, or the numbers of its damaged readings; both are empty if there is no batch."""

    delivery: Delivery | None = None
    damaged: Sequence[int] = ()


def read_batch(transaction: Transaction, destination: str, site: Ulid) -> NextBatch:
    """Return the current batch: the same id and bytes at each call until it is settled."""
    batches = transaction.rows(
        "SELECT id, first, last, failures FROM outbox_reading_batch WHERE destination = ?", destination
    )
    if not batches:
        return NextBatch()
    [(identifier, first, last, failures)] = batches
    # LEFT JOIN: a reading without its series fails its checksum, instead of being missing from the batch unnoticed.
    rows = transaction.rows(
        "SELECT device, property, unit, time, value, accepted_at, sequence, checksum"
        " FROM outbox_reading LEFT JOIN outbox_series ON number = series"
        " WHERE sequence BETWEEN ? AND ? ORDER BY sequence",
        first,
        last,
    )
    damaged = [row[6] for row in rows if _checksum(*row[:6]) != row[7]]
    if damaged or not rows:
        return NextBatch(damaged=damaged)
    # Nothing here may depend on the time of sending: a retry must have the same bytes under the same id.
    document = {
        "specversion": "1.0",
        "id": identifier,
        "source": site_source(site),
        "type": READINGS,
        "subject": _KEY,
        "time": datetime.fromtimestamp(rows[-1][5], UTC),
        "datacontenttype": _CONTENT_TYPE,
        "data": [_record(*row[:5]) for row in rows],
    }
    return NextBatch(
        Delivery(
            priority=Priority.READING,
            sequence=last,
            id=identifier,
            type=READINGS,
            subject=_KEY,
            key=_KEY,
            body=orjson.dumps(document, option=orjson.OPT_UTC_Z),
            attempts=failures,
        )
    )


def _record(device: str, name: str, unit: str, time: float, value: float) -> Mapping[str, Any]:
    return {"n": join_names(device, name), "t": time, **({"u": unit} if unit else {}), "v": value}


def settle_batch(
    transaction: Transaction,
    destination: str,
    settlement: tuple[Delivery, DeliveryResult],
    *,
    delivered: int,
    max_strikes: int,
    now: float,
) -> tuple[Delivery, DeliveryResult] | None:
    """Apply the result of a batch and return it, with poison as ``Rejected``; None if the batch no longer exists."""
    sent, result = settlement
    if not transaction.rows(
        "SELECT 1 FROM outbox_reading_batch WHERE destination = ? AND id = ?", destination, sent.id
    ):
        return None
    if isinstance(result, Failed):
        [(strikes,)] = transaction.rows(
            "UPDATE outbox_reading_batch SET failures = failures + 1,"
            " strikes = strikes + (:delivered > delivered_then), delivered_then = :delivered"
            " WHERE destination = :destination RETURNING strikes",
            delivered=delivered,
            destination=destination,
        )
        if strikes < max_strikes:
            return settlement
        result = result.as_poison(max_strikes)
    if isinstance(result, Rejected):
        _store_rejected(transaction, destination, sent, result, now)
    transaction.run("DELETE FROM outbox_reading_batch WHERE destination = ?", destination)
    _advance_cursor(transaction, destination, sent.sequence)
    return sent, result


def _store_rejected(transaction: Transaction, destination: str, sent: Delivery, result: Rejected, now: float) -> None:
    transaction.run(
        "INSERT INTO outbox_rejected"
        " (destination, priority, code, message, reply, attempts, rejected_at, id, type, kind, subject, key, body)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        destination,
        Priority.READING,
        *(result.code, result.message, result.reply, sent.attempts + 1, now),
        *(sent.id, sent.type, EventKind.READING, sent.subject, sent.key, sent.body),
    )
    add_to_counter(transaction, "rejected", 1)
