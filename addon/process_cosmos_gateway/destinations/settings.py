"""What is kept of destinations: settings with their secrets, and how far the inbox was read."""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

import orjson

from process_cosmos_gateway.contract.codec import parse
from process_cosmos_gateway.contract.destinations import ChangeDestination, DestinationKind, EventKind, SetWebhook
from process_cosmos_gateway.contract.errors import Code, ContractError
from process_cosmos_gateway.contract.urls import encode_url
from process_cosmos_gateway.errors import RequestRefusedError
from process_cosmos_gateway.store import Transaction
from process_cosmos_gateway.store.errors import ROW_UNREADABLE

from .batch_receipts import is_token
from .cloud import Credentials
from .inbox import is_cursor

LONGEST_NAME = 64
LONGEST_URL = 2048
LONGEST_HEADER = 4096
MOST_APPROVED = 5
"""Replies a person vouched for; the oldest is forgotten first."""

_LOGGER = logging.getLogger(__name__)

_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_OURS = frozenset(
    {"content-type", "content-length", "content-encoding", "transfer-encoding", "host", "idempotency-key"}
)
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookSettings:
    """A webhook as it was set. ``repr`` shows no secret.

    ``approved``: digests of replies a person vouched for, the oldest first.
    """

    name: str
    kinds: tuple[EventKind, ...]
    url: str = field(repr=False)
    header: str | None = None
    header_value: str | None = field(default=None, repr=False)
    label: str | None = None
    approved: tuple[str, ...] = ()

    @property
    def headers(self) -> Mapping[str, str]:
        """The optional header."""
        return {} if self.header is None else {self.header: self.header_value or ""}


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudSettings:
    """A cloud endpoint after enrolment."""

    name: str
    kinds: tuple[EventKind, ...]
    url: str
    credentials: Credentials
    label: str | None = None


type Settings = WebhookSettings | CloudSettings

_SHAPES: Mapping[DestinationKind, type[Settings]] = {
    DestinationKind.WEBHOOK: WebhookSettings,
    DestinationKind.CLOUD: CloudSettings,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """One destination as the store has it."""

    settings: Settings
    proven: bool = False
    inbox_cursor: int = 0
    token: str | None = None


def load_all(transaction: Transaction) -> Sequence[Kept]:
    """Return all destinations, by name."""
    rows = transaction.rows(
        "SELECT kind, settings, proven, inbox_cursor, token, name"
        " FROM destination LEFT JOIN destination_token USING (name) ORDER BY name"
    )
    found = []
    for kind, body, proven, after, token, name in rows:
        try:
            settings = parse(_SHAPES[DestinationKind(kind)], orjson.loads(body))
        except ContractError, ValueError:
            _LOGGER.exception("%s: the destination %s is left out; set it up again, or remove it", ROW_UNREADABLE, name)
        else:
            cursor, usable = _usable(name, after, token)
            found.append(Kept(settings=settings, proven=bool(proven), inbox_cursor=cursor, token=usable))
    return found


def load_kinds(transaction: Transaction) -> Mapping[str, DestinationKind]:
    """Return what each destination is, by name, also of those whose settings cannot be read."""
    rows = transaction.rows("SELECT name, kind FROM destination ORDER BY name")
    known = {str(kind): kind for kind in DestinationKind}
    return {name: known.get(kind, DestinationKind.WEBHOOK) for name, kind in rows}


def _usable(name: str, cursor: Any, token: Any) -> tuple[int, str | None]:  # noqa: ANN401 - a row's
    """Return what is stored of an endpoint's replies as far as it can be used; a damaged value is left out."""
    if not is_cursor(cursor):
        _LOGGER.warning("%s: the inbox of %s is read from its beginning", ROW_UNREADABLE, name)
        cursor = 0
    if token is not None and not is_token(token):
        _LOGGER.warning("%s: the token of %s is dropped", ROW_UNREADABLE, name)
        token = None
    return cursor, token


def save(transaction: Transaction, kind: DestinationKind, settings: Settings) -> None:
    """Keep a destination's settings; what an older one of the name has proven or read does not count for it."""
    transaction.run(
        "INSERT OR REPLACE INTO destination (name, kind, settings) VALUES (?, ?, ?)",
        settings.name,
        kind,
        orjson.dumps(settings),
    )
    transaction.run("DELETE FROM destination_token WHERE name = ?", settings.name)


def load_one(transaction: Transaction, name: str) -> Kept | None:
    """Return one destination, None: there is none of this name."""
    return next((kept for kept in load_all(transaction) if kept.settings.name == name), None)


def amend(transaction: Transaction, settings: Settings) -> Kept:
    """Keep changed settings; what was read and proven counts on, but at another URL nothing is proven."""
    [before] = [kept for kept in load_all(transaction) if kept.settings.name == settings.name]
    after = replace(before, settings=settings, proven=before.proven and before.settings.url == settings.url)
    transaction.run(
        "UPDATE destination SET settings = ?, proven = ? WHERE name = ?",
        orjson.dumps(settings),
        after.proven,
        settings.name,
    )
    return after


def forget(transaction: Transaction, name: str) -> None:
    """Forget a destination."""
    transaction.run("DELETE FROM destination WHERE name = ?", name)
    transaction.run("DELETE FROM destination_token WHERE name = ?", name)


def note_proven(transaction: Transaction, name: str) -> None:
    """Remember that the destination took something."""
    transaction.run("UPDATE destination SET proven = 1 WHERE name = ?", name)


def note_token(transaction: Transaction, name: str, token: str) -> None:
    """Remember the token of the reply that is settled in the same transaction."""
    transaction.run("INSERT OR REPLACE INTO destination_token (name, token) VALUES (?, ?)", name, token)


def note_inbox(transaction: Transaction, name: str, cursor: int) -> None:
    """Remember how far the inbox was read, in the transaction that took the items."""
    transaction.run("UPDATE destination SET inbox_cursor = ? WHERE name = ?", cursor, name)


def read_webhook(request: SetWebhook) -> WebhookSettings:
    """Check a request's settings; raise ``RequestRefusedError`` without repeating what may be secret.

    Of the URL only characters that none can contain are percent-encoded.
    """
    check_name(request.name)
    address_of(request.url)
    if (request.header is None) != (request.header_value is None):
        raise RequestRefusedError(Code.MALFORMED, "A header needs a name and a value.")
    if request.header is not None and (not _HEADER.fullmatch(request.header) or request.header.lower() in _OURS):
        raise RequestRefusedError(Code.MALFORMED, "This header's name cannot be used.")
    if (request.header or "").lower() == "authorization" and urlsplit(request.url).username is not None:
        raise RequestRefusedError(Code.MALFORMED, "Give a user in the URL or an Authorization header, not both.")
    value = request.header_value or ""
    if len(value) > LONGEST_HEADER or not (value.isprintable() and value.isascii()):
        raise RequestRefusedError(Code.MALFORMED, "The header's value must be printable ASCII.")
    return WebhookSettings(
        name=request.name,
        kinds=request.kinds,
        url=encode_url(request.url)[0],
        header=request.header,
        header_value=request.header_value,
        label=read_label(request.label),
    )


def changed(settings: Settings, request: ChangeDestination) -> Settings:
    """Return settings as a request changes them; raise ``RequestRefusedError`` if they cannot be used."""
    kinds = settings.kinds if request.kinds is None else request.kinds
    label = settings.label if request.label is None else read_label(request.label)
    if isinstance(settings, CloudSettings):
        if not request.url is request.header is request.header_value is None:
            raise RequestRefusedError(Code.MALFORMED, "A cloud endpoint has no URL and no header to be changed.")
        return replace(settings, kinds=kinds, label=label)
    header = settings.header if request.header is None else request.header or None
    value = settings.header_value if request.header_value is None and header is not None else request.header_value
    wanted = SetWebhook(
        id=request.id,
        name=settings.name,
        url=settings.url if request.url is None else request.url,
        header=header,
        header_value=(value or None) if header is None else value,
        kinds=kinds,
        label=label,
    )
    return keeping_approvals(read_webhook(wanted), settings)


def set_anew(request: ChangeDestination) -> SetWebhook | None:
    """Return the webhook that a change describes by itself, where nothing is known of before; None: it has no URL."""
    if request.url is None:
        return None
    header = request.header or None
    return SetWebhook(
        id=request.id,
        name=request.name,
        url=request.url,
        header=header,
        header_value=None if header is None else request.header_value,
        kinds=request.kinds or (EventKind.ALERT,),
        label=request.label,
    )


def keeping_approvals(new: WebhookSettings, old: Settings) -> WebhookSettings:
    """Return ``new`` with the replies that were approved at the same URL."""
    if isinstance(old, WebhookSettings) and old.url == new.url:
        return replace(new, approved=old.approved)
    return new


def approving(settings: Settings, digest: str) -> Settings:
    """Return settings with one approved reply more; raise ``RequestRefusedError`` where none can be approved."""
    if isinstance(settings, CloudSettings) or not _DIGEST.fullmatch(digest):
        raise RequestRefusedError(Code.MALFORMED, "A webhook's reply is approved by the SHA-256 of its body, in hex.")
    others = [each for each in settings.approved if each != digest]
    return replace(settings, approved=(*others, digest)[-MOST_APPROVED:])


def read_label(label: str | None) -> str | None:
    """Return what people call a destination, None: nothing; refuse what cannot stand on a screen."""
    if label:
        check_name(label)
    return label or None


def check_name(name: str) -> None:
    """Refuse a name that cannot stand in a recipient or on a screen."""
    if not 0 < len(name) <= LONGEST_NAME or not name.isprintable() or name != name.strip():
        raise RequestRefusedError(Code.MALFORMED, f"A destination's name has 1 to {LONGEST_NAME} printable characters.")


def address_of(url: str) -> str:
    """Return scheme, host and port of a URL: all of it that is no secret. Raise ``url_invalid`` for what is none."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
        (host or "").encode("idna")  # an empty label, or one that is too long, is no name
    except ValueError:
        host, port = None, None
        parts = urlsplit("")
    usable = len(url) <= LONGEST_URL and url.isprintable() and " " not in url and "\\" not in url
    if not usable or parts.scheme not in _DEFAULT_PORTS or not host or port == 0:
        raise RequestRefusedError(Code.URL_INVALID, "A webhook's URL must begin with https:// or http:// and a host.")
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}:{port or _DEFAULT_PORTS[parts.scheme]}"
