"""Identifiers: ULIDs that never go back, positions in the integration's memory, keys of tells, joined names."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NewType

from .errors import ContractError

Ulid = NewType("Ulid", str)
"""26 characters of Crockford's base 32: 48 bits of milliseconds, 80 random bits (github.com/ulid/spec)."""

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_LETTERS = frozenset(_ALPHABET)
_LENGTH = 26
_RANDOM_BYTES = 10
_MOST = (1 << 128) - 1


def is_ulid(text: str) -> bool:
    """Say whether ``text`` is a ULID in its canonical (upper case) form."""
    return len(text) == _LENGTH and text[0] <= "7" and _LETTERS.issuperset(text)


class UlidRangeError(ContractError):
    """No ULID is left above the last one: a clock, or what a peer said, is beyond the year 10889."""


class UlidFactory:
    """Makes ULIDs that only go up, also when the clock goes back: the next is max(last + 1, now)."""

    def __init__(
        self, milliseconds: Callable[[], int], random_bytes: Callable[[int], bytes], last: int | None = None
    ) -> None:
        """Take the wall clock in ms, a source of random bytes, and the ms of the newest ULID made before a restart.

        ``last`` must be of a ULID made here: a foreign one may be the greatest there is. It goes on a millisecond above
        that, at a place of its own: the other side may know the same one, and with the clock behind both would count
        the same numbers up from it.
        """
        self._milliseconds = milliseconds
        self._random_bytes = random_bytes
        self._last = -1 if last is None else last + 1 << 80 | self._random()

    def __call__(self) -> Ulid:
        """Return the next ULID; raise ``UlidRangeError``."""
        number = max(self._last + 1, self._milliseconds() << 80 | self._random())
        if number > _MOST:
            raise UlidRangeError("$", "leaves no ULID above the last one")
        self._last = number
        return _encode(number)

    def _random(self) -> int:
        return int.from_bytes(self._random_bytes(_RANDOM_BYTES))


def milliseconds_of(ulid: Ulid) -> int:
    """Return the time in a ULID, ms since 1970."""
    return _decode(ulid) >> 80


def _encode(number: int) -> Ulid:
    return Ulid("".join(_ALPHABET[number >> shift & 31] for shift in range(125, -1, -5)))


def _decode(ulid: Ulid) -> int:
    number = 0
    for letter in ulid:
        number = number << 5 | _ALPHABET.index(letter)
    return number


_TO_ESCAPE = re.compile(r"[%/\x00-\x1f\x7f]")
_ESCAPED = re.compile(r"%(?:25|2F|[01][0-9A-F]|7F)")


def join_names(*names: str) -> str:
    """Return names that others choose as one, joined by ``/``: equal only if each of them is.

    In each name ``%``, ``/`` and the control characters of ASCII are percent-encoded (RFC 3986); ordinary names stay as
    they are.
    """
    return "/".join(_TO_ESCAPE.sub(lambda found: f"%{ord(found[0]):02X}", name) for name in names)


def split_names(joined: str) -> tuple[str, ...]:
    """Return the names ``join_names`` made one of; escapes it never writes are part of a name."""
    return tuple(_ESCAPED.sub(lambda found: chr(int(found[0][1:], 16)), name) for name in joined.split("/"))


PHONE = "phone:"
"""Prefix of a recipient that is a phone: the companion app's own device id follows."""

NOTIFY = "notify:"
"""Prefix of a recipient that is a notify entity: its id in the entity registry follows, or its entity id."""

DESTINATION = "destination:"
"""Prefix of a recipient that is a destination: its name follows."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Position:
    """Where a record stands in the integration's memory: ``run`` is a ULID, new at every start; ``n`` counts in it."""

    run: Ulid
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NotificationKey:
    """One tell: a recipient, in a round of a level of a ring of an alert. Executed once."""

    alert: Ulid
    revision: int
    level: int
    round: int
    recipient: str

    def __str__(self) -> str:
        """Return the key as one word, for phones' button ids and tables."""
        return f"{self.alert}/{self.revision}/{self.level}/{self.round}/{self.recipient}"
