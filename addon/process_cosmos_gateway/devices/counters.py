"""Numbers of the devices' part that outlive a start, changed in the transaction of what they count."""

from process_cosmos_gateway.store import Transaction


def read_counter(transaction: Transaction, name: str) -> float:
    """Return a counter; ``schema.sql`` says which there are and what they count."""
    value: float = transaction.rows("SELECT value FROM device_counter WHERE name = ?", name)[0][0]
    return value


def set_counter(transaction: Transaction, name: str, value: float) -> None:
    """Let a counter be ``value``."""
    transaction.run("UPDATE device_counter SET value = ? WHERE name = ?", value, name)
