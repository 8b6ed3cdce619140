"""The inbox of each site: answers and acknowledgements given at the endpoint."""

from process_cosmos_gateway.contract.cloud import InboxItem, InboxPage
from process_cosmos_gateway.contract.identifiers import Ulid

from .database import Connection

PAGE = 100


def put(
    connection: Connection,
    *,
    identifier: str,
    site: Ulid,
    alert: str,
    by: str,
    now: float,
    revision: int | None = None,
    answer: str | None = None,
    acknowledge_for: float | None = None,
) -> None:
    """Add one item; the site fetches it with its next poll."""
    connection.execute(
        "INSERT INTO inbox (id, site, alert, given_by, given_at, revision, answer, acknowledge_for)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (identifier, site, alert, by, now, revision, answer, acknowledge_for),
    )


def forget(connection: Connection, site: Ulid, alert: str) -> None:
    """Hand out no more what the site has fetched about an alert it has closed since.

    A site restored from a backup would take it for new, and act on it once more. What it has not fetched yet it gets
    all the same: whoever came too late is told so.
    """
    connection.execute(
        "DELETE FROM inbox WHERE site = ? AND alert = ? AND cursor <= (SELECT cursor FROM polled WHERE site = ?)",
        (site, alert, site),
    )


def newest(connection: Connection) -> int:
    """Return the greatest cursor that was ever given, 0: none; all sites' items share one sequence."""
    found: int | None = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'inbox'").get
    return found or 0


def note_polled(connection: Connection, site: Ulid, cursor: int) -> None:
    """Note that ``site`` has what came up to ``cursor`` on disk; a cursor that was never given says nothing of that."""
    if cursor > newest(connection):
        connection.execute("DELETE FROM polled WHERE site = ?", (site,))
        return
    connection.execute(
        "INSERT INTO polled VALUES (?, ?) ON CONFLICT (site) DO UPDATE SET cursor = excluded.cursor"
        " WHERE excluded.cursor > cursor",
        (site, cursor),
    )


def page_after(connection: Connection, site: Ulid, cursor: int, now: float) -> InboxPage:
    """Return what came for ``site`` after ``cursor``, oldest first, at most 100 items."""
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
    # After the items: another process may add one between the two.
    return InboxPage(items=items, newest=newest(connection))
