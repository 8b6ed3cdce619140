"""Logging: one line for each entry, without secrets, of limited length and rate."""

import logging
import math
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from threading import Lock, Timer
from typing import TextIO, override

LONGEST = 4096
"""Most characters of an entry: devices and peers control much of what it quotes."""

_LOOKED_AT = 32_768
"""Characters at the end of a trace that are searched for secrets before most of them are cut off."""

ENTRIES_A_MINUTE = 10
"""Entries of one call site in a minute; later ones are counted, and the last is written after the minute."""

DESTINATION = "destination"
"""The key in an entry's ``extra`` that names the destination concerned."""

_MINUTE = 60.0
_MOST_CALL_SITES = 1_000

# Each pattern runs in linear time: no two repetitions may try the same characters from every start.
_SECRETS = (
    (re.compile(r"\b([A-Za-z][A-Za-z0-9+.-]{0,31}://)[^\s/@]*@"), r"\1…@"),
    (re.compile(r"(https?://[^\s/?#]+)[/?#][^\s'\"]*"), r"\1/…"),
    (re.compile(r"(?i)(bearer\s+)\S+"), r"\1…"),
    (re.compile(r"(?i)(\b\w*(?:password|secret|token|authorization)\b['\"]?\s*[:=]\s*)(['\"]?)[^\s'\",;}]+"), r"\1\2…"),
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)", re.DOTALL), "…"),
)


def redact(text: str) -> str:
    """Return the beginning of ``text`` with apparent secrets masked: URL paths, tokens, passwords, keys."""
    if len(text) > LONGEST:
        # Drop the last word: a secret cut in the middle might not be recognised.
        kept, _, _ = text[:LONGEST].rpartition(" ")
        text = f"{kept} … ({len(text) - len(kept)} more characters)"
    return _without_secrets(text)


def redact_trace(text: str) -> str:
    """Return beginning and end of an entry with a trace, where the error is named last, redacted like ``redact``."""
    if len(text) <= LONGEST:
        return redact(text)
    begin, _, _ = text[: LONGEST // 2].rpartition(" ")
    _, _, end = text[-_LOOKED_AT:].partition(" ")
    # Masked before it is cut: the rest of a secret would not be recognised.
    end = _without_secrets(end)[-LONGEST // 2 :]
    return f"{_without_secrets(begin)} … ({len(text) - len(begin) - len(end)} characters omitted) … {end}"


def _without_secrets(text: str) -> str:
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text


class OneLineFormatter(logging.Formatter):
    """Writes an entry and its trace as one redacted line.

    Redaction is the second line of defence: no caller may log a secret.
    """

    def __init__(self) -> None:
        """Start each line with time, level and module."""
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    @override
    def format(self, record: logging.LogRecord) -> str:
        """Return the entry as one line."""
        text = super().format(record)
        # Line breaks are escaped last, because patterns of secrets end at white space.
        return (redact_trace(text) if record.exc_info else redact(text)).replace("\r", "\\r").replace("\n", "\\n")


@dataclass(slots=True)
class _CallSite:
    """The counts of one call site in its minute. ``last``: the newest suppressed entry."""

    since: float
    written: int = 0
    suppressed: int = 0
    last: logging.LogRecord | None = None

    def has_expired(self, now: float) -> bool:
        """Return whether the minute has passed, even if the clock was set back."""
        return not 0 <= now - self.since < _MINUTE

    def restart(self, now: float) -> None:
        """Start a minute without written or suppressed entries."""
        self.since, self.written, self.suppressed, self.last = now, 0, 0, None


class RateLimit(logging.Filter):
    """Passes ``ENTRIES_A_MINUTE`` entries of each call site; debug entries always pass.

    A call site that names a destination in ``extra`` has this limit for each destination, so that none hides another.
    """

    def __init__(self) -> None:
        """Begin with no entry counted at any call site."""
        super().__init__()
        self._call_sites: dict[tuple[str, int, str], _CallSite] = {}
        self._lock = Lock()

    @override
    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to write the entry; the first one after a flood reports the number of suppressed entries."""
        if record.levelno <= logging.DEBUG:
            return True
        with self._lock:
            return self._count(record)

    def _count(self, record: logging.LogRecord) -> bool:
        destination = getattr(record, DESTINATION, "") if len(self._call_sites) < _MOST_CALL_SITES else ""
        key = record.pathname, record.lineno, destination
        site = self._call_sites.setdefault(key, _CallSite(record.created))
        if site.has_expired(record.created):
            if site.suppressed:
                _replace_message(record, record.getMessage(), site.suppressed)
            site.restart(record.created)
        if site.written >= ENTRIES_A_MINUTE:
            site.suppressed += 1
            site.last = _without_trace(record)
            return False
        site.written += 1
        return True

    def overdue(self, now: float) -> Sequence[logging.LogRecord]:
        """Return the last suppressed entry of each call site whose minute has passed: the latest state."""
        found = []
        with self._lock:
            for site in self._call_sites.values():
                if site.last is not None and site.has_expired(now):
                    if site.suppressed > 1:
                        _replace_message(site.last, site.last.getMessage(), site.suppressed - 1)
                    found.append(site.last)
                    site.restart(now)
                    site.written = 1
        return found

    @property
    def has_suppressed(self) -> bool:
        """Whether entries were suppressed that no written entry has reported yet."""
        with self._lock:
            return any(site.suppressed for site in self._call_sites.values())


def _replace_message(record: logging.LogRecord, text: str, suppressed: int) -> None:
    record.msg, record.args = f"{text} ({suppressed} similar entries were suppressed)", None


def _without_trace(record: logging.LogRecord) -> logging.LogRecord:
    """Return a copy of an entry to keep for a minute, with no more text than will be used."""
    text = record.getMessage()[: 2 * LONGEST]
    kept = logging.LogRecord(record.name, record.levelno, record.pathname, record.lineno, text, None, None)
    kept.created, kept.msecs = record.created, record.msecs
    return kept


class RateLimitedHandler(logging.StreamHandler[TextIO]):
    """Writes to standard error at a limited rate; the last suppressed entry follows within two minutes."""

    def __init__(self, rate: RateLimit) -> None:
        """Write the entries that pass ``rate``, one line each, without secrets."""
        super().__init__()
        self.setFormatter(OneLineFormatter())
        # At the handler: a filter of a logger does not see the entries of its children.
        self.addFilter(rate)
        self._rate = rate
        self._timer: Timer | None = None

    @override
    def handle(self, record: logging.LogRecord) -> bool:
        """Write the entry if the rate allows it; return whether it did."""
        passed = super().handle(record)
        if not passed:
            self._start_timer()
        return passed

    def write_overdue(self) -> None:
        """Write the last suppressed entries of expired minutes; wait for the others."""
        self._timer = None
        self._write(self._rate.overdue(time.time()))
        if self._rate.has_suppressed:
            self._start_timer()

    @override
    def close(self) -> None:
        """Stop waiting and write the last suppressed entries."""
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

    def _start_timer(self) -> None:
        if self._timer is None:
            self._timer = Timer(_MINUTE, self.write_overdue)
            self._timer.daemon = True
            self._timer.start()


def set_up_logs(level: str) -> None:
    """Log entries of at least ``level`` to standard error."""
    logging.basicConfig(level=level.upper(), handlers=[RateLimitedHandler(RateLimit())], force=True)
    # aiohttp already logs reset connections and failed TLS handshakes, which are the client's problem.
    logging.getLogger("asyncio").setLevel(logging.WARNING)
