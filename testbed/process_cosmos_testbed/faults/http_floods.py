"""Floods an HTTPS port, in a process of its own so that measurements are not slowed down."""

import asyncio
import gzip
import ssl
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from itertools import cycle
from pathlib import Path

import orjson

from process_cosmos_gateway.contract.cloud import EPOCH_HEADER, TOKEN_HEADER
from process_cosmos_gateway.contract.events import BATCH_CONTENT_TYPE
from process_cosmos_testbed.processes import any_certificate

from .heavy_batches import BATCHES

HOST = "127.0.0.1"
ADDRESSES = tuple(f"127.0.0.{number}" for number in range(2, 32))
"""Source addresses, in turn: a single one would reach only the limit of an address, never the overall limit."""

HELD = 600
"""Connections that are held open at a time, 20 of each address; even half of them exceed a listener's limit."""

_BACKOFF = 0.02
_THROWN_OUT = 0.2
"""Seconds until a closed connection is opened again: continuous TLS handshakes would need a core of their own."""
_UNPACKED = 256 << 20
_REQUEST = 60_000
_PROMISED = 16_000
"""The announced length of a body that is sent a byte a second; within the allowed length."""
_PATIENCE = 60.0


@dataclass(slots=True)
class Flood:
    """The state shared by all workers of a flood."""

    port: int
    path: str
    tls: ssl.SSLContext
    strikes: Counter[str] = field(default_factory=Counter)
    addresses: Iterator[str] = field(default_factory=lambda: cycle(ADDRESSES))

    async def half_open(self) -> None:
        """Connect and send nothing until the connection is closed."""
        reader, writer = await self._open(tls=None)
        await _outlast(reader, writer)

    async def mute(self) -> None:
        """Complete the TLS handshake and send no request."""
        reader, writer = await self._open(tls=self.tls)
        await _outlast(reader, writer)

    async def slow(self) -> None:
        """Send a body a byte a second."""
        reader, writer = await self._open(tls=self.tls)
        writer.write(_head(f"POST {self.path}", _PROMISED))
        ended = asyncio.create_task(_outlast(reader, writer))
        while not ended.done():
            writer.write(b" ")
            await asyncio.sleep(1)

    async def packed(self) -> None:
        """Request the health with a body that decompresses to a thousand times its length."""
        await self.ask(_head("GET /health", len(_bomb()), "Content-Encoding: gzip\r\n") + _bomb(), self.tls)

    async def codeless(self) -> None:
        """Request a certificate with a code that was never issued."""
        body = b'{"secret":"no","site":"01K8J5Z0000000000000000001","csr":"' + b"x" * _REQUEST + b'"}'
        await self.ask(_head(f"POST {self.path}", len(body)) + body, self.tls)

    async def ask(self, request: bytes, tls: ssl.SSLContext | None) -> bytes:
        """Send a request on a connection of its own; return the body of the reply."""
        reader, writer = await self._open(tls)
        try:
            writer.write(request)
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
            self.strikes[head.split()[1].decode() if head else "none"] += 1
            return body
        finally:
            writer.transport.abort()

    async def _open(self, tls: ssl.SSLContext | None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        opened = await asyncio.open_connection(HOST, self.port, ssl=tls, local_addr=(next(self.addresses), 0))
        self.strikes["opened"] += 1
        return opened

    async def work(self, strike: Callable[[], Awaitable[None]]) -> None:
        """Repeat ``strike`` until cancelled."""
        while True:
            with suppress(OSError, EOFError, TimeoutError):
                async with asyncio.timeout(_PATIENCE):
                    await strike()
            await asyncio.sleep(_BACKOFF)


class HarmfulSite:
    """An enrolled site that sends batches of one kind, one after the other, as a gateway does."""

    def __init__(self, flood: Flood, kind: str, certificate: Path) -> None:
        """Use the certificate of the site that the file is named after."""
        self._flood = flood
        self._tls = any_certificate(certificate)
        self._batches = iter(BATCHES[kind](certificate.stem))
        # The same site floods in another way later, with another epoch, as if restored from a backup.
        self._epoch = f"{EPOCH_HEADER}: {kind}\r\n"
        self._token = ""

    async def send(self) -> None:
        """Send the next batch with the token of the previous reply."""
        body = next(self._batches)
        more = f"Content-Type: {BATCH_CONTENT_TYPE}\r\n{self._epoch}{self._token}"
        reply = await self._flood.ask(_head("POST /v1/events", len(body), more) + body, self._tls)
        if token := orjson.loads(reply).get("token"):
            self._token = f"{TOKEN_HEADER}: {token}\r\n"


KINDS: Mapping[str, tuple[Callable[[Flood], Callable[[], Awaitable[None]]], int]] = {
    "half open": (lambda flood: flood.half_open, HELD),
    "mute": (lambda flood: flood.mute, HELD // 2),
    "slow": (lambda flood: flood.slow, HELD // 2),
    "packed": (lambda flood: flood.packed, 4),
    "codeless": (lambda flood: flood.codeless, 4),
}
"""The floods without an identity: what each worker does, and the number of workers."""


async def _outlast(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        with suppress(OSError):
            while await reader.read(1 << 16):
                pass
    finally:
        writer.transport.abort()
    await asyncio.sleep(_THROWN_OUT)


def _head(request: str, length: int, more: str = "") -> bytes:
    return f"{request} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n{more}Content-Length: {length}\r\n\r\n".encode()


@cache
def _bomb() -> bytes:
    return gzip.compress(bytes(_UNPACKED), 1)


def flood(kind: str, port: int, seconds: float, path: str, certificates: Sequence[Path]) -> Counter[str]:
    """Flood a port for ``seconds``; return the counts.

    These are ``opened`` connections, and each status of a reply, ``none`` where the connection ended without one.
    ``path``: where bodies may be posted. ``certificates``, one for each worker of the kinds that need one: key and
    certificate of a site (PEM), in a file named after it.
    """
    return asyncio.run(_flood(kind, port, seconds, path, certificates))


async def _flood(kind: str, port: int, seconds: float, path: str, certificates: Sequence[Path]) -> Counter[str]:
    one = Flood(port, path, any_certificate())
    workers: list[Callable[[], Awaitable[None]]] = [HarmfulSite(one, kind, each).send for each in certificates]
    if kind in KINDS:
        strike_fn, number = KINDS[kind]
        workers = [strike_fn(one)] * number
    if kind == "packed":
        _bomb()  # compressed before the time of the flood begins
    tasks = [asyncio.create_task(one.work(each)) for each in workers]
    until = time.monotonic() + seconds
    # A flood of slow batches has taken effect only when the first one has its reply.
    while time.monotonic() < until or (kind in BATCHES and one.strikes.keys() <= {"opened"}):  # noqa: ASYNC110 - counts have no event
        await asyncio.sleep(0.1)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return one.strikes
