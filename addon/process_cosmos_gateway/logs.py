"""Logs: one line an entry, without secrets, of a bounded length, and at a bounded rate."""

import logging
import math
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from threading import Lock, Timer
from typing import TextIO, override

LONGEST = 4096
"""Characters of an entry that are written: devices and peers choose much of what an entry quotes."""

_LOOKED_AT = 32_768
"""Characters before the end of a trace in which secrets are looked for, before most of them are cut off."""

ENTRIES_A_MINUTE = 10
"""Entries of one place in the code; what comes beyond is counted, and the last of it is written after the minute."""

DESTINATION = "destination"
"""The key in an entry's ``extra`` of the destination it is about."""

_MINUTE = 60.0
_MOST_PLACES = 1_000

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
    return _without_secrets(text)


def redact_trace(text: str) -> str:
    """Return beginning and end of an entry with a trace, which names the error last; redacted as ``redact`` does."""
    if len(text) <= LONGEST:
        return redact(text)
    begin, _, _ = text[: LONGEST // 2].rpartition(" ")
    _, _, end = text[-_LOOKED_AT:].partition(" ")
    end = _without_secrets(end)[-LONGEST // 2 :]
    return f"{_without_secrets(begin)} … ({len(text) - len(begin) - len(end)} characters left out) … {end}"


def _without_secrets(text: str) -> str:
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
        text = super().format(record)
        return (redact_trace(text) if record.exc_info else redact(text)).replace("\r", "\\r").replace("\n", "\\n")


@dataclass(slots=True)
class _Place:
    """``last``: the newest entry that was left out."""

    since: float
    written: int = 0
    left_out: int = 0
    last: logging.LogRecord | None = None

    def is_over(self, now: float) -> bool:
        """Return whether its minute is over, also by a clock that was set back."""
        return not 0 <= now - self.since < _MINUTE

    def begin(self, now: float) -> None:
        """Begin a minute with nothing written and nothing left out."""
        self.since, self.written, self.left_out, self.last = now, 0, 0, None


class Rate(logging.Filter):
    """Lets ``ENTRIES_A_MINUTE`` entries of each place in the code pass; debug entries pass always.

    Of a place that names a destination in ``extra`` so many pass for each destination: one must not hide another.
    """

    def __init__(self) -> None:
        """Begin with no entry."""
        super().__init__()
        self._places: dict[tuple[str, int, str], _Place] = {}
        self._lock = Lock()

    @override
    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the entry is written; the first one after a flood says how many were not."""
        if record.levelno <= logging.DEBUG:
            return True
        with self._lock:
            return self._count(record)

    def _count(self, record: logging.LogRecord) -> bool:
        destination = getattr(record, DESTINATION, "") if len(self._places) < _MOST_PLACES else ""
        key = record.pathname, record.lineno, destination
        place = self._places.setdefault(key, _Place(record.created))
        if place.is_over(record.created):
            if place.left_out:
                _replace_message(record, record.getMessage(), place.left_out)
            place.begin(record.created)
        if place.written >= ENTRIES_A_MINUTE:
            place.left_out += 1
            place.last = _without_trace(record)
            return False
        place.written += 1
        return True

    def overdue(self, now: float) -> Sequence[logging.LogRecord]:
        """Return the last entry left out of each place whose minute is over: how things stand since then."""
        found = []
        with self._lock:
            for place in self._places.values():
                if place.last is not None and place.is_over(now):
                    if place.left_out > 1:
                        _replace_message(place.last, place.last.getMessage(), place.left_out - 1)
                    found.append(place.last)
                    place.begin(now)
                    place.written = 1
        return found

    @property
    def leaves_out(self) -> bool:
        """Whether entries were left out of which nothing was said yet."""
        with self._lock:
            return any(place.left_out for place in self._places.values())


def _replace_message(record: logging.LogRecord, text: str, left_out: int) -> None:
    record.msg, record.args = f"{text} ({left_out} more like this were left out)", None


def _without_trace(record: logging.LogRecord) -> logging.LogRecord:
    """Return what is kept of an entry for a minute: no more of its text than will be looked at."""
    text = record.getMessage()[: 2 * LONGEST]
    kept = logging.LogRecord(record.name, record.levelno, record.pathname, record.lineno, text, None, None)
    kept.created, kept.msecs = record.created, record.msecs
    return kept


class RatedHandler(logging.StreamHandler[TextIO]):
    """Writes to standard error at a bounded rate; the last entry that was left out follows within two minutes."""

    def __init__(self, rate: Rate) -> None:
        """Write what ``rate`` lets pass, one line an entry, without secrets."""
        super().__init__()
        self.setFormatter(OneLine())
        self.addFilter(rate)
        self._rate = rate
        self._timer: Timer | None = None

    @override
    def handle(self, record: logging.LogRecord) -> bool:
        """Write the entry if the rate lets it pass; return whether it did."""
        passed = super().handle(record)
        if not passed:
            self._begin_wait()
        return passed

    def write_overdue(self) -> None:
        """Write the last entries left out of the minutes that are over; go on waiting for the others."""
        self._timer = None
        self._write(self._rate.overdue(time.time()))
        if self._rate.leaves_out:
            self._begin_wait()

    @override
    def close(self) -> None:
        """Wait no longer: write what was left out last."""
        if self._timer is not None:
            self._timer.cancel()
        self._write(self._rate.overdue(math.inf))
        super().close()

    def _write(self, records: Iterable[logging.LogRecord]) -> None:
        self.acquire()
        try:
            for record in records:
                self.emit(record)
        finally:
            self.release()

    def _begin_wait(self) -> None:
        if self._timer is None:
            self._timer = Timer(_MINUTE, self.write_overdue)
            self._timer.daemon = True
            self._timer.start()


def set_up_logs(level: str) -> None:
    """Write entries of at least ``level`` to standard error."""
    logging.basicConfig(level=level.upper(), handlers=[RatedHandler(Rate())], force=True)
    # A reset connection or a failed TLS handshake is a stranger's business: aiohttp's own word on it is enough.
    logging.getLogger("asyncio").setLevel(logging.WARNING)
