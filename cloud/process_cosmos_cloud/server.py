"""The endpoint's HTTPS interface: enrolment, renewal, events and inbox."""

import asyncio
import hashlib
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from itertools import batched, chain
from typing import Any

import orjson
from aiohttp import web

from process_cosmos_gateway.contract.bounds import MOST_SIGNED
from process_cosmos_gateway.contract.cloud import (
    EPOCH_HEADER,
    TOKEN_HEADER,
    BatchReceipt,
    Enrolled,
    EnrolmentRequest,
    InboxPage,
    RenewalRequest,
)
from process_cosmos_gateway.contract.codec import decode_json, parse
from process_cosmos_gateway.contract.durations import LONG_POLL
from process_cosmos_gateway.contract.errors import Code, ContractError
from process_cosmos_gateway.contract.events import BATCH_CONTENT_TYPE
from process_cosmos_gateway.contract.identifiers import Ulid, is_ulid
from process_cosmos_gateway.listener import LISTENER, address_group

from .arrivals import store_batch
from .authority import Authority, Issued, SiteCertificate
from .batches import MOST_VALUES_IN_ALL, Batch, BatchReader
from .bodies import MAX_BODY, MAX_REQUEST, read_body
from .codes import check_code, spend_code
from .database import Connection, Database, DatabaseError
from .identity import Caller, accept_token, admit, record_enrolment, record_renewal, record_use
from .inbox import note_polled, page_after
from .places import RequestSlots, SupersededError
from .problems import ProblemError, RefusedError
from .readings import SERIES_AT_ONCE, SenMLRecord, resolve_series

LONGEST_HEADER = 128
"""Maximum length of a token or epoch header, in characters."""

MOST_BATCHES, MOST_POLLS, MOST_RENEWALS = 1, 4, 1
"""Concurrent requests per site. A gateway sends one batch after another. It polls once, a second time while a person
tests it, and polls given up when its settings changed may not have ended here yet."""

POLL_INTERVAL_SECONDS = 0.2
"""Answers are added by other processes, so a waiting poll reads the database repeatedly."""

PUBLIC_PATHS = frozenset({"/health", "/v1/enroll", "/v1/renew"})
CERTIFICATE = web.RequestKey("certificate", SiteCertificate)

type Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@web.middleware
async def problem_details(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every refusal and database error into problem details (RFC 9457)."""
    try:
        return await handler(request)
    except ProblemError as error:
        response = _problem(error.status, error.code, str(error))
        if error.closing:
            response.force_close()
        return response
    except ContractError as error:
        return _problem(HTTPStatus.BAD_REQUEST, error.code, str(error))
    except web.HTTPException as error:
        return _problem(HTTPStatus(error.status), error.reason.lower().replace(" ", "_"), f"{error.reason}.")
    except DatabaseError:
        request.app.logger.exception("The database failed; nothing of this request was stored. Check the disk")
        return _problem(
            HTTPStatus.SERVICE_UNAVAILABLE,
            Code.STORE_FAILED,
            "The endpoint's database failed; nothing was stored. Try again later.",
        )


def site_certificate(certificate: Mapping[str, Any] | None) -> SiteCertificate | None:
    """Return the client certificate if it is that of a site; TLS has verified its signature and dates."""
    for (name, value), *_ in (certificate or {}).get("subject", ()):
        if certificate and name == "commonName" and is_ulid(value):
            serial, not_before = certificate["serialNumber"], certificate["notBefore"]
            return SiteCertificate(
                site=Ulid(value), serial=f"{int(serial, 16):x}", not_before=ssl.cert_time_to_seconds(not_before)
            )
    return None


class Endpoint:
    """Handles the requests of sites."""

    def __init__(self, database: Database, authority: Authority) -> None:
        """Use ``database`` and ``authority`` for all requests."""
        self._database = database
        self._authority = authority
        self._stopping = asyncio.Event()
        self._newest_connection: dict[Ulid, int] = {}
        self._batches = RequestSlots(MOST_BATCHES)
        self._polls = RequestSlots(MOST_POLLS)
        self._renewals = RequestSlots(MOST_RENEWALS)

    def app(self) -> web.Application:
        """Return the web application with all routes."""
        app = web.Application(middlewares=[problem_details, self._authenticate])
        app.router.add_get("/health", self._health)
        app.router.add_post("/v1/enroll", self._enroll)
        app.router.add_post("/v1/renew", self._renew)
        app.router.add_post("/v1/events", self._events)
        app.router.add_get("/v1/inbox", self._inbox)
        app.on_shutdown.append(self._shutdown)
        return app

    async def _shutdown(self, _: web.Application) -> None:
        self._stopping.set()

    @web.middleware
    async def _authenticate(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse requests without a valid certificate of a site, except to the public paths.

        Stores the certificate in the request, and admits its connection.
        """
        if request.path in PUBLIC_PATHS:
            return await handler(request)
        certificate = site_certificate(request.get_extra_info("peercert"))
        if certificate is None:
            raise ProblemError(
                HTTPStatus.UNAUTHORIZED, Code.UNAUTHORIZED, "This request needs the certificate of an enrolled site."
            )
        listener = request.app[LISTENER]
        if not listener.is_admitted(request):
            # Not in the site's queue: repeated attempts with a revoked certificate must delay only themselves.
            await self._database.read(lambda connection: admit(connection, certificate), certificate.serial)
            listener.admit(request, certificate.site)
        request[CERTIFICATE] = certificate
        return await handler(request)

    async def _health(self, _: web.Request) -> web.Response:
        return _reply({"status": "ok"})

    async def _enroll(self, request: web.Request) -> web.Response:
        requested = parse(EnrolmentRequest, decode_json(await read_body(request, MAX_REQUEST)))
        now = time.time()

        def enrol(connection: Connection) -> None:
            spend_code(connection, requested.secret, requested.site, now)
            record_enrolment(connection, requested.site, certificate.serial, now)

        # Checked first: without a valid code the CSR is not parsed and nothing is signed.
        await self._database.read(
            lambda connection: check_code(connection, requested.secret, requested.site, now), _address(request)
        )
        certificate = await self._issue(requested.csr, requested.site)
        await self._database.write(enrol, requested.site)
        return _reply(Enrolled(certificate=certificate.certificate, ca=self._authority.pem))

    async def _renew(self, request: web.Request) -> web.Response:
        requested = parse(RenewalRequest, decode_json(await read_body(request, MAX_REQUEST)))
        old = await self._database.prepare(lambda: self._authority.verify_renewal(requested), _address(request))
        # Before a certificate is signed, and again in the transaction: it may have been revoked in between.
        await self._database.read(lambda connection: admit(connection, old), old.serial)

        def renew(connection: Connection) -> str:
            admit(connection, old)
            record_use(connection, old)
            return record_renewal(connection, old, request_hash, certificate, time.time())

        # Includes the CA: after a rotation the same request needs a new certificate, which matches the CA of the reply.
        request_hash = hashlib.sha256(f"{self._authority.sha256} {old.serial} {requested.csr}".encode()).hexdigest()
        async with self._renewals.acquire(old.site):
            certificate = await self._issue(requested.csr, old.site)
            return _reply(Enrolled(certificate=await self._database.write(renew, old.site), ca=self._authority.pem))

    async def _issue(self, csr: str, site: Ulid) -> Issued:
        return await self._database.prepare(lambda: self._authority.issue(csr, site), site)

    async def _events(self, request: web.Request) -> web.Response:
        if request.content_type != BATCH_CONTENT_TYPE:
            message = f"The content type must be {BATCH_CONTENT_TYPE}."
            raise ProblemError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, Code.MALFORMED, message)
        site = request[CERTIFICATE].site
        opened = request.app[LISTENER].connection_number(request)  # before it may be closed
        async with self._batches.acquire(site) as slot:
            async with slot.interruptible():
                body = await read_body(request, MAX_BODY, most_values=MOST_VALUES_IN_ALL)
            return await self._store_batch(request, opened, BatchReader(body, site))

    async def _store_batch(self, request: web.Request, opened: int, reader: BatchReader) -> web.Response:
        certificate, now = request[CERTIFICATE], time.time()
        site = certificate.site
        caller = Caller(
            token=_header(request, TOKEN_HEADER), epoch=_header(request, EPOCH_HEADER), address=request.remote or ""
        )
        while not await self._database.prepare(reader.read_some, site):
            pass
        await self._resolve_series(reader.batch, certificate)

        def store(connection: Connection) -> BatchReceipt | RefusedError:
            admit(connection, certificate)
            self._check_connection(site, opened)
            record_use(connection, certificate)
            token = accept_token(connection, site, caller, now)
            # A refusal is returned, not raised: an exception would undo the record of the conflict.
            return token if isinstance(token, RefusedError) else store_batch(connection, site, reader.batch, now, token)

        outcome = await self._database.write(store, site)
        if isinstance(outcome, RefusedError):
            request.app.logger.warning("%s", outcome)
            raise outcome
        return _reply(outcome)

    async def _resolve_series(self, batch: Batch, certificate: SiteCertificate) -> None:
        """Resolve many series in several short transactions, so that other sites are served in between."""
        by_name: dict[tuple[str, str], SenMLRecord] = {}
        for record in chain.from_iterable(item.readings for item in batch.items):
            by_name.setdefault(record.name, record)
        if len(by_name) <= SERIES_AT_ONCE:
            return  # resolved by the transaction that stores the readings
        for records in batched(by_name.values(), SERIES_AT_ONCE, strict=False):

            def resolve(connection: Connection, records: Sequence[SenMLRecord] = records) -> None:
                admit(connection, certificate)
                resolve_series(connection, certificate.site, records, batch.series)

            await self._database.write(resolve, certificate.site)

    def _check_connection(self, site: Ulid, opened: int) -> None:
        """Raise ``SupersededError`` for a request on an older connection: its gateway has given it up.

        Such a delayed request would use up the token of the newer one, which would then look like that of a second
        gateway. A real second gateway opens new connections and is detected by its token. Runs in the transaction that
        admits the certificate, so that a refused request changes nothing for its site.
        """
        if opened < self._newest_connection.get(site, 0):
            raise SupersededError
        self._newest_connection[site] = opened

    async def _inbox(self, request: web.Request) -> web.Response:
        after, wait = _number(request, "after", 0), _number(request, "wait", int(LONG_POLL))
        certificate = request[CERTIFICATE]
        site = certificate.site
        deadline = time.monotonic() + min(wait, LONG_POLL)

        def query(connection: Connection) -> InboxPage:
            admit(connection, certificate)
            return page_after(connection, site, after, time.time())

        def record_poll(connection: Connection) -> None:
            admit(connection, certificate)
            record_use(connection, certificate)
            note_polled(connection, site, after)

        async with self._polls.acquire(site) as slot:
            await self._database.write(record_poll, site)
            while True:
                page = await self._database.read(query, site)
                was_given = page.newest is None or after <= page.newest
                if page.items or not was_given or self._stopping.is_set() or time.monotonic() >= deadline:
                    return _reply(page)
                async with slot.interruptible():
                    await asyncio.sleep(POLL_INTERVAL_SECONDS)


def _address(request: web.Request) -> str:
    """Return the queue of a request without a known site: its network address group."""
    return address_group(request.remote or "::")


def _header(request: web.Request, name: str) -> str:
    """Return a header, empty if missing; raise ``ContractError`` if it is too long or not ASCII."""
    value = request.headers.get(name, "")
    if not value.isascii() or len(value) > LONGEST_HEADER:
        raise ContractError(name, f"can have at most {LONGEST_HEADER} ASCII characters")
    return value


def _number(request: web.Request, name: str, default: int) -> int:
    """Return an integer from the query string; raise ``ContractError`` if it is invalid."""
    try:
        number = int(request.query.get(name, default))
    except ValueError as error:
        raise ContractError(name, "must be a whole number") from error
    if not 0 <= number <= MOST_SIGNED:
        raise ContractError(name, f"must be from 0 to {MOST_SIGNED}")
    return number


def _reply(body: object) -> web.Response:
    return web.Response(body=orjson.dumps(body), content_type="application/json")


def _problem(status: HTTPStatus, code: str, message: str) -> web.Response:
    details = {"type": "about:blank", "title": status.phrase, "status": status, "detail": message, "code": code}
    return web.Response(status=status, body=orjson.dumps(details), content_type="application/problem+json")
