"""Lines a person pastes once: pairing lines of a gateway, one-time codes of a cloud endpoint.

Both read ``https://host:port#secret.sha256``: where, a secret that works once, and the SHA-256 (64 hexadecimal digits)
of what must be met there: the gateway's certificate (DER), or the public key (SubjectPublicKeyInfo, DER) of the cloud's
CA.
"""

import re
from dataclasses import dataclass

from .errors import Code, ContractError
from .identifiers import Ulid

_LINE = re.compile(
    r"(?P<url>https://(?P<host>[A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(?::(?P<port>\d{1,5}))?)/?#(?P<secret>[A-Za-z0-9_-]{16,128})\.(?P<sha256>[0-9a-f]{64})"
)

_HTTPS = 443
_LAST_PORT = 65535


class LineError(ContractError):
    """The line is not one that Process Cosmos made; it may be cut off."""

    code = Code.CODE_MALFORMED


@dataclass(frozen=True, slots=True, kw_only=True)
class OneTimeLine:
    """A pairing line or a one-time code, taken apart. ``repr`` leaves the secret out."""

    url: str
    secret: str
    sha256: str

    def __str__(self) -> str:
        """Return the line as it is pasted."""
        return f"{self.url}#{self.secret}.{self.sha256}"

    def __repr__(self) -> str:
        """Return what may stand in a log."""
        return f"OneTimeLine(url={self.url!r})"


def parse_line(text: str) -> OneTimeLine:
    """Take a pasted line apart; raise ``LineError`` if it is none."""
    match = _LINE.fullmatch(text.strip())
    if match is None:
        raise LineError("$", "must read https://host:port#secret.sha256")
    if not _is_name(match["host"]) or not 0 < int(match["port"] or _HTTPS) <= _LAST_PORT:
        raise LineError("$", f"must have a host's name and a port from 1 to {_LAST_PORT}")
    return OneTimeLine(url=match["url"], secret=match["secret"], sha256=match["sha256"])


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
