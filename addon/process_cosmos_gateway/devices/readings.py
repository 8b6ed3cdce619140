"""Raw readings as they are kept here: merged, never overwritten, for some days and within some bytes."""

from collections.abc import Sequence

from process_cosmos_gateway.store import Transaction

from .memory import property_number
from .values import Reading

READING_DAYS = 10
"""For so long readings are kept after they came."""

READING_BYTES = 48
"""What a number takes of the disk, its share of half-full pages with it; a text takes its bytes more."""

_SLICE_SECONDS = 3600.0
_AT_ONCE = 1000


def keep(
    transaction: Transaction, device: str, name: str, readings: Sequence[Reading], received: float
) -> Sequence[Reading]:
    """Keep raw readings; return those that were not there yet."""
    number = property_number(transaction, device, name)
    fresh = [
        reading
        for reading in readings
        if transaction.run(
            "INSERT OR IGNORE INTO device_reading VALUES (?, ?, ?, ?)", number, reading.time, reading.value, received
        )
    ]
    texts = sum(len(reading.value.encode()) for reading in fresh if isinstance(reading.value, str))
    _grow(transaction, number, len(fresh) * READING_BYTES + texts)
    return fresh


def forget_old(transaction: Transaction, before: float, now: float) -> None:
    """Forget readings received ``before`` a time, and properties and devices that leave nothing behind.

    A reading whose own time lies between is left until it is over: two ranges of the key are read, not all readings.
    """
    for (number,) in transaction.rows("SELECT number FROM device_property"):
        _delete(transaction, number, "time < ? AND received_at < ?", before, before)
        _delete(transaction, number, "time > ? AND received_at < ?", now, before)
    transaction.run(
        """DELETE FROM device_property WHERE value IS NULL
           AND NOT EXISTS (SELECT 1 FROM device_reading WHERE property = device_property.number)
           AND NOT EXISTS (SELECT 1 FROM device_write WHERE property = device_property.number)
           AND NOT EXISTS (SELECT 1 FROM device_window WHERE property = device_property.number)
           AND NOT EXISTS (
             SELECT 1 FROM device_gate WHERE property = device_property.number AND held_time IS NOT NULL)"""
    )
    for table in ("device_window", "device_gate"):
        transaction.run(f"DELETE FROM {table} WHERE property NOT IN (SELECT number FROM device_property)")  # noqa: S608 - our words
    transaction.run(
        """DELETE FROM device WHERE length(description) = 0
           AND NOT EXISTS (SELECT 1 FROM device_property WHERE device = device.number)"""
    )


def bytes_taken(transaction: Transaction) -> float:
    """Return the bytes that readings take."""
    [(taken,)] = transaction.rows("SELECT total(bytes) FROM device_property")
    return float(taken)


def forget_oldest(transaction: Transaction) -> int:
    """Forget some of the oldest readings; return how many.

    An hour of all properties at a time, so that what is frequent and what is rare reach back equally far.
    """
    oldest = {
        number: first
        for number, first in transaction.rows(
            "SELECT number, (SELECT min(time) FROM device_reading WHERE property = number) FROM device_property"
        )
        if first is not None
    }
    until = min(oldest.values(), default=0.0) + _SLICE_SECONDS
    gone = 0
    for number in (number for number, first in oldest.items() if first <= until):
        some = "SELECT time FROM device_reading WHERE property = ? ORDER BY time LIMIT 1 OFFSET ?"
        bounds = [time for (time,) in transaction.rows(some, number, _AT_ONCE)]
        gone += _delete(transaction, number, "time <= ?", min([until, *bounds]))
    return gone


def _delete(transaction: Transaction, number: int, where: str, *values: float) -> int:
    """Forget readings of a property; return how many."""
    [(gone, texts)] = transaction.rows(
        f"""SELECT count(*), total(iif(typeof(value) = 'text', octet_length(value), 0))
            FROM device_reading WHERE property = ? AND {where}""",  # noqa: S608 - our own words
        number,
        *values,
    )
    if gone:
        transaction.run(f"DELETE FROM device_reading WHERE property = ? AND {where}", number, *values)  # noqa: S608 - as above
        _grow(transaction, number, -gone * READING_BYTES - int(texts))
    return int(gone)


def _grow(transaction: Transaction, number: int, more: int) -> None:
    transaction.run("UPDATE device_property SET bytes = bytes + ? WHERE number = ?", more, number)
