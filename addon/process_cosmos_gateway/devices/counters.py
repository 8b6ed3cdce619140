"""Counters of the devices package that survive a restart, updated in the transaction of what they count."""

from process_cosmos_gateway.store import Transaction


def read_counter(transaction: Transaction, name: str) -> float:
    """Return a row of ``device_counter``; ``schema.sql`` lists the names and what they count."""
    value: float = transaction.rows("SELECT value FROM device_counter WHERE name = ?", name)[0][0]
    return value


def set_counter(transaction: Transaction, name: str, value: float) -> None:
    """Store ``value`` for a counter."""
    transaction.run("UPDATE device_counter SET value = ? WHERE name = ?", value, name)
