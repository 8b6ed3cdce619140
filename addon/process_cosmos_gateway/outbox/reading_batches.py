"""Readings: small rows while they wait, events of many (SenML, RFC 8428) when they leave."""

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

from .counters import backlog, count, drop, wait
from .enqueue import Conditions, Row
from .model import Delivery, DeliveryResult, DropReason, Failed, Limits, OutgoingReading, Rejected
from .quotas import READING_BYTES, Bound, bound, share

READINGS = event_type("readings")
READINGS_AT_ONCE = 500
"""At most so many in one event."""

_CONTENT_TYPE = "application/senml+json"
_KEY = "readings"
_CURSOR = "SELECT sequence FROM outbox_cursor WHERE destination = ? AND priority = 'reading'"
_WAITING = "SELECT 1 FROM outbox_kind WHERE kind = 'reading' AND destination = ?"


def add(transaction: Transaction, readings: Sequence[OutgoingReading], under: Conditions) -> None:
    """Queue readings for who wants them; the oldest of a destination whose share is full are dropped."""
    audience = under.audience
    wanting = audience.of(EventKind.READING, None)
    if not wanting or not readings:
        return
    if under.refuses(Priority.READING):
        drop(transaction, Priority.READING, DropReason.DISK, len(readings))
        return
    numbers = {series: _number(transaction, series) for series in {_series(each) for each in readings}}
    rows = [_row(each, numbers[_series(each)], under.now) for each in readings]
    transaction.insert("INSERT INTO outbox_reading (series, time, value, accepted_at, checksum) VALUES ", rows)
    count(transaction, Priority.READING, len(rows))
    most = share(under.limits.quota[Priority.READING], len(audience.kinds))
    for name in wanting:
        wait(transaction, name, Priority.READING, len(rows), len(rows) * READING_BYTES)
        before = audience.bytes[name, Priority.READING]
        to = bound(most, before, keeps=Priority.READING in under.limits.keeps_backlog)
        if before + len(rows) * READING_BYTES > to.most:
            _drop_oldest(transaction, name, to, DropReason.QUOTA)


def make_room(transaction: Transaction, limits: Limits) -> None:
    """Give up the oldest readings of each backlog beyond its share: alarms need the room on a disk that is full."""
    waiting = transaction.rows("SELECT destination, bytes FROM outbox_backlog WHERE priority = 'reading'")
    to = bound(share(limits.quota[Priority.READING], len(waiting)))
    for name, size in waiting:
        if size > to.most:
            _drop_oldest(transaction, name, to, DropReason.DISK)


type _Series = tuple[str, str, str]


def _series(reading: OutgoingReading) -> _Series:
    """A property that changes its unit begins another series: what a pack already says must stay as it is."""
    return reading.device, reading.property, reading.unit or ""


def _number(transaction: Transaction, series: _Series) -> int:
    known = "SELECT number FROM outbox_series WHERE device = ? AND property = ? AND unit = ?"
    new = "INSERT INTO outbox_series (device, property, unit) VALUES (?, ?, ?) RETURNING number"
    [(number,)] = transaction.rows(known, *series) or transaction.rows(new, *series)
    return int(number)


def _row(reading: OutgoingReading, number: int, now: float) -> Row:
    # SQLite knows one zero for times, but two for values.
    time, value = float(reading.time) + 0.0, _stored(reading)
    return number, time, value, now, _checksum(*_series(reading), time, value, now)


def _checksum(*fields: object) -> int:
    """Return what a flipped bit would change, whatever it makes of a field."""
    return zlib.crc32(orjson.dumps(fields, default=repr))


def _stored(reading: OutgoingReading) -> float | str:
    value = reading.value
    return orjson.dumps(value).decode() if isinstance(value, bool | str) else float(value)


def _drop_oldest(transaction: Transaction, destination: str, to: Bound, reason: DropReason) -> None:
    waiting, size = backlog(transaction, destination, Priority.READING)
    over = -(-(size - to.target) // READING_BYTES)
    [(cursor,)] = transaction.rows(_CURSOR, destination)
    last = transaction.rows(
        "SELECT max(sequence) FROM ("
        "  SELECT sequence FROM outbox_reading WHERE sequence > ? ORDER BY sequence LIMIT ?)",
        cursor,
        min(over, waiting),
    )[0][0]
    # A pack begins with the oldest: it is gone with them, its last reading too.
    packs = transaction.rows("DELETE FROM outbox_reading_batch WHERE destination = ? RETURNING last", destination)
    gone = _pass(transaction, destination, max([last, *(last_of_pack for (last_of_pack,) in packs)]))
    drop(transaction, Priority.READING, reason, gone)


def _pass(transaction: Transaction, destination: str, last: int) -> int:
    """Let nothing up to ``last`` wait for ``destination`` any more; return how many readings that were."""
    [(cursor,)] = transaction.rows(_CURSOR, destination)
    passed: int
    [(passed,)] = transaction.rows(
        "SELECT count(*) FROM outbox_reading WHERE sequence > ? AND sequence <= ?", cursor, last
    )
    transaction.run(
        "UPDATE outbox_cursor SET sequence = ? WHERE destination = ? AND priority = 'reading'", last, destination
    )
    wait(transaction, destination, Priority.READING, -passed, -passed * READING_BYTES)
    clean(transaction)
    return passed


def clean(transaction: Transaction) -> None:
    """Delete the readings nobody waits for."""
    [(last,)] = transaction.rows(
        "SELECT min(sequence) FROM outbox_cursor WHERE priority = 'reading'"
        " AND destination IN (SELECT destination FROM outbox_kind WHERE kind = 'reading')"
    )
    gone = transaction.run("DELETE FROM outbox_reading WHERE ?1 IS NULL OR sequence <= ?1", last)
    count(transaction, Priority.READING, -gone)


def join(transaction: Transaction, destination: str) -> None:
    """Let ``destination`` begin at the end."""
    transaction.run("DELETE FROM outbox_reading_batch WHERE destination = ?", destination)
    transaction.run(
        "INSERT OR REPLACE INTO outbox_cursor SELECT ?, 'reading',"
        " coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'outbox_reading'), 0)",
        destination,
    )


def needs_cut(transaction: Transaction, destination: str) -> bool:
    """Say whether readings wait that no pack holds yet."""
    if not transaction.rows(_WAITING, destination):
        return False
    whole = "SELECT 1 FROM outbox_reading_batch JOIN outbox_reading ON sequence BETWEEN first AND last WHERE destination = ?"
    if transaction.rows(f"{whole} LIMIT 1", destination):
        return False
    ahead = "SELECT 1 FROM outbox_reading WHERE sequence > (SELECT sequence FROM outbox_cursor"
    mine = "WHERE destination = ? AND priority = 'reading') LIMIT 1"
    return bool(transaction.rows(f"{ahead} {mine}", destination))


def give_up(transaction: Transaction, sequence: int) -> None:
    """Send a damaged reading to nobody any more; a pack that holds it is cut anew, under another id."""
    waiting = transaction.rows(
        "SELECT destination FROM outbox_cursor WHERE priority = 'reading' AND sequence < ?"
        " AND destination IN (SELECT destination FROM outbox_kind WHERE kind = 'reading')",
        sequence,
    )
    for (name,) in waiting:
        wait(transaction, name, Priority.READING, -1, -READING_BYTES)
    drop(transaction, Priority.READING, DropReason.DAMAGED, len(waiting))
    transaction.run("DELETE FROM outbox_reading_batch WHERE ? BETWEEN first AND last", sequence)
    transaction.run("DELETE FROM outbox_reading WHERE sequence = ?", sequence)
    count(transaction, Priority.READING, -1)


def _next_id(transaction: Transaction, ulid_fn: Callable[[], Ulid]) -> Ulid:
    """Return an id above those of all packs before, also when the clock is behind them since a restart."""
    made = ulid_fn()
    for (last,) in transaction.rows("SELECT id FROM outbox_last_reading_batch"):
        if made <= last:
            made = UlidFactory(lambda: 0, token_bytes, milliseconds_of(last))()
    transaction.run("INSERT OR REPLACE INTO outbox_last_reading_batch VALUES (1, ?)", made)
    return made


def cut(transaction: Transaction, destination: str, ulid_fn: Callable[[], Ulid]) -> None:
    """Decide what the next pack holds, if readings wait and it is not decided yet."""
    if not needs_cut(transaction, destination):
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
        _next_id(transaction, ulid_fn),
        first,
        last,
    )


@dataclass(frozen=True, slots=True)
class Pack:
    """The pack that is to go next, or the numbers of its readings that are not what they were; nothing: no pack."""

    delivery: Delivery | None = None
    damaged: Sequence[int] = ()


def look(transaction: Transaction, destination: str, site: Ulid) -> Pack:
    """Return the same bytes each time, until the pack is settled."""
    packs = transaction.rows(
        "SELECT id, first, last, failures FROM outbox_reading_batch WHERE destination = ?", destination
    )
    if not packs:
        return Pack()
    [(identifier, first, last, failures)] = packs
    rows = transaction.rows(
        "SELECT device, property, unit, time, value, accepted_at, sequence, checksum"
        " FROM outbox_reading LEFT JOIN outbox_series ON number = series"
        " WHERE sequence BETWEEN ? AND ? ORDER BY sequence",
        first,
        last,
    )
    damaged = [row[6] for row in rows if _checksum(*row[:6]) != row[7]]
    if damaged or not rows:
        return Pack(damaged=damaged)
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
    return Pack(
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


def _record(device: str, name: str, unit: str, time: float, value: float | str) -> Mapping[str, Any]:
    record: dict[str, Any] = {"n": join_names(device, name), "t": time}
    if unit:
        record["u"] = unit
    if isinstance(value, float):
        return record | {"v": value}
    said = orjson.loads(value)
    return record | ({"vb": said} if isinstance(said, bool) else {"vs": said})


def settle(
    transaction: Transaction,
    destination: str,
    settlement: tuple[Delivery, DeliveryResult],
    *,
    delivered: int,
    most_strikes: int,
    now: float,
) -> tuple[Delivery, DeliveryResult] | None:
    """Write down what became of a pack, poison turned into rejected; None: it is not known any more."""
    sent, result = settlement
    if not transaction.rows(
        "SELECT 1 FROM outbox_reading_batch WHERE destination = ? AND id = ?", destination, sent.id
    ):
        return None
    if isinstance(result, Failed):
        [(strikes,)] = transaction.rows(
            "UPDATE outbox_reading_batch SET failures = failures + 1, strikes = strikes + (:delivered > delivered_then),"
            " delivered_then = :delivered WHERE destination = :destination RETURNING strikes",
            delivered=delivered,
            destination=destination,
        )
        if strikes < most_strikes:
            return settlement
        result = result.as_poison(most_strikes)
    if isinstance(result, Rejected):
        _reject(transaction, destination, sent, result, now)
    transaction.run("DELETE FROM outbox_reading_batch WHERE destination = ?", destination)
    _pass(transaction, destination, sent.sequence)
    return sent, result


def _reject(transaction: Transaction, destination: str, sent: Delivery, result: Rejected, now: float) -> None:
    transaction.run(
        "INSERT INTO outbox_rejected"
        " (destination, priority, code, message, reply, attempts, rejected_at, id, type, kind, subject, key, body)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        destination,
        Priority.READING,
        result.code,
        result.message,
        result.reply,
        sent.attempts + 1,
        now,
        sent.id,
        sent.type,
        EventKind.READING,
        sent.subject,
        sent.key,
        sent.body,
    )
    count(transaction, "rejected", 1)
