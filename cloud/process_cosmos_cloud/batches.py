"""Parses and validates a batch of events item by item, within limits of size and time."""

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus
from typing import NamedTuple

import orjson

from process_cosmos_gateway.contract.bounds import TooDeepError, check_depth, is_deeper
from process_cosmos_gateway.contract.cloud import RejectedItem
from process_cosmos_gateway.contract.errors import Code, ContractError
from process_cosmos_gateway.contract.events import event_type, site_source
from process_cosmos_gateway.contract.identifiers import Ulid
from process_cosmos_gateway.contract.session import Problem

from .problems import ProblemError, RequestTooLargeError
from .readings import CONTENT_TYPE, SenMLRecord, SeriesNumbers, parse_records

SEPARATOR = b",\n"
"""The gateway joins stored events with it; compact JSON has no line feed elsewhere."""

CLOSING = frozenset(event_type("alert", kind) for kind in ("answered", "unanswered", "resolved"))

MOST_ITEMS = 5_000
"""Items per batch: five times as many as the gateway sends."""

MOST_REJECTED = 100
"""Items of a batch that are rejected one by one; with more, the sender has to find them in smaller batches."""

MOST_READINGS = 30_000
"""Readings per batch: the content of a megabyte, which is the most the gateway sends."""

MOST_CHARACTERS = 8 << 20
"""Characters of names and units per batch, with base names resolved."""

MOST_VALUES = 200_000
"""Values per event, or per batch of another encoder: commas and opening brackets, including those in strings.

30,000 readings have 150,000. In the worst case (3 MiB, four bytes per character in memory) the process takes 150 MB,
and parsing takes 0.3 s, during which other sites wait.
"""

MOST_VALUES_IN_ALL = 1_000_000
"""Commas per batch, including those in strings: 30,000 readings have an eighth of it."""

SLICE_SECONDS = 0.05
"""Time slice for parsing a batch, after which other sites are served.

A single event, and the transaction that stores the batch, are not interrupted.
"""

LONGEST_ID = 128

_BLANK = b" \t\r\n"


class BatchItem(NamedTuple):
    """A valid event: its index in the batch, its id, and its JSON.

    ``readings``: those of a reading batch. ``closes``: the id of the alert that the event closes.
    """

    position: int
    id: str
    text: bytes
    readings: list[SenMLRecord]
    closes: str | None


@dataclass(slots=True)
class Batch:
    """A parsed batch. ``sha256``: of the request body (hexadecimal). ``series``: series numbers resolved so far."""

    sha256: str = ""
    items: list[BatchItem] = field(default_factory=list)
    rejected: list[RejectedItem] = field(default_factory=list)
    series: SeriesNumbers = field(default_factory=dict)


class BatchReader:
    """Parses the batch of a site in time slices."""

    def __init__(self, body: bytes, site: Ulid) -> None:
        """Keep the body; parsing begins with ``read_some``."""
        self.batch = Batch()
        self._source = site_source(site)
        self._pieces = self._begin(body)
        self._readings = self._characters = 0

    def read_some(self, seconds: float = SLICE_SECONDS) -> bool:
        """Parse items for about ``seconds``; return whether all are parsed.

        Raises ``ContractError`` if the body is not a JSON array, ``ProblemError`` if it exceeds the limits of a batch.
        """
        until = time.monotonic() + seconds
        for position, (text, document) in self._pieces:
            if position >= MOST_ITEMS:
                raise RequestTooLargeError(f"A batch has at most {MOST_ITEMS} events.")
            self._read_item(position, text, document)
            if time.monotonic() >= until:
                return False
        return True

    def _begin(self, body: bytes) -> Iterator[tuple[int, tuple[bytes | None, object]]]:
        self.batch.sha256 = hashlib.sha256(body).hexdigest()
        yield from enumerate(split_batch(body))

    def _read_item(self, position: int, text: bytes | None, document: object) -> None:
        try:
            if text is not None:
                check_depth(text, document)
            elif is_deeper(document):
                raise TooDeepError
            else:
                text = orjson.dumps(document)
            identifier, readings, closes = _check_event(document, self._source)
        except ContractError as error:
            self._reject(position, error)
            return
        if readings:
            self._count_readings(readings)
        self.batch.items.append(BatchItem(position, identifier, text, readings, closes))

    def _count_readings(self, readings: Sequence[SenMLRecord]) -> None:
        self._readings += len(readings)
        self._characters += sum(sum(map(len, each.name)) + len(each.unit or "") for each in readings)
        if self._readings > MOST_READINGS or self._characters > MOST_CHARACTERS:
            raise RequestTooLargeError(
                f"A batch has at most {MOST_READINGS} readings, with {MOST_CHARACTERS} characters of names and units."
            )

    def _reject(self, position: int, error: ContractError) -> None:
        if len(self.batch.rejected) >= MOST_REJECTED:
            message = f"More than {MOST_REJECTED} events of the batch are invalid. Send smaller batches to find them."
            # 422, not 400: a gateway without a successful delivery so far treats 400 as a wrong address.
            raise ProblemError(HTTPStatus.UNPROCESSABLE_CONTENT, Code.MALFORMED, message)
        self.batch.rejected.append(RejectedItem(index=position, problem=Problem(code=error.code, message=str(error))))


def split_batch(body: bytes) -> Iterator[tuple[bytes | None, object]]:
    """Yield each item of a JSON array: its JSON, None if it was not joined as the gateway does it, and the parsed item.

    Raises ``ContractError`` as soon as the body proves not to be one, ``ProblemError`` (413) for too many values.
    """
    inner = body.strip(_BLANK)
    if inner[:1] != b"[" or inner[-1:] != b"]":
        raise ContractError("$", "must be an array of events in JSON")
    begin, end = 1, len(inner) - 1
    while True:
        # If a piece is valid JSON, the separator behind it lies between two items, so the next piece begins with an
        # item too. A separator inside an item leaves an invalid piece: then the rest is parsed as a whole.
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
    rest = b"[" + inner[begin:]
    del piece, inner  # they may be as long as the batch
    _check_values(rest)
    try:
        documents = orjson.loads(rest)
    except orjson.JSONDecodeError as error:
        raise ContractError("$", "must be JSON") from error
    if begin > 1 and not documents:
        raise ContractError("$", "must not end with a separator")
    yield from ((None, document) for document in documents)


def _check_values(text: bytes) -> None:
    """Raise ``ProblemError`` if JSON may have more than ``MOST_VALUES`` values, without parsing it."""
    # Nearly all are shorter than their limit of values, and need not be searched.
    if len(text) > MOST_VALUES and text.count(b",") + text.count(b"[") + text.count(b"{") > MOST_VALUES:
        raise RequestTooLargeError(
            f"A batch has at most {MOST_VALUES} values per event, or in total if events are not joined by a comma and a"
            " line feed; commas and opening brackets in strings count too."
        )


def _check_event(document: object, source: str) -> tuple[str, list[SenMLRecord], str | None]:
    """Return an event's id, its readings and the alert it closes; raise ``ContractError`` if it is invalid.

    Does not use the contract's parser, because this check takes most of the time of a batch.
    """
    if not isinstance(document, dict):
        raise ContractError("$", "must be an object")
    if document.get("specversion") != "1.0":
        raise ContractError("$.specversion", "must be 1.0")
    identifier = document.get("id")
    if not isinstance(identifier, str) or not 0 < len(identifier) <= LONGEST_ID:
        raise ContractError("$.id", f"must have 1 to {LONGEST_ID} characters")
    if not isinstance(document.get("type"), str):
        raise ContractError("$.type", "must be a string")
    if not isinstance(document.get("subject"), str | None):
        raise ContractError("$.subject", "must be a string")
    _check_time(document.get("time"))
    if document.get("source") != source:
        raise ContractError("$.source", "must be the site this certificate was issued to", Code.NOT_ALLOWED)
    if document.get("datacontenttype") == CONTENT_TYPE:
        return identifier, parse_records(document.get("data")), None
    return identifier, [], document.get("subject") if document["type"] in CLOSING else None


def _check_time(time: object) -> None:
    try:
        if time is None or (isinstance(time, str) and datetime.fromisoformat(time).tzinfo is not None):
            return
    except ValueError:
        pass
    raise ContractError("$.time", "must be a time with its offset")
