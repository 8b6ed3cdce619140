"""Logs: one line an entry, without secrets, of a bounded length, and at a bounded rate."""

import logging
import re
from dataclasses import dataclass
from typing import override

LONGEST = 4096
"""Characters of an entry that are looked at and written: devices and peers choose much of what an entry quotes."""

ENTRIES_A_MINUTE = 10
"""Entries of one place in the code; what comes beyond is counted and named by the next entry of that place."""

_MINUTE = 60.0

# Each pattern takes time in proportion to the text: no two repetitions may try the same characters from each start.
_SECRETS = (
    (re.compile(r"\b([A-Za-z][A-Za-z0-9+.-]{0,31}://)[^\s/@]*@"), r"\1…@"),
    (re.compile(r"(https?://[^\s/?#]+)[/?#][^\s'\"]*"), r"\1/…"),
    (re.compile(r"(?i)(bearer\s+)\S+"), r"\1…"),
    (re.compile(r"(?i)(\b\w*(?:password|secret|token|authorization)\b['\"]?\s*[:=]\s*)(['\"]?)[^\s'\",;}]+"), r"\1\2…"),
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)", re.DOTALL), "…"),
)


def redact(text: str) -> str:
    """Return the beginning of ``text`` without what looks like a secret: rests of URLs, tokens, passwords, keys."""
    if len(text) > LONGEST:
        # The last word goes: a secret in it could have lost what makes it known as one.
        kept, _, _ = text[:LONGEST].rpartition(" ")
        text = f"{kept} … ({len(text) - len(kept)} more characters)"
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text


class OneLine(logging.Formatter):
    """Writes an entry with its trace as one line, redacted.

    The second line of defence: the first is that no caller logs a secret.
    """

    def __init__(self) -> None:
        """Begin each line with time, level and module."""
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    @override
    def format(self, record: logging.LogRecord) -> str:
        """Return the entry as one line."""
        return redact(super().format(record)).replace("\r", "\\r").replace("\n", "\\n")


@dataclass(slots=True)
class _Place:
    since: float
    written: int = 0
    left_out: int = 0


class Rate(logging.Filter):
    """Lets ``ENTRIES_A_MINUTE`` entries of each place in the code pass; debug entries pass always."""

    def __init__(self) -> None:
        """Begin with no entry."""
        super().__init__()
        self._places: dict[tuple[str, int], _Place] = {}

    @override
    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the entry is written; the first one after a flood says how many were not."""
        if record.levelno <= logging.DEBUG:
            return True
        place = self._places.setdefault((record.pathname, record.lineno), _Place(record.created))
        if not 0 <= record.created - place.since < _MINUTE:
            if place.left_out:
                record.msg = f"{record.getMessage()} ({place.left_out} more like this were left out)"
                record.args = None
            place.since, place.written, place.left_out = record.created, 0, 0
        if place.written >= ENTRIES_A_MINUTE:
            place.left_out += 1
            return False
        place.written += 1
        return True


def set_up_logs(level: str) -> None:
    """Write entries of at least ``level`` to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(OneLine())
    handler.addFilter(Rate())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # A reset connection or a failed TLS handshake is a stranger's business: aiohttp's own word on it is enough.
    logging.getLogger("asyncio").setLevel(logging.WARNING)
