"""What devices leave on disk: SQL, and what its rows mean."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import orjson

from process_cosmos_gateway.contract.devices import Value
from process_cosmos_gateway.store import Transaction

from .things.values import Reading

MARK_BYTES = 18
"""What tells a message of a session from others: its id in two bytes, and a hash."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDevice:
    """A device as it was at the last commit."""

    topic: str
    description: bytes
    online: bool | None
    values: Mapping[str, Reading]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredWrite:
    """A write that was not over at the last commit. Times are seconds since 1970."""

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
        with suppress(orjson.JSONDecodeError):  # the broker is asked again how it stands
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
    """Keep a description, new or changed; properties it no longer has lose their value, not their readings."""
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
    """Forget a device, but for its readings and what of them waits."""
    for (number,) in transaction.rows("SELECT number FROM device WHERE id = ?", device):
        transaction.run(
            "DELETE FROM device_write WHERE property IN (SELECT number FROM device_property WHERE device = ?)", number
        )
        transaction.run("UPDATE device_property SET value = NULL, time = NULL WHERE device = ?", number)
        transaction.run("UPDATE device SET description = x'', online = NULL WHERE number = ?", number)
        delete_unused_properties(transaction, "device = ?", number)
        delete_unused_devices(transaction, "number = ?", number)


def delete_unused_properties(transaction: Transaction, where: str, *values: float | str) -> None:
    """Forget the properties that leave nothing behind, of those ``where``; a number may come again afterwards."""
    deleted = transaction.rows(
        f"""DELETE FROM device_property WHERE {where} AND value IS NULL
            AND NOT EXISTS (SELECT 1 FROM device_reading WHERE property = device_property.number)
            AND NOT EXISTS (SELECT 1 FROM device_write WHERE property = device_property.number)
            AND NOT EXISTS (SELECT 1 FROM device_window WHERE property = device_property.number)
            AND NOT EXISTS (
              SELECT 1 FROM device_gate WHERE property = device_property.number AND held_time IS NOT NULL)
            RETURNING number""",  # noqa: S608 - of our own callers
        *values,
    )
    transaction.run_many("DELETE FROM device_gate WHERE property = ?", deleted)


def delete_unused_devices(transaction: Transaction, where: str = "1", *values: float) -> None:
    """Forget the withdrawn devices that have no property left, of those ``where``."""
    transaction.run(
        f"""DELETE FROM device WHERE {where} AND length(description) = 0
            AND NOT EXISTS (SELECT 1 FROM device_property WHERE device = device.number)""",  # noqa: S608 - as above
        *values,
    )


def store_availability(transaction: Transaction, device: str, *, online: bool | None) -> None:
    """Keep what the last will's topic said."""
    transaction.run("UPDATE device SET online = ? WHERE id = ?", online, device)


def store_value(transaction: Transaction, device: str, name: str, reading: Reading) -> None:
    """Keep a property's newest_reading value."""
    transaction.run(
        "UPDATE device_property SET value = ?, time = ? WHERE number = ?",
        orjson.dumps(reading.value),
        reading.time,
        property_number(transaction, device, name),
    )


def load_session_name(transaction: Transaction) -> str | None:
    """Return our name for the broker's session."""
    rows = transaction.rows("SELECT name FROM device_session")
    return None if not rows else str(rows[0][0])


def store_session_name(transaction: Transaction, name: str) -> None:
    """From now on message ids mean something else."""
    transaction.run("INSERT OR REPLACE INTO device_session VALUES (1, ?)", name)


def load_message_marks(transaction: Transaction, session: str) -> list[bytes]:
    """Return the marks of the newest_reading commit, if it was in this session."""
    rows = transaction.rows("SELECT session, marks FROM device_message ORDER BY number DESC LIMIT 1")
    return [
        marks[begin : begin + MARK_BYTES]
        for stored_session, marks in rows
        if stored_session == session
        for begin in range(0, len(marks), MARK_BYTES)
    ]


def store_message_marks(transaction: Transaction, session: str, marks: Sequence[bytes]) -> None:
    """Store the marks of this commit in place of those of the commit before, whose PUBACKs have been sent."""
    transaction.run("DELETE FROM device_message")
    transaction.run("INSERT INTO device_message VALUES (1, ?, ?)", session, b"".join(marks))


def load_writes(transaction: Transaction) -> list[StoredWrite]:
    """Return the writes that are not over."""
    rows = transaction.rows(
        """SELECT device.id, name, device_write.value, written_at, expires_at FROM device_write
           JOIN device_property ON device_property.number = property JOIN device ON device.number = device"""
    )
    return [
        StoredWrite(device=device, name=name, value=orjson.loads(value), written_at=written_at, expires_at=expires_at)
        for device, name, value, written_at, expires_at in rows
    ]


def store_write(transaction: Transaction, write: StoredWrite) -> None:
    """Keep a write until it is over; an older one of the property is replaced."""
    transaction.run(
        "INSERT OR REPLACE INTO device_write VALUES (?, ?, ?, ?)",
        property_number(transaction, write.device, write.name),
        orjson.dumps(write.value),
        write.written_at,
        write.expires_at,
    )


def delete_write(transaction: Transaction, device: str, name: str, value: Value) -> None:
    """The write of ``value`` is over; a newer one of another value goes on."""
    number = property_number(transaction, device, name)
    transaction.run("DELETE FROM device_write WHERE property = ? AND value = ?", number, orjson.dumps(value))


def property_number(transaction: Transaction, device: str, name: str) -> int:
    """Return a property's number; it gets one when it had none to leave, or its description is not on disk yet."""
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
