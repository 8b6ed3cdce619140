"""Replies of receivers that are busy, broken, or not what they seem to be."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

import orjson
from aiohttp import ClientConnectionResetError, web

_NOBODYS = "01K8J5Z0000000000000000009"

type Take = Callable[[], Awaitable[web.StreamResponse]]
"""Accepts the request, and returns the proper reply."""

type Misbehave = Callable[[web.Request, bytes, Take], Awaitable[web.StreamResponse | None]]
"""Replies in place of the receiver; None: the receiver replies properly."""

type Choose = Callable[[bytes], bool]
"""Chooses requests by their body."""


def status(
    code: int, *, share: int = 1, headers: Mapping[str, str] | None = None, choose: Choose = lambda _: True
) -> Misbehave:
    """Reply with ``code`` to each ``share``-th of the requests that ``choose`` accepts, without accepting them."""
    seen = 0

    async def misbehave(_: web.Request, body: bytes, __: Take) -> web.StreamResponse | None:
        nonlocal seen
        seen += choose(body)
        if not choose(body) or seen % share:
            return None
        return web.Response(status=code, headers=headers)

    return misbehave


async def page(_: web.Request, __: bytes, ___: Take) -> web.StreamResponse:
    """Reply as a captive portal does: 200 and a page."""
    return web.Response(text="<!doctype html><html>Please accept our terms</html>", content_type="text/html")


async def script(_: web.Request, __: bytes, ___: Take) -> web.StreamResponse:
    """Reply as a captive portal does whose script has no HTML around it."""
    return web.Response(text="<script>location.href='http://10.0.0.1/login'</script>", content_type="text/html")


async def silent(request: web.Request, _: bytes, __: Take) -> web.StreamResponse:
    """Accept nothing and send no reply for as long as the client waits."""
    while request.transport is not None and not request.transport.is_closing():  # noqa: ASYNC110 - a transport has no event for it
        await asyncio.sleep(0.05)
    return web.Response()


async def truncated(request: web.Request, _: bytes, take: Take) -> web.StreamResponse:
    """Accept the request, then end in the middle of the reply's body."""
    await take()
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    with suppress(ClientConnectionResetError):  # the client has timed out
        await response.prepare(request)
        await response.write(b"{")
    _abort(request)
    return response


async def dripping(request: web.Request, _: bytes, take: Take) -> web.StreamResponse:
    """Accept the request, then send the reply slowly in small pieces."""
    reply = await take()
    response = web.StreamResponse(status=reply.status)
    response.content_type = "application/json"
    body = reply.body if isinstance(reply, web.Response) and isinstance(reply.body, bytes) else b""
    with suppress(ClientConnectionResetError):  # the client has timed out
        await response.prepare(request)
        for piece in (body[start : start + 40] for start in range(0, len(body), 40)):
            await response.write(piece)
            await asyncio.sleep(0.002)
    return response


async def cut(request: web.Request, _: bytes, take: Take) -> web.StreamResponse:
    """Accept the request, then end the connection: the confirmation is lost after the commit."""
    await take()
    _abort(request)
    return web.Response()


async def long_headers(_: web.Request, __: bytes, ___: Take) -> web.StreamResponse:
    """Reply with longer headers than HTTP clients accept."""
    return web.Response(headers={"X-Long": "x" * 9_000})


async def dense(_: web.Request, __: bytes, take: Take) -> web.StreamResponse:
    """Accept the request, and reply with a megabyte of tiny JSON values."""
    await take()
    return web.Response(body=b"[" + b"{}," * 340_000 + b"0]", content_type="application/json")


def token(text: str) -> Misbehave:
    """Accept a batch, and replace the receipt's token by ``text``."""

    async def misbehave(_: web.Request, __: bytes, take: Take) -> web.StreamResponse | None:
        reply = await take()
        body = reply.body if isinstance(reply, web.Response) and isinstance(reply.body, bytes) else b"{}"
        return web.Response(body=orjson.dumps({**orjson.loads(body), "token": text}), content_type="application/json")

    return misbehave


def item(step: int) -> Misbehave:
    """Reply to each poll with an item whose cursor is ``step`` beyond the requested one."""

    async def misbehave(request: web.Request, _: bytes, __: Take) -> web.StreamResponse:
        # A number above the contract's largest would be refused as malformed before its value is compared.
        cursor = min(int(request.query["after"]) + step, (1 << 63) - 1)
        found = {"id": f"item-{cursor}", "cursor": cursor, "alert": _NOBODYS, "by": "Eve", "age": 1.0}
        body = orjson.dumps({"items": [{**found, "answer": "yes"}]})
        return web.Response(body=body, content_type="application/json")

    return misbehave


async def empty(_: web.Request, __: bytes, ___: Take) -> web.StreamResponse:
    """Reply at once that the inbox is empty."""
    return web.json_response({"items": []})


async def nothing() -> web.StreamResponse:
    """Accept nothing; for use where the reply is never sent."""
    return web.Response()


def _abort(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()
