"""Identifiers: monotonic ULIDs, positions in the integration's record log, notification keys, joined names."""

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
    """Return whether ``text`` is a ULID in its canonical (upper-case) form."""
    # 26 characters hold 130 bits, two more than a ULID has: hence the limit of the first one.
    return len(text) == _LENGTH and text[0] <= "7" and _LETTERS.issuperset(text)


class UlidRangeError(ContractError):
    """Error when no ULID greater than the last one exists: a clock, or a peer's value, is beyond the year 10889."""


class UlidFactory:
    """Factory of strictly increasing ULIDs, even when the clock goes back: the next one is max(last + 1, now)."""

    def __init__(
        self, milliseconds: Callable[[], int], random_bytes: Callable[[int], bytes], last: int | None = None
    ) -> None:
        """Set the wall clock in ms, a source of random bytes, and the ms of the newest ULID made before a restart.

        ``last`` must come from a ULID made here, as another side's may be the greatest possible one. The sequence
        continues one millisecond above ``last`` with a fresh random part: another side may continue from the same ULID,
        and while the clocks are behind both would otherwise count up through the same numbers.
        """
        self._milliseconds = milliseconds
        self._random_bytes = random_bytes
        self._last = -1 if last is None else last + 1 << 80 | self._random()

    def __call__(self) -> Ulid:
        """Return the next ULID; raise ``UlidRangeError``."""
        number = max(self._last + 1, self._milliseconds() << 80 | self._random())
        if number > _MOST:
            raise UlidRangeError("$", "leaves no ULID greater than the last one")
        self._last = number
        return Ulid(encode_base_32(number, _LENGTH))

    def _random(self) -> int:
        return int.from_bytes(self._random_bytes(_RANDOM_BYTES))


def milliseconds_of(ulid: Ulid) -> int:
    """Return the time of a ULID in milliseconds since 1970."""
    return _decode(ulid) >> 80


def encode_base_32(number: int, letters: int) -> str:
    """Return the lowest ``5 * letters`` bits of ``number`` in Crockford's base 32."""
    return "".join(_ALPHABET[number >> 5 * place & 31] for place in reversed(range(letters)))


def _decode(ulid: Ulid) -> int:
    number = 0
    for letter in ulid:
        number = number << 5 | _ALPHABET.index(letter)
    return number


_TO_ESCAPE = re.compile(r"[%/\x00-\x1f\x7f]")
_ESCAPED = re.compile(r"%(?:25|2F|[01][0-9A-F]|7F)")


def join_names(*names: str) -> str:
    """Return arbitrary names joined by ``/``; two results are equal only if all their names are.

    In each name ``%``, ``/`` and the ASCII control characters are percent-encoded (RFC 3986); ordinary names are
    unchanged.
    """
    return "/".join(_TO_ESCAPE.sub(lambda found: f"%{ord(found[0]):02X}", name) for name in names)


def split_names(joined: str) -> tuple[str, ...]:
    """Return the names joined by ``join_names``; escapes it never writes are kept as part of a name."""
    return tuple(_ESCAPED.sub(lambda found: chr(int(found[0][1:], 16)), name) for name in joined.split("/"))


PHONE = "phone:"
"""Prefix of a phone as recipient, followed by the companion app's device id."""

NOTIFY = "notify:"
"""Prefix of a notify entity as recipient, followed by its entity registry id or its entity id."""

DESTINATION = "destination:"
"""Prefix of a destination as recipient, followed by its name."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Position:
    """Position in the integration's record log: ``run`` is a ULID made at each start, ``n`` counts within it."""

    # The order of the members is that of comparisons: the gateway drops a transition not newer than its cursor.
    run: Ulid
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NotificationKey:
    """Key of one notification: alert, revision, level, round and recipient. Each key is notified once."""

    alert: Ulid
    revision: int
    level: int
    round: int
    recipient: str

    def __str__(self) -> str:
        """Return the key as one string, for button ids on phones and for tables."""
        return f"{self.alert}/{self.revision}/{self.level}/{self.round}/{self.recipient}"
