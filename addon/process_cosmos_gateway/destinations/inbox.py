"""Inbox pages and items, each field checked before any of them is stored, and the pace of polls."""

import logging
from dataclasses import dataclass, replace

from process_cosmos_gateway.contract.bounds import NoteFn
from process_cosmos_gateway.contract.cloud import InboxItem
from process_cosmos_gateway.contract.codec import decode_json, parse
from process_cosmos_gateway.contract.durations import LONGEST_ACKNOWLEDGEMENT
from process_cosmos_gateway.contract.errors import Code, ContractError

from .destination import Polled

MOST_ITEMS = 100
"""Items of a page that are read; later ones come with the next page."""

LARGEST_CURSOR = 1 << 62
"""Greatest cursor. Nanoseconds since 1970 are below it until 2116; a greater one might leave none to follow."""

LONGEST_ID = 128
LONGEST_TEXT = 255
"""Characters of an answer, and of the name of the person who gave it: the integration's limit."""

ITEMS_A_SECOND = 10
"""Sustained rate; a page costs at least a second."""

CREDIT_SECONDS = 10.0
"""Seconds that polls may be ahead of their pace: so many single answers in a row arrive without delay."""

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _InboxExtent:
    """The newest cursor of the whole inbox, if the endpoint reports it."""

    newest: int | None = None


@dataclass(frozen=True, slots=True)
class _ItemCursor:
    """The member that an item must have so that it can be skipped."""

    cursor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PollPace:
    """The pace of polls, as a value. ``paid_until``: monotonic time until which the pages so far use up the rate."""

    paid_until: float = float("-inf")

    def after(self, items: int, *, now: float) -> PollPace:
        """Return the pace after a page of ``items`` items."""
        return PollPace(paid_until=max(self.paid_until, now) + max(1.0, items / ITEMS_A_SECOND))

    def delay(self, *, now: float) -> float:
        """Return the seconds until the next poll."""
        return max(0.0, self.paid_until - CREDIT_SECONDS - now)


def is_cursor(value: object) -> bool:
    """Return whether a stored value is a valid cursor; 0 is the beginning."""
    return type(value) is int and 0 <= value <= LARGEST_CURSOR


def parse_inbox_page(name: str, body: bytes, after: int, note_fn: NoteFn) -> Polled:
    """Parse a page of destination ``name``; unreadable items are skipped, so that they block no others.

    ``note_fn``: gets what is unknown here. An item of an unknown kind is skipped, too.

    An inbox that ends before ``after`` is read from its beginning: the cursor was a mistake, or the endpoint was
    restored from a backup. New items would otherwise stay hidden until as many had arrived.

    Raises ``ContractError`` if ``body`` is not an inbox page, or if an item's cursor is missing, is not greater than
    the one before it, or is greater than the endpoint's ``newest``.
    """
    # Deep nesting is cut off, not refused: one item must not block the others.
    document = decode_json(body, cuts=True)
    found = document.get("items") if isinstance(document, dict) else None
    if not isinstance(found, list):
        raise ContractError("$.items", "must be an array")
    newest = parse(_InboxExtent, document).newest
    if newest is not None and not is_cursor(newest):
        raise ContractError("$.newest", f"must be from 0 to {LARGEST_CURSOR}")
    if newest is not None and newest < after:
        _LOGGER.warning("%s: its inbox ends at %d, before %d; it is read again from its beginning", name, newest, after)
        return Polled(cursor=0)
    largest = LARGEST_CURSOR if newest is None else newest
    documents = found[:MOST_ITEMS]
    items: list[InboxItem] = []
    cursor = after
    for index, document in enumerate(documents):
        try:
            place = parse(_ItemCursor, document).cursor
        except ContractError as error:
            _log_skipped_item(name, error)
            continue
        if not cursor < place <= largest:
            raise ContractError(f"$.items[{index}].cursor", f"must be greater than {cursor}, {largest} at most")
        # Also for an item that is skipped below, which would otherwise be fetched again for ever.
        cursor = place
        try:
            items.append(check_item(_parse_item(document, note_fn)))
        except ContractError as error:
            _log_skipped_item(name, error)
    # A page that does not advance the cursor would be fetched again and again.
    if documents and cursor == after:
        raise ContractError("$.items", "must have cursors")
    return Polled(items=items, cursor=cursor if documents else None)


def _parse_item(document: object, note_fn: NoteFn) -> InboxItem:
    unknown: list[str] = []
    item = parse(InboxItem, document, "inbox", note_fn=lambda path, _reason: unknown.append(path))
    if unknown and item.answer is None and item.acknowledge_for is None:
        # Not an acknowledgement, which would silence an alert although a person may have asked for the opposite.
        reason = "is unknown, and there is no answer or acknowledgement beside it"
        raise ContractError(unknown[0], reason, Code.UNSUPPORTED)
    for path in unknown:
        note_fn(path, "is unknown")
    return item


def _log_skipped_item(name: str, error: ContractError) -> None:
    _LOGGER.warning("%s: %s: an inbox item cannot be used and was skipped: %s", name, error.code, error)


def check_item(item: InboxItem) -> InboxItem:
    """Return an item within the contract's bounds; raise ``ContractError`` if it cannot be used."""
    if not 0 < len(item.id) <= LONGEST_ID or not item.id.isprintable():
        raise ContractError("$.id", f"must have 1 to {LONGEST_ID} printable characters")
    if len(item.answer or "") > LONGEST_TEXT:
        raise ContractError("$.answer", f"must have {LONGEST_TEXT} characters at most")
    if item.acknowledge_for is not None and not 0 < item.acknowledge_for <= LONGEST_ACKNOWLEDGEMENT:
        raise ContractError("$.acknowledge_for", f"must be more than 0 seconds, {LONGEST_ACKNOWLEDGEMENT:.0f} at most")
    if item.revision is not None and item.revision < 1:
        raise ContractError("$.revision", "must be 1 or more")
    # An age beyond the limit makes no difference.
    shown = "".join(letter if letter.isprintable() else " " for letter in item.by[:LONGEST_TEXT])
    return replace(item, by=shown, age=min(max(item.age, 0.0), LONGEST_ACKNOWLEDGEMENT))
