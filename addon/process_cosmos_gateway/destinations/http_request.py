"""Single HTTP requests to a destination: bounded in time and size, without redirects, failures as codes."""

import ssl
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import aiohttp
from aiohttp.http_exceptions import ContentEncodingError
from yarl import URL

from process_cosmos_gateway.contract.errors import Code

from .confirmation import BodyKind, classify_body, decode_body, is_confirmation
from .destination import MALFORMED_REPLY, Down, Refused, Trouble
from .http_statuses import ABOUT_EVENTS, Meaning, meaning

MAX_REPLY = 1 << 20
"""Greatest number of bytes in a reply; a longer one is invalid."""

CONNECT_SECONDS = 10.0
SILENCE_SECONDS = 20.0
"""A receiver that sends nothing for this long counts as down."""

TOTAL_SECONDS = 60.0
"""Time limit of a request, including a slowly sent body."""

LONGEST_QUOTE = 1024
"""Bytes of a reply kept to be shown to people."""

LONGEST_WAIT = 86_400.0
"""Greatest ``Retry-After`` in seconds that is read; ``backoff`` limits how much of it is waited."""

_FINAL_STATUSES = range(200, 600)
"""Final statuses (RFC 9110, 15). Others, such as 101 and 999, confirm no event."""

_UNREADABLE = replace(MALFORMED_REPLY, event_suspected=True)

_OF_ANOTHER_HOST = frozenset({62, 64})
"""OpenSSL's ``X509_V_ERR_HOSTNAME_MISMATCH`` and ``X509_V_ERR_IP_ADDRESS_MISMATCH``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplySource:
    """The origin of a reply. ``verified``: TLS with a certificate of the address.

    ``approved``: digests of replies approved by a person. ``secrets``: texts that are never shown.
    """

    verified: bool = True
    approved: tuple[str, ...] = ()
    secrets: frozenset[str] = frozenset()


VERIFIED_SOURCE = ReplySource()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An HTTP reply with the whole body, decompressed. ``charset``: from its content type."""

    status: int
    body: bytes
    retry_after: float | None = None
    charset: str | None = None
    source: ReplySource = VERIFIED_SOURCE

    def meaning(self, *, single: bool, proven: bool) -> Meaning:
        """Return what the reply means for the events that were sent."""
        return meaning(self.status, own=self.is_from_receiver, single=single, proven=proven)

    @property
    def is_success(self) -> bool:
        """Whether the status is one of success, regardless of the body."""
        return HTTPStatus.OK <= self.status < HTTPStatus.MULTIPLE_CHOICES

    @property
    def is_from_receiver(self) -> bool:
        """Whether the body may come from the receiver itself; without a status of success all but markup may."""
        if self.is_success:
            return is_confirmation(
                self.body, self.charset, verified=self.source.verified, approved=self.source.approved
            )
        return classify_body(self.body, self.charset) is not BodyKind.PAGE

    @property
    def is_busy(self) -> bool:
        """Whether the link cannot accept events at present, so that no failure may be attributed to an event."""
        asked_to_wait = self.status == HTTPStatus.SERVICE_UNAVAILABLE and self.retry_after is not None
        return asked_to_wait or self.status < HTTPStatus.INTERNAL_SERVER_ERROR

    @property
    def trouble(self) -> Trouble:
        """The failure of link or event, for a reply that means ``RETRY`` or ``REFUSED``."""
        if self.meaning(single=True, proven=True) is Meaning.RETRY:
            return Down(
                reason=f"http_{self.status}",
                retry_after=self.retry_after,
                event_suspected=not self.is_busy,
                detail=self.quote(),
            )
        if self.is_success or (self.status in ABOUT_EVENTS and not self.is_from_receiver):
            return Refused(reason="not_a_receiver", event_suspected=True, detail=self.quote())
        redirected = self.status < HTTPStatus.BAD_REQUEST
        return Refused(
            reason="redirect" if redirected else f"http_{self.status}", event_suspected=True, detail=self.quote()
        )

    def quote(self) -> str | None:
        """Return the beginning of the body for people, without secrets."""
        return quote(decode_body(self.body, self.charset), self.source.secrets)


def open_session(tls: ssl.SSLContext | bool = True, *, connections: int = 16) -> aiohttp.ClientSession:  # noqa: FBT001, FBT002 - aiohttp's own form
    """Return a session for one destination: no cookies, no proxy from the environment, the system's name resolution."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=tls, limit=connections, resolver=aiohttp.ThreadedResolver()),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=request_timeout(),
    )


def request_timeout(extra: float = 0.0) -> aiohttp.ClientTimeout:
    """Return the time limits of a request; ``extra`` seconds are added where the receiver may delay its reply."""
    return aiohttp.ClientTimeout(
        total=TOTAL_SECONDS + extra, sock_connect=CONNECT_SECONDS, sock_read=SILENCE_SECONDS + extra
    )


async def send_request(
    session: aiohttp.ClientSession,
    method: str,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    extra_seconds: float = 0.0,
    source: ReplySource = VERIFIED_SOURCE,
) -> Reply | Trouble:
    """Send one request and return the whole reply, or the failure. Never raises for the network."""
    is_read = False
    try:
        async with session.request(
            method,
            _unmodified_url(url),
            headers=headers,
            data=body,
            allow_redirects=False,
            timeout=request_timeout(extra_seconds),
        ) as response:
            is_read = True
            # Such a connection is closed: what follows on it would be read as the reply to the next request.
            if response.status not in _FINAL_STATUSES:
                response.close()
                return _UNREADABLE
            content = bytearray()
            async for chunk in response.content.iter_chunked(1 << 16):
                content += chunk
                if len(content) > MAX_REPLY:
                    response.close()
                    return Down(reason="reply_too_long", event_suspected=True)
            return Reply(
                status=response.status,
                body=bytes(content),
                retry_after=_retry_after_seconds(response.headers.get("Retry-After"), response.headers.get("Date")),
                charset=response.charset,
                source=source,
            )
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        return trouble_from_error(error)
    except ValueError:
        # Before a reply arrived: the client cannot build a request from these settings.
        return _UNREADABLE if is_read else Refused(reason="url")


def _unmodified_url(url: str) -> URL:
    """Return ``url`` unchanged: yarl would re-encode its escapes, which invalidates a signed URL."""
    given = URL(url, encoded=True)
    host = given.raw_host or ""
    return given if host.isascii() else given.with_host(host)


def trouble_from_error(error: BaseException) -> Trouble:
    """Convert an error of the HTTP client; its text is left out because it may contain a secret URL."""
    # TLS errors and unknown names precede ``ClientConnectorError``, from which aiohttp derives them.
    if tls := _tls_error(error):
        return Refused(reason=_tls_reason(tls))
    if isinstance(error, TimeoutError):
        # A time-out of the connect phase cannot be the event's fault: nothing of it was sent.
        return Down(reason="timeout", event_suspected=not isinstance(error, aiohttp.ConnectionTimeoutError))
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return Down(reason="name_unknown")
    if isinstance(error, aiohttp.ClientConnectorError):
        return Down(reason="unreachable")
    if isinstance(error, aiohttp.ClientResponseError) or isinstance(error.__cause__, ContentEncodingError):
        return _UNREADABLE
    return Down(reason="connection_lost", event_suspected=True)


def quote(said: str, secrets: Collection[str] = ()) -> str | None:
    """Return the beginning of a receiver's text, without control characters, with each of ``secrets`` masked."""
    # Longest first, as one secret may contain another; before the cut, as a part of a secret would not be recognised.
    for secret in sorted(secrets, key=len, reverse=True):
        said = said.replace(secret, "***")
    shown = "".join(letter if letter.isprintable() else " " for letter in said[:LONGEST_QUOTE])
    return shown.encode()[:LONGEST_QUOTE].decode("utf-8", "ignore").strip() or None


def _tls_reason(error: ssl.SSLError) -> str:
    """Return the code for a TLS error: our check of the receiver failed, or the receiver sent an alert about us."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return Code.IDENTITY_MISMATCH if error.verify_code in _OF_ANOTHER_HOST else "certificate"
    reason: str = getattr(error, "reason", None) or ""
    # Python's ``ssl`` has no class for alerts; only OpenSSL's name of the reason tells them apart.
    if "ALERT" not in reason:
        return "tls"
    return "certificate_expired" if "EXPIRED" in reason else "certificate_refused"


def _tls_error(error: BaseException | None) -> ssl.SSLError | None:
    """Return the innermost TLS error; aiohttp's own errors around it have the same class and less detail."""
    found = None
    while error is not None:
        if isinstance(error, ssl.SSLError):
            found = error
        error = error.__cause__
    return found


def _retry_after_seconds(header: str | None, date: str | None) -> float | None:
    """Parse ``Retry-After`` (RFC 9110): seconds, or a date by the receiver's clock; at most ``LONGEST_WAIT``."""
    if header is None:
        return None
    try:
        if header.strip().isdecimal():
            seconds = float(header)
        else:
            seconds = (parsedate_to_datetime(header) - parsedate_to_datetime(date or "")).total_seconds()
    except ValueError, TypeError, OverflowError:
        return None
    return min(max(seconds, 0.0), LONGEST_WAIT)
