"""The listener: unauthenticated connections take neither place nor time from authenticated ones."""

import asyncio
import errno
import logging
import os
import resource
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trustme
from aiohttp import ClientSession, ClientTimeout, web

from process_cosmos_gateway.listener import LISTENER, Listener, ListenerLimits

HOST = "127.0.0.1"
SOON = ClientTimeout(total=20)


@pytest.fixture
def tls() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(HOST).configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client


async def _health(_: web.Request) -> web.Response:
    return web.Response(text="ok")


async def _known(request: web.Request) -> web.StreamResponse:
    """Admit the caller, reply, and reply once more after another byte."""
    request.app[LISTENER].admit(request, request.headers.get("Peer", ""))
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"in\n")
    await request.content.readany()
    await response.write(b"still in\n")
    return response


async def _number(request: web.Request) -> web.Response:
    return web.Response(text=str(request.app[LISTENER].connection_number(request)))


async def _body(request: web.Request) -> web.Response:
    return web.Response(body=await request.read(), headers={"Seen": request.headers.get("Content-Encoding", "")})


@asynccontextmanager
async def listening(
    limits: ListenerLimits, context: ssl.SSLContext | None = None, closing_seconds: float = 0.1
) -> AsyncIterator[Listener]:
    application = web.Application()
    application.router.add_get("/health", _health)
    application.router.add_post("/known", _known)
    application.router.add_post("/body", _body)
    application.router.add_get("/number", _number)
    listener = application[LISTENER] = Listener(application, limits, closing_seconds=closing_seconds)
    async with listener.listen(HOST, 0, context):
        yield listener


async def connect(listener: Listener) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(HOST, listener.port)


async def closed(reader: asyncio.StreamReader) -> bool:
    """Wait until the peer has closed the connection; return True."""
    try:
        await asyncio.wait_for(reader.read(), 10)
    except ConnectionResetError:
        return True
    return True


async def health(listener: Listener, tls: ssl.SSLContext | None = None) -> str:
    scheme = "https" if tls else "http"
    async with (
        ClientSession(timeout=SOON) as http,
        http.get(f"{scheme}://{HOST}:{listener.port}/health", ssl=tls or True) as reply,
    ):
        return await reply.text()


@pytest.mark.parametrize("says", [b"", b"\x16\x03\x01", b"GET / HTTP/1.1\r\n"], ids=["nothing", "half", "no TLS"])
async def test_half_open_connections_do_not_block_requests(
    tls: tuple[ssl.SSLContext, ssl.SSLContext], says: bytes
) -> None:
    async with listening(ListenerLimits(unauthenticated=32, per_address=500), tls[0]) as listener:
        unauthenticated = [await connect(listener) for _ in range(300)]
        for _, writer in unauthenticated:
            writer.write(says)
        assert await health(listener, tls[1]) == "ok"
        assert sum(listener._rejected.values()) > 200
        for _, writer in unauthenticated:
            writer.close()


@pytest.mark.parametrize("says", [b"", b"GET /health HTTP/1.1\r\nHost: a\r\n", b"POST /body HTTP/1.1\r\nHost: a\r\n"])
async def test_an_unauthenticated_connection_without_a_complete_request_is_closed(says: bytes) -> None:
    async with listening(ListenerLimits(request=0.2)) as listener:
        reader, writer = await connect(listener)
        writer.write(says + (b"Content-Length: 9\r\n\r\nab" if says.startswith(b"POST") else b""))
        assert await closed(reader)
        writer.close()


async def test_a_handshake_has_a_time_limit(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    async with listening(ListenerLimits(handshake=0.2), tls[0]) as listener:
        reader, writer = await connect(listener)
        assert await closed(reader)
        writer.close()


async def test_an_admitted_connection_stays_and_does_not_count_as_unauthenticated() -> None:
    async with listening(ListenerLimits(unauthenticated=2, per_address=500, request=0.2)) as listener:
        reader, writer = await connect(listener)
        writer.write(b"POST /known HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n")
        assert b"in" in await reader.readuntil(b"in\n")
        mute = [await connect(listener) for _ in range(10)]
        assert all([await closed(other) for other, _ in mute])  # the last of them by its deadline
        writer.write(b"x")
        assert await reader.readuntil(b"still in\n")
        for _, each in [(reader, writer), *mute]:
            each.close()


async def test_one_address_is_limited_to_its_share(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        async with listening(ListenerLimits(unauthenticated=100, per_address=5)) as listener:
            mute = [await connect(listener) for _ in range(6)]
            assert await closed(mute[0][0])
            assert listener._rejected == {"address": 1}
            assert [len(listener._open_connections()), *(reader.at_eof() for reader, _ in mute)] == [
                5,
                True,
                *[False] * 5,
            ]
            for _, each in mute:
                each.close()
    assert [record.message.partition(":")[0] for record in caplog.records] == ["too_many_connections"]


async def test_a_new_connection_is_served_although_its_address_is_at_its_limit(
    tls: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    async with listening(ListenerLimits(unauthenticated=100, per_address=5), tls[0]) as listener:
        mute = [await connect(listener) for _ in range(5)]
        assert await health(listener, tls[1]) == "ok"
        for _, each in mute:
            each.close()


async def ask(peer: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Start a request as an authenticated peer and keep it running."""
    writer.write(f"POST /known HTTP/1.1\r\nHost: a\r\nPeer: {peer}\r\nContent-Length: 1\r\n\r\n".encode())
    await reader.readuntil(b"in\n")


async def end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Complete the running request."""
    writer.write(b"x")
    await reader.readuntil(b"0\r\n\r\n")


async def test_a_peer_over_its_limit_loses_the_connection_idle_longest() -> None:
    async with listening(ListenerLimits(per_peer=3)) as listener:
        [other, at_work, idle, reused, *more] = connections = [await connect(listener) for _ in range(6)]
        await ask("b", *other)
        await end(*other)
        await ask("a", *at_work)
        for each in (reused, idle):
            await ask("a", *each)
            await end(*each)
        await ask("a", *reused)
        await end(*reused)
        for lost, each in zip((idle, reused), more, strict=True):
            await ask("a", *each)
            assert await closed(lost[0])
        await end(*at_work)
        await ask("b", *other)
        for _, writer in connections:
            writer.close()


async def test_a_peer_over_its_limit_with_busy_connections_loses_the_oldest() -> None:
    async with listening(ListenerLimits(per_peer=2)) as listener:
        connections = [await connect(listener) for _ in range(3)]
        for each in connections:
            await ask("a", *each)
        assert await closed(connections[0][0])
        for each in connections[1:]:
            await end(*each)
        for _, writer in connections:
            writer.close()


async def test_a_compressed_body_is_not_decompressed() -> None:
    async with listening(ListenerLimits()) as listener, ClientSession(timeout=SOON) as http:
        headers = {"Content-Encoding": "gzip"}
        async with http.post(f"http://{HOST}:{listener.port}/body", data=b"\x1f\x8b no gzip", headers=headers) as reply:
            assert (await reply.read(), reply.headers["Seen"]) == (b"\x1f\x8b no gzip", "gzip")


async def test_a_connection_has_a_greater_number_than_those_accepted_before() -> None:
    async with listening(ListenerLimits()) as listener:
        connections = [await connect(listener) for _ in range(3)]
        numbers = []
        for reader, writer in (*connections, connections[0]):  # the first one again: its number stays
            writer.write(b"GET /number HTTP/1.1\r\nHost: x\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r")[0])
            numbers.append(int(await reader.readexactly(length)))
        assert 0 < numbers[0] < numbers[1] < numbers[2]
        assert numbers[3] == numbers[0]
        for _, writer in connections:
            writer.close()


async def test_a_stop_closes_unauthenticated_connections() -> None:
    async with listening(ListenerLimits()) as listener:
        reader, writer = await connect(listener)
        await health(listener)
    assert await closed(reader)
    writer.close()


@pytest.mark.parametrize("number", [errno.EACCES, errno.ECONNABORTED], ids=["denied", "reset"])
async def test_a_failing_accept_does_not_block_other_tasks(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    loop, left = asyncio.get_running_loop(), 1000
    accept = loop.sock_accept

    async def failing(listening: socket.socket) -> tuple[socket.socket, object]:
        nonlocal left
        if not left:
            return await accept(listening)
        left -= 1
        raise OSError(number, "no")

    monkeypatch.setattr(loop, "sock_accept", failing)
    async with listening(ListenerLimits()) as listener:
        for _ in range(10):
            await asyncio.sleep(0)
        assert left >= 990
        left = min(left, 10 if number == errno.ECONNABORTED else 1)
        assert await health(listener) == "ok"
    assert ("EACCES" in caplog.text) is (number == errno.EACCES)


WITHOUT_DESCRIPTORS = """
import asyncio, os, resource, sys
from aiohttp import web
from process_cosmos_gateway.listener import Listener, ListenerLimits

async def main():
    application = web.Application()
    listener = Listener(application, ListenerLimits(unauthenticated=10_000, per_address=10_000, reserved=0))
    async with listener.listen("127.0.0.1", 0, None):
        listener._max_connections = 10_000  # without the limit
        print(listener.port, flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        print(listener._rejected["descriptors"], flush=True)
asyncio.run(main())
"""


async def test_without_descriptors_it_closes_connections_and_logs_once() -> None:
    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))

    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        WITHOUT_DESCRIPTORS,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=few,
        env={**os.environ},
    )
    assert process.stdin
    assert process.stdout
    port = int(await process.stdout.readline())
    mute = [await asyncio.open_connection(HOST, port) for _ in range(100)]
    async with ClientSession(timeout=SOON) as http, http.get(f"http://{HOST}:{port}/nothing") as reply:
        assert reply.status == 404
    out, err = await process.communicate(b"\n")
    assert int(out) > 0
    assert err.count(b"\n") < 20
    for _, writer in mute:
        writer.close()
