"""What a reply's status means: one table for all kinds of destinations."""

from enum import Enum, auto
from http import HTTPStatus


class Meaning(Enum):
    """What to do with what was sent."""

    DELIVERED = auto()
    """The far side has it."""
    REJECTED = auto()
    """The far side will never take it: set it aside, go on with the rest."""
    SPLIT = auto()
    """Something in this load will never be taken: send smaller loads to find out what."""
    RETRY = auto()
    """Not now: keep it, try again soon."""
    REFUSED = auto()
    """Nothing will be taken until a person has changed something: keep everything."""


_RETRY = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})
_ABOUT_EVENTS = frozenset(
    {
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.CONFLICT,
        HTTPStatus.CONTENT_TOO_LARGE,
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        HTTPStatus.UNPROCESSABLE_CONTENT,
    }
)


_NO_PAGE = frozenset({HTTPStatus.ACCEPTED, HTTPStatus.NO_CONTENT, HTTPStatus.RESET_CONTENT})
"""What no captive portal replies, because no browser would show its page."""


def is_about_events(status: int) -> bool:
    """Say whether a status may be about what was sent, rather than about the address or the sender."""
    return status in _ABOUT_EVENTS


def meaning(status: int, *, own: bool, single: bool, proven: bool) -> Meaning:
    """Say what a reply means for what was sent.

    Args:
        status: the HTTP status.
        own: the body can be the receiver's own (``confirmation``); if not, a captive portal or a proxy spoke.
        single: one event was sent, so the reply is about that event.
        proven: this destination took something before. If not, a 400 says that the address is wrong, not the event.
    """
    if status in _RETRY or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Meaning.RETRY
    if status < HTTPStatus.MULTIPLE_CHOICES:
        return Meaning.DELIVERED if status in _NO_PAGE or own else Meaning.REFUSED
    if not own or (status == HTTPStatus.BAD_REQUEST and not proven):
        return Meaning.REFUSED
    if status not in _ABOUT_EVENTS:
        return Meaning.REFUSED
    if not single:
        return Meaning.SPLIT
    return Meaning.DELIVERED if status == HTTPStatus.CONFLICT else Meaning.REJECTED
