"""A batch on its way into the database: told apart and checked, item by item, within bounds."""

import hashlib
import json
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus
from typing import NamedTuple

import orjson

from process_cosmos_gateway.contract.bounds import check_depth
from process_cosmos_gateway.contract.cloud import RejectedItem
from process_cosmos_gateway.contract.errors import Code, ContractError
from process_cosmos_gateway.contract.events import event_type, site_source
from process_cosmos_gateway.contract.identifiers import Ulid
from process_cosmos_gateway.contract.session import Problem

from .problems import ProblemError
from .readings import CONTENT_TYPE, Record, SeriesNumbers, unpack

SEPARATOR = b",\n"
"""Our own gateway joins stored events with it; JSON written compactly has no newline elsewhere."""

CLOSING = frozenset(event_type("alert", kind) for kind in ("answered", "unanswered", "resolved"))

MOST_ITEMS = 5_000
"""Items of a batch: five times as many as our own gateway sends."""

MOST_REJECTED = 100
"""Items of a batch that are rejected by name; with more, the sender has to find them in smaller batches."""

MOST_READINGS = 30_000
"""Readings of a batch: what a megabyte holds, which is the most our own gateway sends."""

MOST_CHARACTERS = 8 << 20
"""Of the names and units of a batch's readings, base names resolved."""

MOST_VALUES = 200_000
"""Values of an event, or of a whole batch that another encoder wrote: commas and opening brackets, in texts too.

Thirty thousand readings have 150,000. At the worst (3 MiB, four bytes a character in memory) the process takes 150 MB,
and they take 0.3 s, for which others wait.
"""

MOST_VALUES_IN_ALL = 1_000_000
"""Commas of a batch, in texts too: thirty thousand readings have an eighth."""

SLICE_SECONDS = 0.05
"""A batch is read for so long at a time; then other sites have their turn.

A single event, and the transaction that keeps the batch, are not cut.
"""

LONGEST_ID = 128

_BLANK = b" \t\r\n"
_BLANKS = re.compile(r"[ \t\r\n]*")
# Only to find where an item ends: what it says, and whether it is JSON at all, is orjson's word.
_SCANNER = json.JSONDecoder(parse_int=float)


class Item(NamedTuple):
    """An event that can be kept: its place in the batch, its id, its JSON as it was sent.

    ``readings``: what it brings if it is a pack. ``closes``: the alert it says is over.
    """

    place: int
    id: str
    text: bytes
    readings: list[Record]
    closes: str | None


@dataclass(slots=True)
class Batch:
    """What a batch holds. ``sha256``: of the whole body (hexadecimal). ``series``: those numbered so far."""

    sha256: str = ""
    items: list[Item] = field(default_factory=list)
    rejected: list[RejectedItem] = field(default_factory=list)
    series: SeriesNumbers = field(default_factory=dict)


class BatchReader:
    """Reads the batch of a site a little at a time."""

    def __init__(self, body: bytes, site: Ulid) -> None:
        """Take the body; nothing of it is looked at yet."""
        self.batch = Batch()
        self._source = site_source(site)
        self._pieces = self._begin(body)
        self._readings = self._characters = 0

    def read_some(self, seconds: float = SLICE_SECONDS) -> bool:
        """Read on for about so long; return whether all is read.

        Raises ``ContractError`` if the body is no JSON array, ``ProblemError`` if it is beyond the bounds of a batch.
        """
        until = time.monotonic() + seconds
        for place, (text, document) in self._pieces:
            if place >= MOST_ITEMS:
                raise _too_large(f"{MOST_ITEMS} events")
            self._read(place, text, document)
            if time.monotonic() >= until:
                return False
        return True

    def _begin(self, body: bytes) -> Iterator[tuple[int, tuple[bytes, object]]]:
        self.batch.sha256 = hashlib.sha256(body).hexdigest()
        yield from enumerate(split_batch(body))

    def _read(self, place: int, text: bytes, document: object) -> None:
        try:
            check_depth(text, document)
            identifier, readings, closes = _check(document, self._source)
        except ContractError as error:
            self._reject(place, error)
            return
        if readings:
            self._count(readings)
        self.batch.items.append(Item(place, identifier, text, readings, closes))

    def _count(self, readings: Sequence[Record]) -> None:
        self._readings += len(readings)
        self._characters += sum(sum(map(len, each.name)) + len(each.unit or "") for each in readings)
        if self._readings > MOST_READINGS or self._characters > MOST_CHARACTERS:
            raise _too_large(f"{MOST_READINGS} readings, with {MOST_CHARACTERS} characters of names and units")

    def _reject(self, place: int, error: ContractError) -> None:
        if len(self.batch.rejected) >= MOST_REJECTED:
            message = f"More than {MOST_REJECTED} events of the batch are broken. Send fewer at a time to find them."
            # 422, not 400: a gateway that got nothing through yet takes a 400 for a wrong address.
            raise ProblemError(HTTPStatus.UNPROCESSABLE_CONTENT, Code.MALFORMED, message)
        self.batch.rejected.append(RejectedItem(index=place, problem=Problem(code=error.code, message=str(error))))


def split_batch(body: bytes) -> Iterator[tuple[bytes, object]]:
    """Yield the items of a JSON array, each as it was sent and parsed, one after the other.

    Raises ``ContractError`` where it turns out to be none, ``ProblemError`` (413) for too many values.
    """
    inner = body.strip(_BLANK)
    if inner[:1] != b"[" or inner[-1:] != b"]":
        raise ContractError("$", "must be an array of events in JSON")
    begin, end = 1, len(inner) - 1
    while True:
        # A valid first piece ends at the array's own level, so the second begins there, and so on: no piece can be cut
        # inside an item without being invalid itself.
        stop = inner.find(SEPARATOR, begin, end)
        piece = inner[begin : end if stop < 0 else stop]
        _check_values(piece)
        try:
            document = orjson.loads(piece)
        except orjson.JSONDecodeError:
            break
        yield piece, document
        if stop < 0:
            return
        begin = stop + len(SEPARATOR)
    del piece  # as long as the batch, at the worst
    yield from _scan(inner, begin)


def _scan(array: bytes, begin: int) -> Iterator[tuple[bytes, object]]:
    """Yield the items that begin at a place of an array or after it, as another encoder wrote them."""
    _check_values(array[begin:])
    try:
        text = array.decode("latin-1")  # a character a byte: brackets, quotes and commas are none of UTF-8's others
        place = _skip(text, begin)
        if begin == 1 and place == len(text) - 1:
            return
        while True:
            stop = _SCANNER.raw_decode(text, place)[1]
            piece = array[place:stop]
            yield piece, orjson.loads(piece)
            place = _skip(text, stop)
            if text[place] != ",":
                break
            place = _skip(text, place + 1)
    except (ValueError, IndexError, RecursionError) as error:  # also of the encoding
        raise ContractError("$", "must be JSON") from error
    if place != len(text) - 1:
        raise ContractError("$", "must be JSON")


def _skip(text: str, place: int) -> int:
    """Return the place of the next character that is no blank; there is one, the closing bracket."""
    found = _BLANKS.match(text, place)
    return found.end() if found else place


def _check_values(text: bytes) -> None:
    """Raise ``ProblemError`` if JSON may have more than ``MOST_VALUES`` values; it is not parsed for that."""
    if text.count(b",") + text.count(b"[") + text.count(b"{") > MOST_VALUES:
        raise _too_large(
            f"{MOST_VALUES} values an event, or in all where events are not joined by a comma and a line feed;"
            " commas and opening brackets in texts count too"
        )


def _too_large(most: str) -> ProblemError:
    return ProblemError(HTTPStatus.CONTENT_TOO_LARGE, Code.TOO_LARGE, f"A batch has at most {most}.")


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
