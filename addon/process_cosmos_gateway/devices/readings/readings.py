"""SQL for raw readings: merged, never overwritten, and deleted by age and size."""

from collections.abc import Sequence

from process_cosmos_gateway.devices.repository import delete_unused_devices, delete_unused_properties, property_number
from process_cosmos_gateway.devices.things.values import Reading
from process_cosmos_gateway.store import Transaction

READING_DAYS = 10
"""Days for which a reading is stored after its receipt."""

READING_BYTES = 48
"""Disk space of a number, including its share of half-full pages; a text needs its UTF-8 bytes in addition."""

_SLICE_SECONDS = 3600.0
_MAX_ROWS = 1000
_MAX_PROPERTIES = 500


def store_readings(
    transaction: Transaction, device: str, name: str, readings: Sequence[Reading], received: float
) -> Sequence[Reading]:
    """Store raw readings; return those that were not stored before."""
    number = property_number(transaction, device, name)
    # Row by row, because the change count of each tells whether the reading is new; only new ones are forwarded.
    fresh = [
        reading
        for reading in readings
        if transaction.run(
            "INSERT OR IGNORE INTO device_reading VALUES (?, ?, ?, ?)", number, reading.time, reading.value, received
        )
    ]
    texts = sum(len(reading.value.encode()) for reading in fresh if isinstance(reading.value, str))
    _add_bytes(transaction, number, len(fresh) * READING_BYTES + texts)
    return fresh


def delete_old(transaction: Transaction, before: float, now: float, after: int = 0) -> int | None:
    """Delete a batch of the readings received ``before`` a time, and properties and devices without any rows left.

    Starts with the properties numbered above ``after``; returns the number to continue with, None at the end. A reading
    whose own time is between ``before`` and ``now`` is left for later, so that only two ranges of the key are read, not
    all readings.
    """
    numbers = [
        number
        for (number,) in transaction.rows(
            "SELECT number FROM device_property WHERE number > ? ORDER BY number LIMIT ?", after, _MAX_PROPERTIES
        )
    ]
    if not numbers:
        delete_unused_devices(transaction)
        return None
    left: int = _MAX_ROWS
    last: int = numbers[-1]
    for number in numbers:
        left -= _delete(transaction, number, "time < ? AND received_at < ?", before, before, most=left)
        left -= _delete(transaction, number, "time > ? AND received_at < ?", now, before, most=left)
        if not left:
            # This property may have more of them: the next batch begins with it again.
            last = number - 1
            break
    delete_unused_properties(transaction, "number > ? AND number <= ?", after, last)
    return last


def delete_withdrawn(transaction: Transaction, most: int) -> int | None:
    """Delete a batch of what withdrawn devices left, except the ``most`` described last.

    Returns the number of deleted readings; None: there is nothing to delete.
    """
    numbers = transaction.rows(
        """SELECT number FROM device_property WHERE device IN (
             SELECT number FROM device WHERE length(description) = 0 ORDER BY number DESC LIMIT -1 OFFSET ?) LIMIT ?""",
        most,
        _MAX_PROPERTIES,
    )
    left = _MAX_ROWS
    for (number,) in numbers:
        left -= _delete(transaction, number, "1", most=left)
        if not left:
            break
        for place in ("window WHERE property", "gate WHERE property", "write WHERE property", "property WHERE number"):
            transaction.run(f"DELETE FROM device_{place} = ?", number)  # noqa: S608 - names from the line above
    return _MAX_ROWS - left if numbers else None


def stored_bytes(transaction: Transaction) -> float:
    """Return the bytes that all readings use on disk."""
    # From the counters of the properties: to count the readings themselves would scan their whole table.
    [(used,)] = transaction.rows("SELECT total(bytes) FROM device_property")
    return float(used)


def delete_oldest(transaction: Transaction) -> int:
    """Delete a batch of the oldest readings; return how many.

    Deletes one hour of all properties at a time, so that frequent and rare readings reach back equally far.
    """
    # The minimum of one property is a lookup in the primary key; GROUP BY property would scan all readings.
    oldest = {
        number: first
        for number, first in transaction.rows(
            "SELECT number, (SELECT min(time) FROM device_reading WHERE property = number) FROM device_property"
        )
        if first is not None
    }
    before = min(oldest.values(), default=0.0) + _SLICE_SECONDS
    deleted = 0
    for number in (number for number, first in oldest.items() if first <= before):
        deleted += _delete(transaction, number, "time <= ?", before)
    return deleted


def _delete(transaction: Transaction, number: int, where: str, *values: float, most: int = _MAX_ROWS) -> int:
    """Delete at most ``most`` readings of a property; return how many."""
    # Limited by a subquery: DELETE … LIMIT is an option that SQLite is not always compiled with.
    texts = transaction.rows(
        f"""DELETE FROM device_reading WHERE (property, time, value) IN (
              SELECT property, time, value FROM device_reading WHERE property = ? AND {where} ORDER BY time LIMIT ?)
            RETURNING iif(typeof(value) = 'text', octet_length(value), 0)""",  # noqa: S608 - our own words
        number,
        *values,
        most,
    )
    if texts:
        _add_bytes(transaction, number, -len(texts) * READING_BYTES - sum(size for (size,) in texts))
    return len(texts)


def _add_bytes(transaction: Transaction, number: int, added: int) -> None:
    transaction.run("UPDATE device_property SET bytes = bytes + ? WHERE number = ?", added, number)
