"""What comes from an inbox: pages and items, each field checked before anything of it is stored; the pace of polls."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from process_cosmos_gateway.contract.cloud import InboxItem
from process_cosmos_gateway.contract.codec import decode_json, parse
from process_cosmos_gateway.contract.errors import ContractError

MOST_ITEMS = 100
"""Items of a page that are taken; those after them come with the next page."""

LARGEST_CURSOR = 1 << 62
"""Nanoseconds since 1970 are below it until the year 2116; beyond it no larger cursor might be left to follow."""

LONGEST_ID = 128
LONGEST_TEXT = 255
"""Characters of an answer, and of who gave it: what the integration takes."""

LONGEST_ACKNOWLEDGEMENT = 366 * 86_400.0
"""Seconds; also the greatest age of an item, which is over long before."""

ITEMS_A_SECOND = 10
"""Sustained; a page costs a second at least."""

CREDIT_SECONDS = 10.0
"""How far polls may be ahead of their pace: so many answers in a row come at once."""

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Page:
    """Items that can be read, oldest first, and how far the page goes.

    ``cursor`` None: it is empty; 0: the inbox is to be read from its beginning.
    """

    items: Sequence[InboxItem]
    cursor: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Extent:
    """How far the whole inbox goes, if the endpoint says so."""

    newest: int | None = None


@dataclass(frozen=True, slots=True)
class _Place:
    """Of an inbox item what must be there, so that it can be passed over."""

    cursor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """The pace of polls, as a value: ``paid_until`` is when the pages so far are paid for (monotonic)."""

    paid_until: float = float("-inf")

    def after(self, items: int, *, now: float) -> Pace:
        """Return the pace after a page of so many items."""
        return Pace(paid_until=max(self.paid_until, now) + max(1.0, items / ITEMS_A_SECOND))

    def wait(self, *, now: float) -> float:
        """Return the seconds until the next poll."""
        return max(0.0, self.paid_until - CREDIT_SECONDS - now)


def is_cursor(value: object) -> bool:
    """Return whether a stored value is a cursor to go on from, 0: the beginning."""
    return type(value) is int and 0 <= value <= LARGEST_CURSOR


def read_page(name: str, body: bytes, after: int) -> Page:
    """Return a page of destination ``name``; an item that cannot be read is left out, so that it blocks nobody.

    An inbox that ends before ``after`` is read from its beginning: that cursor was a mistake, or the endpoint was
    restored from a backup, and what comes next would stay hidden until as many items have come.

    Raises ``ContractError`` if ``body`` is not an inbox page, or if an item's cursor is missing, is not greater than
    the one before it, or is greater than the endpoint's ``newest``.
    """
    document = decode_json(body, cuts=True)
    found = document.get("items") if isinstance(document, dict) else None
    if not isinstance(found, list):
        raise ContractError("$.items", "must be an array")
    newest = parse(_Extent, document).newest
    if newest is not None and not is_cursor(newest):
        raise ContractError("$.newest", f"must be from 0 to {LARGEST_CURSOR}")
    if newest is not None and newest < after:
        _LOGGER.warning("%s: its inbox ends at %d, before %d: it is read from its beginning", name, newest, after)
        return Page((), 0)
    largest = LARGEST_CURSOR if newest is None else newest
    documents = found[:MOST_ITEMS]
    items: list[InboxItem] = []
    cursor = after
    for index, document in enumerate(documents):
        try:
            place = parse(_Place, document).cursor
        except ContractError as error:
            _leave_out(name, error)
            continue
        if not cursor < place <= largest:
            raise ContractError(f"$.items[{index}].cursor", f"must be greater than {cursor}, {largest} at most")
        cursor = place
        try:
            items.append(checked(parse(InboxItem, document)))
        except ContractError as error:
            _leave_out(name, error)
    if documents and cursor == after:
        raise ContractError("$.items", "must say where they are")
    return Page(items, cursor if documents else None)


def _leave_out(name: str, error: ContractError) -> None:
    _LOGGER.warning("%s: an inbox item cannot be read, so it is passed over: %s", name, error)


def checked(item: InboxItem) -> InboxItem:
    """Return an item within the bounds of the contract; raise ``ContractError`` if it cannot be given to anybody."""
    if not 0 < len(item.id) <= LONGEST_ID or not item.id.isprintable():
        raise ContractError("$.id", f"must have 1 to {LONGEST_ID} printable characters")
    if len(item.answer or "") > LONGEST_TEXT:
        raise ContractError("$.answer", f"must have {LONGEST_TEXT} characters at most")
    if item.acknowledge_for is not None and not 0 < item.acknowledge_for <= LONGEST_ACKNOWLEDGEMENT:
        raise ContractError("$.acknowledge_for", f"must be more than 0 seconds, {LONGEST_ACKNOWLEDGEMENT:.0f} at most")
    if item.revision is not None and item.revision < 1:
        raise ContractError("$.revision", "must be 1 or more")
    shown = "".join(letter if letter.isprintable() else " " for letter in item.by[:LONGEST_TEXT])
    return replace(item, by=shown, age=min(max(item.age, 0.0), LONGEST_ACKNOWLEDGEMENT))
