"""Pairing lines of a gateway and one-time codes of a cloud endpoint, which a person pastes once.

Both have the form ``https://host:port#secret.sha256``: the address, a secret that works once, and a SHA-256 (64
hexadecimal digits) that pins the server: of the gateway's certificate (DER), or of the public key
(SubjectPublicKeyInfo, DER) of the cloud endpoint's CA. Inside the Supervisor's network, where TLS is not used, a
pairing line has the form ``http://host:port#secret``.
"""

import re
from dataclasses import dataclass

from .errors import Code, ContractError
from .identifiers import Ulid

_WHERE = r"(?P<host>[A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(?::(?P<port>\d{1,5}))?"
_ONCE = r"/?#(?P<secret>[A-Za-z0-9_-]{16,128})"
_LINE = re.compile(rf"(?P<url>https://{_WHERE}){_ONCE}\.(?P<sha256>[0-9a-f]{{64}})")
_PLAIN = re.compile(rf"(?P<url>http://{_WHERE}){_ONCE}")

_USUAL_PORT = 443
_LAST_PORT = 65535


class LineError(ContractError):
    """Error for a pasted line that Process Cosmos did not make, or that is incomplete."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class PairingLine:
    """Parsed pairing line; ``sha256`` None: the connection uses no TLS. ``repr`` omits the secret."""

    url: str
    secret: str
    sha256: str | None = None

    def __str__(self) -> str:
        """Return the line in the form to be pasted."""
        return f"{self.url}#{self.secret}" + (f".{self.sha256}" if self.sha256 else "")

    def __repr__(self) -> str:
        """Return a representation without the secret, safe for logs."""
        return f"{type(self).__name__}(url={self.url!r})"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class OneTimeLine(PairingLine):
    """Pairing line or one-time code that pins the server's certificate or CA key."""

    sha256: str


def parse_line(text: str) -> OneTimeLine:
    """Parse a pasted one-time code or a pairing line with TLS; raise ``LineError``."""
    match = _match(_LINE, text)
    return OneTimeLine(url=match["url"], secret=match["secret"], sha256=match["sha256"])


def parse_pairing_line(text: str) -> PairingLine:
    """Parse a pasted pairing line, with or without TLS; raise ``LineError``."""
    if text.strip().startswith("http:"):
        match = _match(_PLAIN, text)
        return PairingLine(url=match["url"], secret=match["secret"])
    return parse_line(text)


def _match(pattern: re.Pattern[str], text: str) -> re.Match[str]:
    match = pattern.fullmatch(text.strip())
    if match is None:
        # The text must not repeat the line, which contains a secret.
        raise LineError("$", "must have the form https://host:port#secret.sha256", Code.CODE_MALFORMED)
    if not _is_name(match["host"]) or not 0 < int(match["port"] or _USUAL_PORT) <= _LAST_PORT:
        reason = f"must have a valid host name and a port from 1 to {_LAST_PORT}"
        raise LineError("$", reason, Code.CODE_MALFORMED)
    return match


def _is_name(host: str) -> bool:
    try:
        host.encode("idna")
    except UnicodeError:  # a label is empty, or too long
        return False
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class PairingRequest:
    """Body of ``POST /v1/pair``: the pairing line's secret, and the id of the Home Assistant instance to pair."""

    secret: str
    instance: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """Reply to ``PairingRequest``: the token of all later sessions (a secret), and the gateway's site and version."""

    token: str
    site: Ulid
    version: str
