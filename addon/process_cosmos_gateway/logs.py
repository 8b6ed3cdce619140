"""Logs: one line an entry, without secrets."""

import logging
import re
from typing import override

_SECRETS = (
    (re.compile(r"(\w+://)[^\s/@]*@"), r"\1…@"),
    (re.compile(r"(https?://[^\s/?#]+)[/?#][^\s'\"]*"), r"\1/…"),
    (re.compile(r"(?i)(bearer\s+)\S+"), r"\1…"),
    (re.compile(r"(?i)(\b\w*(?:password|secret|token|authorization)\b['\"]?\s*[:=]\s*)(['\"]?)[^\s'\",;}]+"), r"\1\2…"),
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)", re.DOTALL), "…"),
)


def redact(text: str) -> str:
    """Return ``text`` without what looks like a secret: the rest of URLs, tokens, passwords, private keys."""
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


def set_up_logs(level: str) -> None:
    """Write entries of at least ``level`` to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(OneLine())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # A reset connection or a failed TLS handshake is a stranger's business: aiohttp's own word on it is enough.
    logging.getLogger("asyncio").setLevel(logging.WARNING)
