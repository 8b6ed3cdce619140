"""Events of a batch: told apart, checked, logged, and each kept once."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

import orjson

from process_cosmos_gateway.contract.cloud import BatchReceipt, ItemReceipt, ItemStatus
from process_cosmos_gateway.contract.codec import parse
from process_cosmos_gateway.contract.errors import Code, ContractError
from process_cosmos_gateway.contract.events import site_source
from process_cosmos_gateway.contract.identifiers import Ulid
from process_cosmos_gateway.contract.session import Problem

from .database import Connection

SEPARATOR = b",\n"
"""Our own gateway joins stored events with it; JSON written compactly has no newline elsewhere."""

LONGEST_ID = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """The attributes of a CloudEvent that the endpoint looks at."""

    specversion: str
    id: str
    source: str
    type: str
    subject: str | None = None
    time: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """One arrival of an event: the log's row, for readers. ``duplicate``: the event had been here before."""

    sequence: int
    site: str
    id: str
    type: str
    subject: str | None
    time: str | None
    data: object
    arrived_at: float
    duplicate: bool


def take_batch(connection: Connection, site: Ulid, body: bytes, now: float) -> BatchReceipt:
    """Log every arrival of a JSON batch, keep each event once, and say for each what became of it.

    To be run in a transaction. Raises ``ContractError`` when ``body`` is no JSON array.
    """
    checked = [_check(item, document, site) for item, document in split_batch(body)]
    arrived = [event for event in checked if isinstance(event, tuple)]
    [(last,)] = connection.execute("SELECT coalesce(max(sequence), 0) FROM arrival")
    connection.executemany(
        "INSERT INTO arrival (site, id, arrived_at, body) VALUES (?, ?, ?, ?)",
        [(site, identifier, now, text) for identifier, text in arrived],
    )
    fresh = _keep(connection, site, [identifier for identifier, _ in arrived], last + 1)
    receipts = iter(fresh)
    return BatchReceipt(
        items=tuple(
            event
            if isinstance(event, ItemReceipt)
            else ItemReceipt(id=event[0], status=ItemStatus.ACCEPTED if next(receipts) else ItemStatus.DUPLICATE)
            for event in checked
        )
    )


def split_batch(body: bytes) -> Sequence[tuple[bytes, object]]:
    """Return the items of a JSON array, encoded and parsed: as they were sent, or anew where another encoder wrote."""
    inner = body.strip()
    if inner[:1] == b"[" and inner[-1:] == b"]":
        # A valid first piece ends at the array's own level, so the second begins there, and so on: no piece can be cut
        # inside an item without being invalid itself.
        with suppress(orjson.JSONDecodeError):
            return [(piece, orjson.loads(piece)) for piece in inner[1:-1].split(SEPARATOR)]
    try:
        items = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ContractError("$", "must be JSON") from error
    if not isinstance(items, list):
        raise ContractError("$", "must be an array of events")
    return [(orjson.dumps(item), item) for item in items]


def _check(item: bytes, document: object, site: Ulid) -> tuple[str, str] | ItemReceipt:
    """Return the event's id and text, or why it was rejected."""
    identifier = document.get("id") if isinstance(document, dict) else None
    try:
        envelope = _envelope(document)
    except ContractError as error:
        return _rejected(identifier, error.code, str(error))
    if envelope.source != site_source(site):
        return _rejected(identifier, Code.NOT_ALLOWED, "source is not the site this certificate was issued to")
    return envelope.id, item.decode()


def _envelope(document: object) -> Envelope:
    envelope = parse(Envelope, document)
    if envelope.specversion != "1.0":
        raise ContractError("$.specversion", "must be 1.0")
    if not 0 < len(envelope.id) <= LONGEST_ID:
        raise ContractError("$.id", f"must have 1 to {LONGEST_ID} characters")
    return envelope


def _rejected(identifier: object, code: Code, message: str) -> ItemReceipt:
    return ItemReceipt(
        id=identifier[:LONGEST_ID] if isinstance(identifier, str) else "",
        status=ItemStatus.REJECTED,
        problem=Problem(code=code, message=message),
    )


def _keep(connection: Connection, site: Ulid, identifiers: Sequence[str], first: int) -> Sequence[bool]:
    """Keep the events that are new; say for each whether it was."""
    source = site_source(site)
    rows = [(identifier, source, first + index) for index, identifier in enumerate(identifiers)]
    before = connection.total_changes()
    connection.executemany("INSERT OR IGNORE INTO event (id, source, arrival) VALUES (?, ?, ?)", rows)
    if connection.total_changes() - before == len(rows):
        return [True] * len(rows)
    kept = "SELECT 1 FROM event WHERE id = ? AND source = ? AND arrival = ?"
    return [connection.execute(kept, row).get is not None for row in rows]


def read_arrivals(connection: Connection, after: int = 0) -> Iterator[Arrival]:
    """Return the log after a sequence number, in order of arrival."""
    for sequence, site, identifier, arrived_at, body, duplicate in connection.execute(
        "SELECT sequence, site, arrival.id, arrived_at, body, event.arrival <> sequence "
        "FROM arrival JOIN event ON event.id = arrival.id AND event.source = '/sites/' || site "
        "WHERE sequence > ? ORDER BY sequence",
        (after,),
    ):
        event = orjson.loads(body)
        yield Arrival(
            sequence=sequence,
            site=site,
            id=identifier,
            type=event["type"],
            subject=event.get("subject"),
            time=event.get("time"),
            data=event.get("data"),
            arrived_at=arrived_at,
            duplicate=bool(duplicate),
        )


def site_of(connection: Connection, escalation: str) -> Ulid | None:
    """Return the site whose newest event is about ``escalation``; None: nobody told of it."""
    site: Ulid | None = connection.execute(
        "SELECT site FROM arrival WHERE body ->> '$.subject' = ? ORDER BY sequence DESC LIMIT 1", (escalation,)
    ).get
    return site
