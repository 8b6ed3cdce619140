"""The endpoint's HTTPS interface: enrolment, events, inbox."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any

import orjson
from aiohttp import web

from process_cosmos_gateway.contract.cloud import Enrolled, EnrolmentRequest
from process_cosmos_gateway.contract.codec import decode_json, parse
from process_cosmos_gateway.contract.errors import Code, ContractError
from process_cosmos_gateway.contract.events import BATCH_CONTENT_TYPE
from process_cosmos_gateway.contract.identifiers import Ulid, is_ulid

from .arrivals import take_batch
from .authority import Authority, CertificateRequestError
from .codes import CodeRefusedError, spend_code
from .database import Database, DatabaseError
from .inbox import page_after

MAX_BODY = 8 << 20
"""Bytes of the longest request, counted after decompression."""

LONG_POLL_SECONDS = 25.0
LOOK_AGAIN_SECONDS = 0.2
"""Answers come from other processes, so a waiting poll has to look."""

OPEN_TO_ALL = frozenset({"/health", "/v1/enroll"})
SITE = web.RequestKey("site", Ulid)

type Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ProblemError(Exception):
    """The request is refused: answered as problem details (RFC 9457)."""

    def __init__(self, status: HTTPStatus, code: str, message: str) -> None:
        """Take the status, a stable code for programs, and a sentence for people."""
        super().__init__(message)
        self.status = status
        self.code = code


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every refusal as problem details, and let nothing end the server."""
    try:
        return await handler(request)
    except ProblemError as error:
        return _problem(error.status, error.code, str(error))
    except ContractError as error:
        return _problem(HTTPStatus.BAD_REQUEST, error.code, str(error))
    except web.HTTPRequestEntityTooLarge:
        return _problem(HTTPStatus.CONTENT_TOO_LARGE, Code.TOO_LARGE, f"A request has at most {MAX_BODY} bytes.")
    except web.HTTPException as error:
        return _problem(HTTPStatus(error.status), error.reason.lower().replace(" ", "_"), f"{error.reason}.")
    except DatabaseError:
        request.app.logger.exception("nothing of this request is on disk")
        return _problem(HTTPStatus.SERVICE_UNAVAILABLE, Code.STORE_FAILED, "The endpoint's database failed.")


@web.middleware
async def certificates(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let nobody past without a certificate of ours, and remember whose it is."""
    if request.path not in OPEN_TO_ALL:
        site = site_of_certificate(request.get_extra_info("peercert"))
        if site is None:
            raise ProblemError(HTTPStatus.UNAUTHORIZED, Code.UNAUTHORIZED, "A site's certificate is needed here.")
        request[SITE] = site
    return await handler(request)


def site_of_certificate(certificate: Mapping[str, Any] | None) -> Ulid | None:
    """Return the site a verified certificate was issued to; the TLS layer has checked signature and dates."""
    for (name, value), *_ in (certificate or {}).get("subject", ()):
        if name == "commonName" and is_ulid(value):
            return Ulid(value)
    return None


class Endpoint:
    """Answers the requests of sites."""

    def __init__(self, database: Database, authority: Authority) -> None:
        """Take what the handlers need."""
        self._database = database
        self._authority = authority
        self._stopping = asyncio.Event()

    def app(self) -> web.Application:
        """Return the application: routes behind the two middlewares."""
        app = web.Application(middlewares=[problems, certificates], client_max_size=MAX_BODY)
        app.router.add_get("/health", self._health)
        app.router.add_post("/v1/enroll", self._enroll)
        app.router.add_post("/v1/events", self._events)
        app.router.add_get("/v1/inbox", self._inbox)
        app.on_shutdown.append(self._shutdown)
        return app

    async def _shutdown(self, _: web.Application) -> None:
        self._stopping.set()

    async def _health(self, _: web.Request) -> web.Response:
        return _reply({"status": "ok"})

    async def _enroll(self, request: web.Request) -> web.Response:
        wanted = parse(EnrolmentRequest, decode_json(await request.read()))
        try:
            certificate = self._authority.issue(wanted.csr, wanted.site)
        except CertificateRequestError as error:
            raise ProblemError(HTTPStatus.BAD_REQUEST, Code.MALFORMED, str(error)) from error
        now = time.time()
        try:
            await self._database.write(lambda connection: spend_code(connection, wanted.secret, wanted.site, now))
        except CodeRefusedError as error:
            raise ProblemError(HTTPStatus.FORBIDDEN, Code.ENROLMENT_REFUSED, str(error)) from error
        return _reply(Enrolled(certificate=certificate, ca=self._authority.pem))

    async def _events(self, request: web.Request) -> web.Response:
        if request.content_type != BATCH_CONTENT_TYPE:
            message = f"Events come as {BATCH_CONTENT_TYPE}."
            raise ProblemError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, Code.MALFORMED, message)
        body, site, now = await request.read(), request[SITE], time.time()
        return _reply(await self._database.write(lambda connection: take_batch(connection, site, body, now)))

    async def _inbox(self, request: web.Request) -> web.Response:
        try:
            after = int(request.query.get("after", "0"))
        except ValueError as error:
            raise ProblemError(HTTPStatus.BAD_REQUEST, Code.MALFORMED, "after must be a whole number") from error
        site, deadline = request[SITE], time.monotonic() + LONG_POLL_SECONDS
        while True:
            page = await self._database.read(lambda connection: page_after(connection, site, after, time.time()))
            if page.items or self._stopping.is_set() or time.monotonic() > deadline:
                return _reply(page)
            await asyncio.sleep(LOOK_AGAIN_SECONDS)


def _reply(body: object) -> web.Response:
    return web.Response(body=orjson.dumps(body), content_type="application/json")


def _problem(status: HTTPStatus, code: str, message: str) -> web.Response:
    details = {"type": "about:blank", "title": status.phrase, "status": status, "detail": message, "code": code}
    return web.Response(status=status, body=orjson.dumps(details), content_type="application/problem+json")
