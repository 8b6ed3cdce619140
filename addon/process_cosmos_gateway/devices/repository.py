"""SQL for devices, their newest values, property writes and the broker session."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import orjson

from process_cosmos_gateway.contract.devices import Value
from process_cosmos_gateway.store import Transaction

from .things.values import Reading

MARK_BYTES = 18
"""Bytes of a message's mark: its packet id in two bytes, and a hash."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDevice:
    """A device as of the last commit; ``values``: the newest reading of each property that has one."""

    topic: str
    description: bytes
    online: bool | None
    values: Mapping[str, Reading]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredWrite:
    """A property write that was neither confirmed nor expired at the last commit. Times are seconds since 1970."""

    device: str
    name: str
    value: Value
    written_at: float
    expires_at: float


def load_devices(transaction: Transaction) -> list[StoredDevice]:
    """Return all devices whose description was not withdrawn."""
    values: dict[int, dict[str, Reading]] = {}
    for number, name, value, time in transaction.rows(
        "SELECT device, name, value, time FROM device_property WHERE value IS NOT NULL"
    ):
        with suppress(orjson.JSONDecodeError):  # then its retained value is requested from the broker again
            values.setdefault(number, {})[name] = Reading(value=orjson.loads(value), time=time)
    return [
        StoredDevice(
            topic=topic,
            description=description,
            online=None if online is None else bool(online),
            values=values.get(number, {}),
        )
        for number, topic, description, online in transaction.rows(
            "SELECT number, topic, description, online FROM device WHERE length(description) > 0"
        )
    ]


def store_description(
    transaction: Transaction, device: str, topic: str, description: bytes, properties: Iterable[str]
) -> None:
    """Store a new or changed description.

    Properties that are not in ``properties`` lose their newest value, and keep their readings.
    """
    # Not INSERT OR REPLACE: it would give the device a new number, to which none of its properties refers.
    transaction.run(
        """INSERT INTO device (id, topic, description) VALUES (?, ?, ?)
           ON CONFLICT (id) DO UPDATE SET topic = excluded.topic, description = excluded.description""",
        device,
        topic,
        description,
    )
    number = transaction.rows("SELECT number FROM device WHERE id = ?", device)[0][0]
    names = orjson.dumps(list(properties)).decode()
    transaction.run(
        "INSERT OR IGNORE INTO device_property (device, name) SELECT ?, value FROM json_each(?)", number, names
    )
    transaction.run(
        """UPDATE device_property SET value = NULL, time = NULL
           WHERE device = ? AND name NOT IN (SELECT value FROM json_each(?))""",
        number,
        names,
    )
    delete_unused_properties(transaction, "device = ? AND name NOT IN (SELECT value FROM json_each(?))", number, names)


def withdraw_device(transaction: Transaction, device: str) -> None:
    """Delete a device, except for its readings and those still to be forwarded."""
    for (number,) in transaction.rows("SELECT number FROM device WHERE id = ?", device):
        transaction.run(
            "DELETE FROM device_write WHERE property IN (SELECT number FROM device_property WHERE device = ?)", number
        )
        transaction.run("UPDATE device_property SET value = NULL, time = NULL WHERE device = ?", number)
        transaction.run("UPDATE device SET description = x'', online = NULL WHERE number = ?", number)
        delete_unused_properties(transaction, "device = ?", number)
        delete_unused_devices(transaction, "number = ?", number)


def delete_unused_properties(transaction: Transaction, where: str, *values: float | str) -> None:
    """Delete the properties matching ``where`` that no row refers to.

    A deleted property gets a new number when it comes again.
    """
    # The primary keys of these tables begin with the property: each check is one lookup, however many rows there are.
    deleted = transaction.rows(
        f"""DELETE FROM device_property WHERE {where} AND value IS NULL
            AND NOT EXISTS (SELECT 1 FROM device_reading WHERE property = device_property.number)
            AND NOT EXISTS (SELECT 1 FROM device_write WHERE property = device_property.number)
            AND NOT EXISTS (SELECT 1 FROM device_window WHERE property = device_property.number)
            AND NOT EXISTS (
              SELECT 1 FROM device_gate WHERE property = device_property.number AND held_time IS NOT NULL)
            RETURNING number""",  # noqa: S608 - conditions of this package's callers
        *values,
    )
    # SQLite may give a deleted number to the next property, which must not inherit this filter state.
    transaction.run_many("DELETE FROM device_gate WHERE property = ?", deleted)


def delete_unused_devices(transaction: Transaction, where: str = "1", *values: float) -> None:
    """Delete the withdrawn devices matching ``where`` that have no property left."""
    transaction.run(
        f"""DELETE FROM device WHERE {where} AND length(description) = 0
            AND NOT EXISTS (SELECT 1 FROM device_property WHERE device = device.number)""",  # noqa: S608 - as above
        *values,
    )


def store_availability(transaction: Transaction, device: str, *, online: bool | None) -> None:
    """Store what the device's last will topic reports."""
    transaction.run("UPDATE device SET online = ? WHERE id = ?", online, device)


def store_value(transaction: Transaction, device: str, name: str, reading: Reading) -> None:
    """Store the newest reading of a property."""
    transaction.run(
        "UPDATE device_property SET value = ?, time = ? WHERE number = ?",
        orjson.dumps(reading.value),
        reading.time,
        property_number(transaction, device, name),
    )


def load_session_name(transaction: Transaction) -> str | None:
    """Return the gateway's name for the broker session; None if there was no session yet."""
    rows = transaction.rows("SELECT name FROM device_session")
    return None if not rows else str(rows[0][0])


def store_session_name(transaction: Transaction, name: str) -> None:
    """Store the name of a new broker session; packet ids of the previous one have no meaning any more."""
    transaction.run("INSERT OR REPLACE INTO device_session VALUES (1, ?)", name)


def load_message_marks(transaction: Transaction, session: str) -> list[bytes]:
    """Return the marks stored by the newest commit, if it was made in this session."""
    rows = transaction.rows("SELECT session, marks FROM device_message ORDER BY number DESC LIMIT 1")
    return [
        marks[begin : begin + MARK_BYTES]
        for stored_session, marks in rows
        if stored_session == session
        for begin in range(0, len(marks), MARK_BYTES)
    ]


def store_message_marks(transaction: Transaction, session: str, marks: Sequence[bytes]) -> None:
    """Replace the marks of the previous commit by those of this one.

    The PUBACKs of the previous commit have been sent.
    """
    transaction.run("DELETE FROM device_message")
    transaction.run("INSERT INTO device_message VALUES (1, ?, ?)", session, b"".join(marks))


def load_writes(transaction: Transaction) -> list[StoredWrite]:
    """Return the writes that were neither confirmed nor expired."""
    rows = transaction.rows(
        """SELECT device.id, name, device_write.value, written_at, expires_at FROM device_write
           JOIN device_property ON device_property.number = property JOIN device ON device.number = device"""
    )
    return [
        StoredWrite(device=device, name=name, value=orjson.loads(value), written_at=written_at, expires_at=expires_at)
        for device, name, value, written_at, expires_at in rows
    ]


def store_write(transaction: Transaction, write: StoredWrite) -> None:
    """Store a write, in place of an older one of the same property."""
    transaction.run(
        "INSERT OR REPLACE INTO device_write VALUES (?, ?, ?, ?)",
        property_number(transaction, write.device, write.name),
        orjson.dumps(write.value),
        write.written_at,
        write.expires_at,
    )


def delete_write(transaction: Transaction, device: str, name: str, value: Value) -> None:
    """Delete the write of ``value``; a newer one with another value stays."""
    number = property_number(transaction, device, name)
    transaction.run("DELETE FROM device_write WHERE property = ? AND value = ?", number, orjson.dumps(value))


def property_number(transaction: Transaction, device: str, name: str) -> int:
    """Return the number of a property; insert it, and its device, if there is no row.

    A property without values or readings has no row, and a description may not be stored yet.
    """
    query = """SELECT device_property.number FROM device_property JOIN device ON device.number = device
                  WHERE device.id = ? AND name = ?"""
    rows = transaction.rows(query, device, name)
    if not rows:
        transaction.run("INSERT OR IGNORE INTO device (id, topic, description) VALUES (?, '', x'')", device)
        transaction.run(
            "INSERT INTO device_property (device, name) SELECT number, ? FROM device WHERE id = ?", name, device
        )
        rows = transaction.rows(query, device, name)
    return int(rows[0][0])
