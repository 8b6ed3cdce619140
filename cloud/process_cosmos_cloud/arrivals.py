"""Stores batches of events: logs each arrival, and keeps each event once."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import batched, chain
from typing import Any

import orjson

from process_cosmos_gateway.contract.bounds import check_depth
from process_cosmos_gateway.contract.cloud import BatchReceipt
from process_cosmos_gateway.contract.errors import Code, ContractError
from process_cosmos_gateway.contract.events import event_type, site_source
from process_cosmos_gateway.contract.identifiers import Ulid

from .batches import Batch, BatchItem
from .database import Connection
from .inbox import delete_fetched
from .readings import CONTENT_TYPE, insert_readings

_OPENED = event_type("alert", "opened")
_ALERTS = event_type("alert").removesuffix("v1")
"""The common prefix of the types of alert events."""

ROWS_AT_ONCE = 100
PAGE, PAGE_CHARACTERS = 1000, 1 << 20
"""Limits of a page of arrivals: rows, and characters of their events after which no more are added.

The log may not fit in memory, and a parsed event takes ten times its length.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrivalRow:
    """One logged arrival of an event, as the command ``ledger`` prints it.

    ``duplicate``: the event had been received before. ``readings``: their number in a reading batch. ``problem``: the
    error code if the stored event cannot be parsed; its type is empty then.
    """

    sequence: int
    site: str
    id: str
    type: str
    subject: str | None
    time: str | None
    data: object
    arrived_at: float
    duplicate: bool
    readings: int = 0
    problem: str | None = None


def store_batch(connection: Connection, site: Ulid, batch: Batch, now: float, token: str) -> BatchReceipt:
    """Log every arrival of a batch, store each new event and reading, and return the receipt.

    Must run in a transaction.
    """
    items = batch.items
    # The transaction is IMMEDIATE, so no other process inserts in between, and the rows get the numbers after ``last``.
    [(last,)] = connection.execute("SELECT coalesce(max(sequence), 0) FROM arrival")
    _insert(
        connection,
        "INSERT INTO arrival (site, id, arrived_at, body) VALUES ",
        [(site, item.id, now, item.text.decode()) for item in items],
    )
    duplicates = _insert_new_events(connection, site_source(site), items, last + 1)
    for arrival, item in enumerate(items, last + 1):
        if item.readings and item.position not in duplicates:
            insert_readings(connection, site, item.readings, arrival, batch.series)
    for closed in {item.closes for item in items if item.closes is not None}:
        delete_fetched(connection, site, closed)
    return BatchReceipt(batch=batch.sha256, token=token, duplicates=tuple(duplicates), rejected=tuple(batch.rejected))


def _insert_new_events(connection: Connection, source: str, items: Sequence[BatchItem], first: int) -> Collection[int]:
    """Insert the events that are new; return the indexes of the duplicates."""
    rows = [(item.id, source, arrival) for arrival, item in enumerate(items, first)]
    before = connection.total_changes()
    _insert(connection, "INSERT OR IGNORE INTO event (id, source, arrival) VALUES ", rows)
    if connection.total_changes() - before == len(rows):
        return ()
    # SQLite does not tell which rows were ignored. An event is new if its row names this arrival, which also finds an
    # event that the batch contains twice.
    kept = "SELECT 1 FROM event WHERE id = ? AND source = ? AND arrival = ?"
    return {item.position for item, row in zip(items, rows, strict=True) if connection.execute(kept, row).get is None}


def _insert(connection: Connection, sql: str, rows: Sequence[tuple[str | float, ...]]) -> None:
    """Insert many rows with few statements, which takes a quarter less time than one statement per row."""
    for some in batched(rows, ROWS_AT_ONCE, strict=False):
        row = f"({', '.join('?' * len(some[0]))})"
        connection.execute(sql + ", ".join([row] * len(some)), list(chain.from_iterable(some)))


def read_arrivals(connection: Connection, after: int = 0) -> Iterator[ArrivalRow]:
    """Yield the next page of the log after a sequence number, in order of arrival."""
    size = 0
    for sequence, site, identifier, arrived_at, body, duplicate in connection.execute(
        "SELECT sequence, site, arrival.id, arrived_at, body, event.arrival <> sequence "
        "FROM arrival JOIN event ON event.id = arrival.id AND event.source = '/sites/' || site "
        "WHERE sequence > ? ORDER BY sequence LIMIT ?",
        (after, PAGE),
    ):
        event, problem = _parse_stored(body)
        data = event.get("data")
        yield ArrivalRow(
            sequence=sequence,
            site=site,
            id=identifier,
            type=event.get("type", ""),
            subject=event.get("subject"),
            time=event.get("time"),
            data=data,
            arrived_at=arrived_at,
            duplicate=bool(duplicate),
            readings=len(data) if isinstance(data, list) and event.get("datacontenttype") == CONTENT_TYPE else 0,
            problem=problem,
        )
        size += len(body)
        if size >= PAGE_CHARACTERS:
            return


def _parse_stored(body: str) -> tuple[Mapping[str, Any], str | None]:
    """Parse a stored event; return it and None, or what is readable of a damaged row and an error code."""
    try:
        document = orjson.loads(body)
        check_depth(body, document)
    except orjson.JSONDecodeError:
        return {}, Code.MALFORMED
    except ContractError as error:
        return {name: value for name, value in document.items() if isinstance(value, str)}, error.code
    return (document, None) if isinstance(document, dict) else ({}, Code.MALFORMED)


def find_sites(connection: Connection, alert: str) -> Sequence[Ulid]:
    """Return the sites that have opened ``alert``, in order of arrival.

    If there is none (a site added later, or its event was rejected), return the sites with another event about it: a
    later event of another site never takes an alert over. The caller has to choose between several sites.
    """
    opened: dict[Ulid, None] = {}
    mentioned: dict[Ulid, None] = {}
    # The search in the text limits how many events are parsed; only the parsed event decides.
    for site, body in connection.execute(
        "SELECT site, body FROM arrival WHERE instr(body, ?) ORDER BY sequence", (alert,)
    ):
        event = _parse_stored(body)[0]
        if event.get("subject") == alert and str(event.get("type")).startswith(_ALERTS):
            (opened if event["type"] == _OPENED else mentioned)[Ulid(site)] = None
    return tuple(opened or mentioned)
