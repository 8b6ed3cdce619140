"""What happens to the tables when a destination joins, changes its kinds, or goes."""

from collections.abc import Collection

from process_cosmos_gateway.contract.destinations import EventKind
from process_cosmos_gateway.store import Transaction

from .statements import STATEMENTS


def join(transaction: Transaction, name: str, kinds: Collection[EventKind]) -> bool:
    """Let ``name`` have events of ``kinds``; return whether it is new: then it begins at the end of the queue."""
    is_new = transaction.run("INSERT OR IGNORE INTO outbox_destination (name) VALUES (?)", name) > 0
    before = {kind for (kind,) in transaction.rows("SELECT kind FROM outbox_kind WHERE destination = ?", name)}
    if not is_new and before == set(kinds):
        return False  # every start comes by here: nothing may be scanned
    transaction.run("DELETE FROM outbox_kind WHERE destination = ?", name)
    transaction.run_many("INSERT INTO outbox_kind VALUES (?, ?)", [(kind, name) for kind in kinds])
    for statements in STATEMENTS.values():
        if is_new:
            transaction.run(statements.begin_at_end, name)
        else:
            transaction.run(statements.advance, destination=name, reached=0)
            transaction.run(statements.clean_all)
    return is_new


def leave(transaction: Transaction, name: str) -> None:
    """Forget ``name``, with what only it was waiting for and what it has rejected."""
    transaction.run("DELETE FROM outbox_destination WHERE name = ?", name)
    for table in ("kind", "cursor", "exception", "rejected"):
        transaction.run(f"DELETE FROM outbox_{table} WHERE destination = ?", name)  # noqa: S608 - names from above
    for statements in STATEMENTS.values():
        transaction.run(statements.clean_all)


def send_again(transaction: Transaction, now: float) -> int:
    """Queue all rejected events anew, marked as replayed, each for the destination that rejected it."""
    for statements in STATEMENTS.values():
        transaction.run(statements.send_again, now)
        for (name,) in transaction.rows("SELECT name FROM outbox_destination"):
            transaction.run(statements.advance, destination=name, reached=0)
    return transaction.run("DELETE FROM outbox_rejected")
