"""The endpoint's HTTPS interface: enrolment, renewal, events, inbox."""

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
from process_cosmos_gateway.contract.errors import Code, ContractError
from process_cosmos_gateway.contract.events import BATCH_CONTENT_TYPE
from process_cosmos_gateway.contract.identifiers import Ulid, is_ulid
from process_cosmos_gateway.listener import LISTENER, address_group

from .arrivals import take_batch
from .authority import Authority, CertificateRequestError, Issued, SiteCertificate, TooLateError
from .batches import MOST_VALUES_IN_ALL, Batch, BatchReader
from .bodies import MAX_BODY, MAX_REQUEST, read_body
from .codes import CodeRefusedError, check_code, spend_code
from .connections import opened_at
from .database import Connection, Database, DatabaseError
from .identity import Caller, Refusal, RefusedError, admit, enrolled, present, renewed, used
from .inbox import note_polled, page_after
from .places import Places, SupersededError
from .problems import ProblemError
from .readings import SERIES_AT_ONCE, Record, number_series

LARGEST = (1 << 63) - 1
"""Of whole numbers, in the database."""

LONGEST_HEADER = 128
"""Characters of what a site presents."""

MOST_BATCHES, MOST_POLLS, MOST_RENEWALS = 1, 4, 1
"""Of one site at a time: a gateway sends one batch after the other. It polls, once more where a person tests it, and
polls that it gave up when its settings changed may not have ended here yet."""

LONG_POLL_SECONDS = 25.0
LOOK_AGAIN_SECONDS = 0.2
"""Answers come from other processes, so a waiting poll has to look."""

OPEN_TO_ALL = frozenset({"/health", "/v1/enroll", "/v1/renew"})
CERTIFICATE = web.RequestKey("certificate", SiteCertificate)

type Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every refusal as problem details, and let nothing end the server."""
    try:
        return await handler(request)
    except ProblemError as error:
        response = _problem(error.status, error.code, str(error))
        if error.closing:
            response.force_close()
        return response
    except ContractError as error:
        return _problem(HTTPStatus.BAD_REQUEST, error.code, str(error))
    except web.HTTPRequestEntityTooLarge:
        return _problem(HTTPStatus.CONTENT_TOO_LARGE, Code.TOO_LARGE, f"A request has at most {MAX_BODY} bytes.")
    except web.HTTPException as error:
        return _problem(HTTPStatus(error.status), error.reason.lower().replace(" ", "_"), f"{error.reason}.")
    except DatabaseError:
        request.app.logger.exception("nothing of this request is on disk")
        return _problem(HTTPStatus.SERVICE_UNAVAILABLE, Code.STORE_FAILED, "The endpoint's database failed.")


def site_certificate(certificate: Mapping[str, Any] | None) -> SiteCertificate | None:
    """Return a verified certificate if it is a site's; the TLS layer has checked signature and dates."""
    for (name, value), *_ in (certificate or {}).get("subject", ()):
        if certificate and name == "commonName" and is_ulid(value):
            serial, not_before = certificate["serialNumber"], certificate["notBefore"]
            return SiteCertificate(
                site=Ulid(value), serial=f"{int(serial, 16):x}", not_before=ssl.cert_time_to_seconds(not_before)
            )
    return None


class Endpoint:
    """Answers the requests of sites."""

    def __init__(self, database: Database, authority: Authority) -> None:
        """Take what the handlers need."""
        self._database = database
        self._authority = authority
        self._stopping = asyncio.Event()
        self._newest: dict[Ulid, int] = {}
        self._batches, self._polls, self._renewals = Places(MOST_BATCHES), Places(MOST_POLLS), Places(MOST_RENEWALS)

    def app(self) -> web.Application:
        """Return the application: routes behind the two middlewares."""
        app = web.Application(middlewares=[problems, self._certificates], client_max_size=MAX_BODY)
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
    async def _certificates(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Let nobody past without a certificate of ours that is still good, and remember whose it is."""
        try:
            if request.path not in OPEN_TO_ALL:
                await self._identify(request)
            return await handler(request)
        except RefusedError as error:
            raise _refused(error.refusal) from error

    async def _identify(self, request: web.Request) -> None:
        """Note whose request it is; raise ``RefusedError``. Its connection is a stranger's until then."""
        certificate = site_certificate(request.get_extra_info("peercert"))
        if certificate is None:
            raise ProblemError(HTTPStatus.UNAUTHORIZED, Code.UNAUTHORIZED, "A site's certificate is needed here.")
        listener = request.app[LISTENER]
        if not listener.is_admitted(request):
            # Not in the site's turn: a revoked certificate, tried again and again, must delay only itself.
            await self._database.read(lambda connection: admit(connection, certificate), certificate.serial)
            listener.admit(request, certificate.site)
        request[CERTIFICATE] = certificate

    async def _health(self, _: web.Request) -> web.Response:
        return _reply({"status": "ok"})

    async def _enroll(self, request: web.Request) -> web.Response:
        wanted = parse(EnrolmentRequest, decode_json(await read_body(request, MAX_REQUEST)))
        now = time.time()

        def check(connection: Connection) -> None:
            check_code(connection, wanted.secret, wanted.site, now)

        def enrol(connection: Connection) -> None:
            spend_code(connection, wanted.secret, wanted.site, now)
            enrolled(connection, wanted.site, certificate.serial, now)

        try:
            # Without a code a request costs a look into the database: its CSR is not parsed, nothing is signed.
            await self._database.read(check, _address(request))
            certificate = await self._issue(wanted.csr, wanted.site)
            await self._database.write(enrol, wanted.site)
        except CodeRefusedError as error:
            raise ProblemError(HTTPStatus.FORBIDDEN, Code.ENROLMENT_REFUSED, str(error)) from error
        return _reply(Enrolled(certificate=certificate.certificate, ca=self._authority.pem))

    async def _renew(self, request: web.Request) -> web.Response:
        wanted = parse(RenewalRequest, decode_json(await read_body(request, MAX_REQUEST)))
        try:
            old = await self._database.prepare(lambda: self._authority.renewable(wanted), _address(request))
        except TooLateError as error:
            raise RefusedError(Refusal(code=Code.CERTIFICATE_EXPIRED, message=str(error))) from error
        except CertificateRequestError as error:
            raise ProblemError(HTTPStatus.BAD_REQUEST, Code.MALFORMED, str(error)) from error
        await self._database.read(lambda connection: admit(connection, old), old.serial)

        def renew(connection: Connection) -> str:
            admit(connection, old)
            used(connection, old)
            return renewed(connection, old, same, certificate, time.time())

        # Under another CA the same request is another one: its certificate would not fit the CA of the reply.
        same = hashlib.sha256(f"{self._authority.sha256} {old.serial} {wanted.csr}".encode()).hexdigest()
        async with self._renewals.one(old.site):
            certificate = await self._issue(wanted.csr, old.site)
            return _reply(Enrolled(certificate=await self._database.write(renew, old.site), ca=self._authority.pem))

    async def _issue(self, csr: str, site: Ulid) -> Issued:
        """Sign a certificate, off the event loop."""
        try:
            return await self._database.prepare(lambda: self._authority.issue(csr, site), site)
        except CertificateRequestError as error:
            raise ProblemError(HTTPStatus.BAD_REQUEST, Code.MALFORMED, str(error)) from error

    async def _events(self, request: web.Request) -> web.Response:
        if request.content_type != BATCH_CONTENT_TYPE:
            message = f"Events come as {BATCH_CONTENT_TYPE}."
            raise ProblemError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, Code.MALFORMED, message)
        site = request[CERTIFICATE].site
        async with self._batches.one(site) as place:
            async with place.waiting():
                body = await read_body(request, MAX_BODY, most_values=MOST_VALUES_IN_ALL)
            return await self._take(request, BatchReader(body, site))

    async def _take(self, request: web.Request, reader: BatchReader) -> web.Response:
        certificate, now = request[CERTIFICATE], time.time()
        site = certificate.site
        opened = opened_at(request)
        caller = Caller(
            token=_header(request, TOKEN_HEADER), epoch=_header(request, EPOCH_HEADER), address=request.remote or ""
        )
        while not await self._database.prepare(reader.read_some, site):
            pass
        await self._number_series(reader.batch, certificate)

        def take(connection: Connection) -> BatchReceipt | Refusal:
            admit(connection, certificate)
            self._check_newest(site, opened)
            used(connection, certificate)
            token = present(connection, site, caller, now)
            return token if isinstance(token, Refusal) else take_batch(connection, site, reader.batch, now, token)

        outcome = await self._database.write(take, site)
        if isinstance(outcome, Refusal):
            request.app.logger.warning("%s", outcome.message)
            raise _refused(outcome)
        return _reply(outcome)

    async def _number_series(self, batch: Batch, certificate: SiteCertificate) -> None:
        """Number many series in several short transactions, so that no other site waits for all of them."""
        by_name: dict[tuple[str, str], Record] = {}
        for record in chain.from_iterable(item.readings for item in batch.items):
            by_name.setdefault(record.name, record)
        if len(by_name) <= SERIES_AT_ONCE:
            return  # the transaction that stores the readings does it
        for records in batched(by_name.values(), SERIES_AT_ONCE, strict=False):

            def number(connection: Connection, records: Sequence[Record] = records) -> None:
                admit(connection, certificate)
                number_series(connection, certificate.site, records, batch.series)

            await self._database.write(number, certificate.site)

    def _check_newest(self, site: Ulid, opened: int) -> None:
        """Refuse what was held up on the way: its gateway has given it up, and goes on by a newer connection.

        Runs in the transaction that has admitted the certificate: what is refused changes nothing for its site.
        It would take the place of the newer request, whose token would then look like a second gateway's. A gateway
        that is there nevertheless connects anew, and is told apart by its token.
        """
        if opened < self._newest.get(site, 0):
            raise SupersededError
        self._newest[site] = opened

    async def _inbox(self, request: web.Request) -> web.Response:
        after, wait = _number(request, "after", 0), _number(request, "wait", int(LONG_POLL_SECONDS))
        certificate = request[CERTIFICATE]
        site = certificate.site
        deadline = time.monotonic() + min(wait, LONG_POLL_SECONDS)

        def question(connection: Connection) -> InboxPage:
            admit(connection, certificate)
            return page_after(connection, site, after, time.time())

        def note(connection: Connection) -> None:
            admit(connection, certificate)
            used(connection, certificate)
            note_polled(connection, site, after)

        async with self._polls.one(site) as place:
            await self._database.write(note, site)
            while True:
                page = await self._database.read(question, site)
                is_known = page.newest is None or after <= page.newest
                if page.items or not is_known or self._stopping.is_set() or time.monotonic() >= deadline:
                    return _reply(page)
                async with place.waiting():
                    await asyncio.sleep(LOOK_AGAIN_SECONDS)


def _address(request: web.Request) -> str:
    """Return whose turn it is when nobody is known yet."""
    return address_group(request.remote or "::")


def _header(request: web.Request, name: str) -> str:
    """Return a header, empty where there is none; a byte that is no text would not go into the database."""
    value = request.headers.get(name, "")
    if not value.isascii() or len(value) > LONGEST_HEADER:
        raise ProblemError(
            HTTPStatus.BAD_REQUEST, Code.MALFORMED, f"{name} must be {LONGEST_HEADER} ASCII letters at most"
        )
    return value


def _number(request: web.Request, name: str, default: int) -> int:
    """Return a whole number of the query; raise ``ProblemError`` for what is none."""
    try:
        number = int(request.query.get(name, default))
    except ValueError as error:
        raise ProblemError(HTTPStatus.BAD_REQUEST, Code.MALFORMED, f"{name} must be a whole number") from error
    if not 0 <= number <= LARGEST:
        raise ProblemError(HTTPStatus.BAD_REQUEST, Code.MALFORMED, f"{name} must be from 0 to {LARGEST}")
    return number


def _reply(body: object) -> web.Response:
    return web.Response(body=orjson.dumps(body), content_type="application/json")


def _refused(refusal: Refusal) -> ProblemError:
    conflict = refusal.code is Code.IDENTITY_CONFLICT
    status = HTTPStatus.CONFLICT if conflict else HTTPStatus.FORBIDDEN
    # The connection was admitted: it must not stay so.
    return ProblemError(status, refusal.code, refusal.message, closing=True)


def _problem(status: HTTPStatus, code: str, message: str) -> web.Response:
    details = {"type": "about:blank", "title": status.phrase, "status": status, "detail": message, "code": code}
    return web.Response(status=status, body=orjson.dumps(details), content_type="application/problem+json")
