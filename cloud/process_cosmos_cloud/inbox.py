"""The inbox of each site: answers and acknowledgements given at the endpoint."""

from process_cosmos_gateway.contract.cloud import InboxItem, InboxPage
from process_cosmos_gateway.contract.identifiers import Ulid

from .database import Connection

PAGE = 100


def add_item(connection: Connection, site: Ulid, item: InboxItem, now: float) -> None:
    """Add one item, which ``site`` fetches with its next poll. ``now``: seconds since 1970.

    Its cursor is given by the database.
    """
    connection.execute(
        "INSERT INTO inbox (id, site, alert, given_by, given_at, revision, answer, acknowledge_for)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (item.id, site, item.alert, item.by, now - item.age, item.revision, item.answer, item.acknowledge_for),
    )


def delete_fetched(connection: Connection, site: Ulid, alert: str) -> None:
    """Delete the items about a closed alert that the site has fetched.

    A site restored from a backup would fetch them again and act on them once more. Items not fetched yet stay, so that
    the site can refuse them and the person who answered too late is notified.
    """
    connection.execute(
        "DELETE FROM inbox WHERE site = ? AND alert = ? AND cursor <= (SELECT cursor FROM polled WHERE site = ?)",
        (site, alert, site),
    )


def newest_cursor(connection: Connection) -> int:
    """Return the greatest cursor ever given, 0 if none; the items of all sites share one sequence."""
    found: int | None = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'inbox'").get
    return found or 0


def note_polled(connection: Connection, site: Ulid, cursor: int) -> None:
    """Record that ``site`` has stored all items up to ``cursor``; a cursor that was never given deletes the record."""
    if cursor > newest_cursor(connection):
        connection.execute("DELETE FROM polled WHERE site = ?", (site,))
        return
    connection.execute(
        "INSERT INTO polled VALUES (?, ?) ON CONFLICT (site) DO UPDATE SET cursor = excluded.cursor"
        " WHERE excluded.cursor > cursor",
        (site, cursor),
    )


def page_after(connection: Connection, site: Ulid, cursor: int, now: float) -> InboxPage:
    """Return the items for ``site`` after ``cursor``, oldest first, at most 100."""
    items = tuple(
        InboxItem(
            id=identifier,
            cursor=number,
            alert=Ulid(alert),
            by=by,
            age=max(0.0, now - given_at),
            revision=revision,
            answer=answer,
            acknowledge_for=acknowledge_for,
        )
        for number, identifier, alert, by, given_at, revision, answer, acknowledge_for in connection.execute(
            "SELECT cursor, id, alert, given_by, given_at, revision, answer, acknowledge_for FROM inbox"
            " WHERE cursor > ? AND site = ? ORDER BY cursor LIMIT ?",
            (cursor, site, PAGE),
        )
    )
    # Read after the items, because another process may add one in between.
    return InboxPage(items=items, newest=newest_cursor(connection))
