"""Lines a person pastes once: pairing lines of a gateway, one-time codes of a cloud endpoint.

Both read ``https://host:port#secret.sha256``: where, a secret that works once, and the SHA-256 (64 hexadecimal digits)
of what must be met there: the gateway's certificate (DER), or the public key (SubjectPublicKeyInfo, DER) of the cloud's
CA. Inside the Supervisor's network, where there is no TLS, a pairing line reads ``http://host:port#secret``.
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
    """The line is not one that Process Cosmos made; it may be cut off."""

    code = Code.CODE_MALFORMED


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class PairingLine:
    """A pairing line, taken apart; ``sha256`` None: there is no TLS to check. ``repr`` leaves the secret out."""

    url: str
    secret: str
    sha256: str | None = None

    def __str__(self) -> str:
        """Return the line as it is pasted."""
        return f"{self.url}#{self.secret}" + (f".{self.sha256}" if self.sha256 else "")

    def __repr__(self) -> str:
        """Return what may stand in a log."""
        return f"{type(self).__name__}(url={self.url!r})"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class OneTimeLine(PairingLine):
    """A pairing line or a one-time code that says whom to meet."""

    sha256: str


def parse_line(text: str) -> OneTimeLine:
    """Take a pasted one-time code, or a pairing line with TLS, apart; raise ``LineError`` if it is none."""
    match = _match(_LINE, text)
    return OneTimeLine(url=match["url"], secret=match["secret"], sha256=match["sha256"])


def parse_pairing_line(text: str) -> PairingLine:
    """Take a pasted pairing line apart, with TLS or without; raise ``LineError`` if it is none."""
    if text.strip().startswith("http:"):
        match = _match(_PLAIN, text)
        return PairingLine(url=match["url"], secret=match["secret"])
    return parse_line(text)


def _match(pattern: re.Pattern[str], text: str) -> re.Match[str]:
    match = pattern.fullmatch(text.strip())
    if match is None:
        raise LineError("$", "must read https://host:port#secret.sha256")
    if not _is_name(match["host"]) or not 0 < int(match["port"] or _USUAL_PORT) <= _LAST_PORT:
        raise LineError("$", f"must have a host's name and a port from 1 to {_LAST_PORT}")
    return match


def _is_name(host: str) -> bool:
    try:
        host.encode("idna")
    except UnicodeError:  # a label is empty, or too long
        return False
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class PairingRequest:
    """Body of ``POST /v1/pair``: the pairing line's secret, and the id of the Home Assistant that is to be served."""

    secret: str
    instance: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """The reply: the token of all later sessions (a secret), and whose gateway this is."""

    token: str
    site: Ulid
    version: str
