"""Events of a batch: told apart, checked, logged, and each kept once."""

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import batched, chain
from typing import Any, NamedTuple

import orjson

from process_cosmos_gateway.contract.bounds import check_depth, is_deeper
from process_cosmos_gateway.contract.cloud import BatchReceipt, RejectedItem
from process_cosmos_gateway.contract.errors import Code, ContractError
from process_cosmos_gateway.contract.events import event_type, site_source
from process_cosmos_gateway.contract.identifiers import Ulid
from process_cosmos_gateway.contract.session import Problem

from .database import Connection
from .inbox import forget
from .readings import CONTENT_TYPE, Record, keep, unpack

SEPARATOR = b",\n"
"""Our own gateway joins stored events with it; JSON written compactly has no newline elsewhere."""

CLOSING = frozenset(event_type("escalation", kind) for kind in ("answered", "unanswered", "resolved"))

_OPENED = event_type("escalation", "opened")
_ESCALATIONS = event_type("escalation").removesuffix("v1")
"""How the types of events about escalations begin."""

LONGEST_ID = 128
ROWS_AT_ONCE = 100
PAGE = 1000
"""Arrivals that are read at once: the log may be longer than the memory."""


class Item(NamedTuple):
    """An event that can be kept: its place in the batch, its id and text.

    ``readings``: what it brings if it is a pack. ``closes``: the escalation it says is over.
    """

    place: int
    id: str
    text: str
    readings: list[Record]
    closes: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """One arrival of an event: the log's row, for readers.

    ``duplicate``: the event had been here before. ``readings``: how many it holds, if it is a pack. ``problem``: the
    code why the stored event cannot be shown; its type is empty then.
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


def take_batch(connection: Connection, site: Ulid, body: bytes, now: float, token: str) -> BatchReceipt:
    """Log every arrival of a JSON batch, keep each event and reading once, and say what became of them.

    To be run in a transaction. Raises ``ContractError`` when ``body`` is no JSON array.
    """
    source = site_source(site)
    items: list[Item] = []
    rejected: list[RejectedItem] = []
    for index, (text, document) in enumerate(split_batch(body)):
        try:
            check_depth(text, document)
            identifier, readings, closes = _check(document, source)
        except ContractError as error:
            rejected.append(RejectedItem(index=index, problem=Problem(code=error.code, message=str(error))))
        else:
            items.append(Item(index, identifier, text.decode(), readings, closes))
    [(last,)] = connection.execute("SELECT coalesce(max(sequence), 0) FROM arrival")
    _insert(
        connection,
        "INSERT INTO arrival (site, id, arrived_at, body) VALUES ",
        [(site, item.id, now, item.text) for item in items],
    )
    duplicates = _keep(connection, source, items, last + 1)
    for arrival, item in enumerate(items, last + 1):
        if item.readings and item.place not in duplicates:
            keep(connection, site, item.readings, arrival)
        if item.closes is not None:
            forget(connection, site, item.closes)
    return BatchReceipt(
        batch=hashlib.sha256(body).hexdigest(), token=token, duplicates=tuple(duplicates), rejected=tuple(rejected)
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
    # What is too deep to be written again is refused by its own text, here the whole body.
    return [(body if is_deeper(item) else orjson.dumps(item), item) for item in items]


def _check(document: object, source: str) -> tuple[str, list[Record], str | None]:
    """Return an event's id, its readings, and what it closes; raise ``ContractError`` with what is wrong with it.

    By hand, not by the contract's parser: this is what a batch costs most.
    """
    if not isinstance(document, dict):
        raise ContractError("$", "must be an object")
    if document.get("specversion") != "1.0":
        raise ContractError("$.specversion", "must be 1.0")
    identifier = document.get("id")
    if not isinstance(identifier, str) or not 0 < len(identifier) <= LONGEST_ID:
        raise ContractError("$.id", f"must have 1 to {LONGEST_ID} characters")
    if not isinstance(document.get("type"), str):
        raise ContractError("$.type", "must be a text")
    if not isinstance(document.get("subject"), str | None):
        raise ContractError("$.subject", "must be a text")
    _check_time(document.get("time"))
    if document.get("source") != source:
        raise StrangerError("$.source", "must be the site this certificate was issued to")
    if document.get("datacontenttype") == CONTENT_TYPE:
        return identifier, unpack(document.get("data")), None
    return identifier, [], document.get("subject") if document["type"] in CLOSING else None


class StrangerError(ContractError):
    """The event says it is of another site."""

    code = Code.NOT_ALLOWED


def _check_time(time: object) -> None:
    try:
        if time is None or (isinstance(time, str) and datetime.fromisoformat(time).tzinfo is not None):
            return
    except ValueError:
        pass
    raise ContractError("$.time", "must be a time with its offset")


def _keep(connection: Connection, source: str, items: Sequence[Item], first: int) -> Collection[int]:
    """Keep the events that are new; return the places of those that are not."""
    rows = [(item.id, source, arrival) for arrival, item in enumerate(items, first)]
    before = connection.total_changes()
    _insert(connection, "INSERT OR IGNORE INTO event (id, source, arrival) VALUES ", rows)
    if connection.total_changes() - before == len(rows):
        return ()
    kept = "SELECT 1 FROM event WHERE id = ? AND source = ? AND arrival = ?"
    return [item.place for item, row in zip(items, rows, strict=True) if connection.execute(kept, row).get is None]


def _insert(connection: Connection, sql: str, rows: Sequence[tuple[str | float, ...]]) -> None:
    """Insert many rows by few statements, a quarter cheaper than one each."""
    for some in batched(rows, ROWS_AT_ONCE, strict=False):
        row = f"({', '.join('?' * len(some[0]))})"
        connection.execute(sql + ", ".join([row] * len(some)), list(chain.from_iterable(some)))


def read_arrivals(connection: Connection, after: int = 0) -> Iterator[Arrival]:
    """Return the next of the log after a sequence number, in order of arrival."""
    for sequence, site, identifier, arrived_at, body, duplicate in connection.execute(
        "SELECT sequence, site, arrival.id, arrived_at, body, event.arrival <> sequence "
        "FROM arrival JOIN event ON event.id = arrival.id AND event.source = '/sites/' || site "
        "WHERE sequence > ? ORDER BY sequence LIMIT ?",
        (after, PAGE),
    ):
        event, problem = _stored(body)
        data = event.get("data")
        yield Arrival(
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


def _stored(body: str) -> tuple[Mapping[str, Any], str | None]:
    """Return a stored event and None, or nothing of it and the code of why not: an older version took more."""
    try:
        document = orjson.loads(body)
        check_depth(body, document)
    except orjson.JSONDecodeError:
        return {}, Code.MALFORMED
    except ContractError as error:
        return {name: value for name, value in document.items() if isinstance(value, str)}, error.code
    return (document, None) if isinstance(document, dict) else ({}, Code.MALFORMED)


def sites_of(connection: Connection, escalation: str) -> Sequence[Ulid]:
    """Return the sites that have opened ``escalation``, the first one first.

    If nobody has (a site that was added later, or its event was rejected), those with another event about it. A later
    mention never takes an alert from who opened it; several sites are for a person to tell apart.
    """
    opened: dict[Ulid, None] = {}
    mentioned: dict[Ulid, None] = {}
    for site, body in connection.execute(
        "SELECT site, body FROM arrival WHERE instr(body, ?) ORDER BY sequence", (escalation,)
    ):
        event = _stored(body)[0]
        if event.get("subject") == escalation and str(event.get("type")).startswith(_ESCALATIONS):
            (opened if event["type"] == _OPENED else mentioned)[Ulid(site)] = None
    return tuple(opened or mentioned)
