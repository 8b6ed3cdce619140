"""The meaning of HTTP statuses: one table for all kinds of destinations."""

from enum import Enum, auto
from http import HTTPStatus


class Meaning(Enum):
    """The consequence of a reply for the events that were sent."""

    DELIVERED = auto()
    """The receiver has the events."""
    REJECTED = auto()
    """The receiver will never accept this event: reject it and send the next one."""
    SPLIT = auto()
    """The receiver will never accept some event of this batch: send smaller batches to find it."""
    RETRY = auto()
    """The receiver cannot accept events at present: keep them and try again soon."""
    REFUSED = auto()
    """The receiver accepts nothing until a person changes something: keep all events."""


_RETRY = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})
ABOUT_EVENTS = frozenset(
    {
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.CONFLICT,
        HTTPStatus.CONTENT_TOO_LARGE,
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        HTTPStatus.UNPROCESSABLE_CONTENT,
    }
)
"""Statuses that may concern the events sent, rather than the address or the sender."""

_NO_PAGE = frozenset({HTTPStatus.ACCEPTED, HTTPStatus.NO_CONTENT, HTTPStatus.RESET_CONTENT})
"""Statuses no captive portal sends, because browsers would not show its page."""


def meaning(status: int, *, own: bool, single: bool, proven: bool) -> Meaning:
    """Return what a reply means for the events that were sent.

    Args:
        status: the HTTP status.
        own: the body may come from the receiver itself (``confirmation``), not from a captive portal or proxy.
        single: one event was sent, so the reply concerns that event.
        proven: this destination accepted an event before. If not, a 400 means a wrong address, not a bad event.
    """
    if status in _RETRY or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Meaning.RETRY
    if status < HTTPStatus.MULTIPLE_CHOICES:
        return Meaning.DELIVERED if status in _NO_PAGE or own else Meaning.REFUSED
    if not own or (status == HTTPStatus.BAD_REQUEST and not proven):
        return Meaning.REFUSED
    if status not in ABOUT_EVENTS:
        return Meaning.REFUSED
    if not single:
        return Meaning.SPLIT
    return Meaning.DELIVERED if status == HTTPStatus.CONFLICT else Meaning.REJECTED
