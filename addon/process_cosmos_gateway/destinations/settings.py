"""The stored state of destinations: settings with their secrets, inbox cursor and token."""

import logging
import os
import re
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, ClassVar
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
from .inbox import is_cursor

LONGEST_NAME = 64
LONGEST_URL = 2048
LONGEST_HEADER = 4096
MOST_APPROVED = 5
"""Limit of replies approved by a person; the oldest is dropped first."""

_LOGGER = logging.getLogger(__name__)

_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
# The gateway sets these itself; a second value would contradict the body or the event.
_RESERVED_HEADERS = frozenset(
    {"content-type", "content-length", "content-encoding", "transfer-encoding", "host", "idempotency-key"}
)
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """The result of enrolment: the site's key and certificate, and the CA's certificate (PEM). ``repr`` hides the key.

    ``renew_at``: half of the certificate's lifetime.
    """

    key: str = field(repr=False)
    certificate: str
    ca: str
    renew_at: datetime
    expires_at: datetime

    def tls(self) -> ssl.SSLContext:
        """Return TLS that presents the site's certificate and trusts only the enrolled CA. Blocks for a moment.

        Raises ``ssl.SSLError`` or ``ValueError`` if the credentials cannot be used.
        """
        if not self.ca:
            raise ValueError("there is no CA to trust")  # an empty CA would make OpenSSL trust the system's CAs
        context = ssl.create_default_context(cadata=self.ca)
        # OpenSSL reads keys only from files: this one is in memory, so that a power cut leaves no copy of it.
        with os.fdopen(os.memfd_create("certificate"), "w", encoding="ascii") as file:
            file.write(self.key + self.certificate)
            file.flush()
            context.load_cert_chain(f"/proc/self/fd/{file.fileno()}")
        return context


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookSettings:
    """The settings of a webhook. ``repr`` shows no secret.

    ``approved``: digests of replies approved by a person, oldest first.
    """

    kind: ClassVar = DestinationKind.WEBHOOK
    name: str
    kinds: tuple[EventKind, ...]
    url: str = field(repr=False)
    header: str | None = None
    header_value: str | None = field(default=None, repr=False)
    label: str | None = None
    approved: tuple[str, ...] = ()

    @property
    def address(self) -> str:
        """Scheme, host and port, the only parts of the URL that are not secret. Raises ``url_invalid``."""
        return public_address(self.url)

    @property
    def headers(self) -> Mapping[str, str]:
        """The optional header as a mapping."""
        return {} if self.header is None else {self.header: self.header_value or ""}


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudSettings:
    """The settings of a cloud endpoint after enrolment."""

    kind: ClassVar = DestinationKind.CLOUD
    name: str
    kinds: tuple[EventKind, ...]
    url: str
    credentials: Credentials
    label: str | None = None

    @property
    def address(self) -> str:
        """The URL, of which no part is secret."""
        return self.url


type Settings = WebhookSettings | CloudSettings

_SETTINGS_TYPES: Mapping[DestinationKind, type[Settings]] = {
    shape.kind: shape for shape in (WebhookSettings, CloudSettings)
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDestination:
    """The stored state of one destination."""

    settings: Settings
    proven: bool = False
    inbox_cursor: int = 0
    token: str | None = None


def load_all(transaction: Transaction) -> Sequence[StoredDestination]:
    """Return all destinations, ordered by name; log and skip unreadable ones."""
    rows = transaction.rows(
        "SELECT kind, settings, proven, inbox_cursor, token, name"
        " FROM destination LEFT JOIN destination_token USING (name) ORDER BY name"
    )
    found = []
    for kind, body, proven, after, token, name in rows:
        try:
            settings = parse(_SETTINGS_TYPES[DestinationKind(kind)], orjson.loads(body))
        except ContractError, ValueError:
            _LOGGER.exception(
                "%s: the settings of destination %s cannot be read, so it is not used; set it up again or remove it",
                ROW_UNREADABLE,
                name,
            )
        else:
            cursor, usable = _check_reply_state(name, after, token)
            found.append(StoredDestination(settings=settings, proven=bool(proven), inbox_cursor=cursor, token=usable))
    return found


def load_kinds(transaction: Transaction) -> Mapping[str, DestinationKind]:
    """Return the kind of each destination by name, including those with unreadable settings."""
    rows = transaction.rows("SELECT name, kind FROM destination ORDER BY name")
    known = {str(kind): kind for kind in DestinationKind}
    return {name: known.get(kind, DestinationKind.WEBHOOK) for name, kind in rows}


def _check_reply_state(name: str, cursor: Any, token: Any) -> tuple[int, str | None]:  # noqa: ANN401 - a row's
    """Return the stored cursor and token, or 0 and None where invalid."""
    if not is_cursor(cursor):
        _LOGGER.warning(
            "%s: the inbox cursor of %s is invalid; the inbox is read from its beginning", ROW_UNREADABLE, name
        )
        cursor = 0
    if token is not None and not is_token(token):
        _LOGGER.warning("%s: the token of %s is invalid and was dropped", ROW_UNREADABLE, name)
        token = None
    return cursor, token


def save(transaction: Transaction, settings: Settings) -> StoredDestination:
    """Insert or replace a destination's settings; return its state, with proof, cursor and token reset."""
    transaction.run(
        "INSERT OR REPLACE INTO destination (name, kind, settings) VALUES (?, ?, ?)",
        settings.name,
        settings.kind,
        orjson.dumps(settings),
    )
    transaction.run("DELETE FROM destination_token WHERE name = ?", settings.name)
    return StoredDestination(settings=settings)


def load_one(transaction: Transaction, name: str) -> StoredDestination | None:
    """Return the destination of this name, or None."""
    return next((stored for stored in load_all(transaction) if stored.settings.name == name), None)


def update_settings(transaction: Transaction, settings: Settings) -> StoredDestination:
    """Replace settings but keep cursor, token and proof; at another URL the proof is reset."""
    [before] = [stored for stored in load_all(transaction) if stored.settings.name == settings.name]
    # At another URL the first 400 means a wrong address again, not a bad event.
    after = replace(before, settings=settings, proven=before.proven and before.settings.url == settings.url)
    transaction.run(
        "UPDATE destination SET settings = ?, proven = ? WHERE name = ?",
        orjson.dumps(settings),
        after.proven,
        settings.name,
    )
    return after


def delete(transaction: Transaction, name: str) -> None:
    """Delete the settings of a destination, with its inbox cursor and reply token; its queue is the outbox's."""
    transaction.run("DELETE FROM destination WHERE name = ?", name)
    transaction.run("DELETE FROM destination_token WHERE name = ?", name)


def store_proven(transaction: Transaction, name: str) -> None:
    """Store that the destination accepted an event."""
    transaction.run("UPDATE destination SET proven = 1 WHERE name = ?", name)


def store_token(transaction: Transaction, name: str, token: str | None) -> None:
    """Store the token to present with the next batch; None: none was received yet."""
    if token is None:
        transaction.run("DELETE FROM destination_token WHERE name = ?", name)
    else:
        transaction.run("INSERT OR REPLACE INTO destination_token (name, token) VALUES (?, ?)", name, token)


def store_inbox_cursor(transaction: Transaction, name: str, cursor: int) -> None:
    """Store the inbox cursor in the transaction that stores the items."""
    transaction.run("UPDATE destination SET inbox_cursor = ? WHERE name = ?", cursor, name)


def parse_webhook(request: SetWebhook) -> WebhookSettings:
    """Check a request and return its settings; raise ``RequestRefusedError`` without repeating secrets.

    Only characters that no URL can contain are percent-encoded.
    """
    check_name(request.name)
    public_address(request.url)
    if (request.header is None) != (request.header_value is None):
        raise RequestRefusedError(Code.MALFORMED, "A header needs a name and a value.")
    if request.header is not None and (
        not _HEADER.fullmatch(request.header) or request.header.lower() in _RESERVED_HEADERS
    ):
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
        label=check_label(request.label),
    )


def apply_change(settings: Settings, request: ChangeDestination) -> Settings:
    """Return settings with a change applied; raise ``RequestRefusedError`` if they cannot be used."""
    kinds = settings.kinds if request.kinds is None else request.kinds
    label = settings.label if request.label is None else check_label(request.label)
    if isinstance(settings, CloudSettings):
        if not request.url is request.header is request.header_value is None:
            raise RequestRefusedError(Code.MALFORMED, "The URL and header of a cloud endpoint cannot be changed.")
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
    return carry_over_approvals(parse_webhook(wanted), settings)


def webhook_from_change(request: ChangeDestination) -> SetWebhook | None:
    """Return the webhook that a change describes by itself, for a destination without readable settings.

    None: the change has no URL.
    """
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


def carry_over_approvals(new: Settings, old: Settings | None) -> Settings:
    """Return ``new`` with the approved replies of ``old`` if both are webhooks with the same URL."""
    if isinstance(new, WebhookSettings) and isinstance(old, WebhookSettings) and old.url == new.url:
        return replace(new, approved=old.approved)
    return new


def add_approval(settings: Settings, digest: str) -> Settings:
    """Return settings with one more approved reply; raise ``RequestRefusedError`` where none can be approved."""
    if isinstance(settings, CloudSettings) or not _DIGEST.fullmatch(digest):
        raise RequestRefusedError(Code.MALFORMED, "A webhook's reply is approved by the SHA-256 of its body, in hex.")
    others = [each for each in settings.approved if each != digest]
    return replace(settings, approved=(*others, digest)[-MOST_APPROVED:])


def check_label(label: str | None) -> str | None:
    """Return the label, None for an empty one; raise ``RequestRefusedError`` if it cannot be displayed."""
    if label:
        check_name(label)
    return label or None


def check_name(name: str) -> None:
    """Raise ``RequestRefusedError`` for a name that cannot be used in a recipient or displayed."""
    if not 0 < len(name) <= LONGEST_NAME or not name.isprintable() or name != name.strip():
        raise RequestRefusedError(Code.MALFORMED, f"A destination's name has 1 to {LONGEST_NAME} printable characters.")


def public_address(url: str) -> str:
    """Return scheme, host and port of a URL, its only parts that are not secret. Raises ``url_invalid``."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
        (host or "").encode("idna")  # refuses an empty label, or one that is too long
    except ValueError:
        host, port = None, None
        parts = urlsplit("")
    usable = len(url) <= LONGEST_URL and url.isprintable() and " " not in url and "\\" not in url
    if not usable or parts.scheme not in _DEFAULT_PORTS or not host or port == 0:
        raise RequestRefusedError(Code.URL_INVALID, "A webhook's URL must begin with https:// or http:// and a host.")
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}:{port or _DEFAULT_PORTS[parts.scheme]}"
