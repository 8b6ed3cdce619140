"""One HTTP request to a destination: bounded, without redirects, every failure a word."""

import ssl
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import aiohttp
from aiohttp.http_exceptions import ContentEncodingError
from yarl import URL

from process_cosmos_gateway.contract.errors import Code

from .confirmation import Body, body_of, confirms, decoded
from .destination import MALFORMED_REPLY, Down, Refused, Trouble
from .http_statuses import Meaning, is_about_events, meaning

MAX_REPLY = 1 << 20
"""Bytes of a reply that are read; what is longer is no reply of ours."""

CONNECT_SECONDS = 10.0
SILENCE_SECONDS = 20.0
"""A far side that says nothing for so long is away."""

TOTAL_SECONDS = 60.0
"""A request takes no longer, also while its body leaves slowly."""

LONGEST_QUOTE = 1024
"""Bytes of a reply that are kept for a person."""

LONGEST_WAIT = 86_400.0
"""Seconds of a ``Retry-After`` that are looked at; how many of them are waited is ``backoff``'s to say."""

_FINAL_STATUSES = range(200, 600)
"""A status outside (RFC 9110, 15) says nothing about what was sent: 101 and 999 confirm no event."""

_UNREADABLE = replace(MALFORMED_REPLY, of_event=True)

_OF_ANOTHER_HOST = frozenset({62, 64})
"""OpenSSL's ``X509_V_ERR_HOSTNAME_MISMATCH`` and ``X509_V_ERR_IP_ADDRESS_MISMATCH``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Whose word a reply is. ``verified``: it came over TLS, from who has a certificate of the address.

    ``approved``: digests of replies a person has vouched for; ``secrets``: words that are never shown.
    """

    verified: bool = True
    approved: tuple[str, ...] = ()
    secrets: frozenset[str] = frozenset()


TRUSTED = Source()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came back, the body whole and decompressed. ``charset``: as its content type says."""

    status: int
    body: bytes
    retry_after: float | None = None
    charset: str | None = None
    source: Source = TRUSTED

    def meaning(self, *, single: bool, proven: bool) -> Meaning:
        """Say what it means for what was sent."""
        return meaning(self.status, own=self.is_own, single=single, proven=proven)

    @property
    def is_success(self) -> bool:
        """Whether the status is one of success, whatever the body says."""
        return HTTPStatus.OK <= self.status < HTTPStatus.MULTIPLE_CHOICES

    @property
    def is_own(self) -> bool:
        """Whether the receiver itself can have written the body; a status that confirms nothing may say any words."""
        if self.is_success:
            return confirms(self.body, self.charset, verified=self.source.verified, approved=self.source.approved)
        return body_of(self.body, self.charset) is not Body.PAGE

    @property
    def is_busy(self) -> bool:
        """Whether it is the link that cannot now, so that no event may become poison by it."""
        asked_to_wait = self.status == HTTPStatus.SERVICE_UNAVAILABLE and self.retry_after is not None
        return asked_to_wait or self.status < HTTPStatus.INTERNAL_SERVER_ERROR

    @property
    def trouble(self) -> Trouble:
        """What is wrong with the link, or with the event, for a reply that means ``RETRY`` or ``REFUSED``."""
        if self.meaning(single=True, proven=True) is Meaning.RETRY:
            return Down(
                reason=f"http_{self.status}",
                retry_after=self.retry_after,
                of_event=not self.is_busy,
                detail=self.quote(),
            )
        if self.is_success or (is_about_events(self.status) and not self.is_own):
            return Refused(reason="not_a_receiver", of_event=True, detail=self.quote())
        redirected = self.status < HTTPStatus.BAD_REQUEST
        return Refused(reason="redirect" if redirected else f"http_{self.status}", of_event=True, detail=self.quote())

    def quote(self) -> str | None:
        """Return the beginning of its body for a person, without what is secret."""
        return quote(decoded(self.body, self.charset), self.source.secrets)


def open_session(tls: ssl.SSLContext | bool = True, *, connections: int = 16) -> aiohttp.ClientSession:  # noqa: FBT001, FBT002 - aiohttp's own form
    """Return a session for one destination: no cookies, no proxy from the environment, names as the system has them."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=tls, limit=connections, resolver=aiohttp.ThreadedResolver()),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=patience(),
    )


def patience(extra: float = 0.0) -> aiohttp.ClientTimeout:
    """Return the time limits of a request; ``extra`` seconds where the far side may keep silent on purpose."""
    return aiohttp.ClientTimeout(
        total=TOTAL_SECONDS + extra, sock_connect=CONNECT_SECONDS, sock_read=SILENCE_SECONDS + extra
    )


async def exchange(
    session: aiohttp.ClientSession,
    method: str,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    extra_patience: float = 0.0,
    source: Source = TRUSTED,
) -> Reply | Trouble:
    """Send one request and read the whole reply, or say what is wrong with the link. Never raises for the network."""
    is_read = False
    try:
        async with session.request(
            method,
            _as_given(url),
            headers=headers,
            data=body,
            allow_redirects=False,
            timeout=patience(extra_patience),
        ) as response:
            is_read = True
            if response.status not in _FINAL_STATUSES:
                response.close()
                return _UNREADABLE
            content = bytearray()
            async for chunk in response.content.iter_chunked(1 << 16):
                content += chunk
                if len(content) > MAX_REPLY:
                    response.close()
                    return Down(reason="reply_too_long", of_event=True)
            return Reply(
                status=response.status,
                body=bytes(content),
                retry_after=_seconds(response.headers.get("Retry-After"), response.headers.get("Date")),
                charset=response.charset,
                source=source,
            )
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        return trouble_of(error)
    except ValueError:
        # Before there is a reply: the client cannot make a request of these settings.
        return _UNREADABLE if is_read else Refused(reason="url")


def _as_given(url: str) -> URL:
    """Return ``url`` as it will be sent: yarl would write its escapes anew, and a signed URL would be another one."""
    given = URL(url, encoded=True)
    host = given.raw_host or ""
    return given if host.isascii() else given.with_host(host)


def trouble_of(error: BaseException) -> Trouble:
    """Translate an error of the HTTP client; its text is left out, because it may hold a secret URL."""
    if tls := _tls_error(error):
        return Refused(reason=_tls_reason(tls))
    if isinstance(error, TimeoutError):
        return Down(reason="timeout", of_event=not isinstance(error, aiohttp.ConnectionTimeoutError))
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return Down(reason="name_unknown")
    if isinstance(error, aiohttp.ClientConnectorError):
        return Down(reason="unreachable")
    if isinstance(error, aiohttp.ClientResponseError) or isinstance(error.__cause__, ContentEncodingError):
        return _UNREADABLE
    return Down(reason="connection_lost", of_event=True)


def quote(said: str, secrets: Collection[str] = ()) -> str | None:
    """Return the beginning of what a far side said, without control characters, each of ``secrets`` struck out."""
    for secret in sorted(secrets, key=len, reverse=True):
        said = said.replace(secret, "***")
    shown = "".join(letter if letter.isprintable() else " " for letter in said[:LONGEST_QUOTE])
    return shown.encode()[:LONGEST_QUOTE].decode("utf-8", "ignore").strip() or None


def _tls_reason(error: ssl.SSLError) -> str:
    """Say who refused whom: we the far side's certificate, or the far side ours (an alert came)."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return Code.IDENTITY_MISMATCH if error.verify_code in _OF_ANOTHER_HOST else "certificate"
    reason: str = getattr(error, "reason", None) or ""
    if "ALERT" not in reason:
        return "tls"
    return "certificate_expired" if "EXPIRED" in reason else "certificate_refused"


def _tls_error(error: BaseException | None) -> ssl.SSLError | None:
    """Return the innermost TLS error: aiohttp's own, around it, are of the same class and say less."""
    found = None
    while error is not None:
        if isinstance(error, ssl.SSLError):
            found = error
        error = error.__cause__
    return found


def _seconds(header: str | None, date: str | None) -> float | None:
    """Read ``Retry-After`` (RFC 9110): seconds, or a moment by the far side's own clock; at most ``LONGEST_WAIT``."""
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
