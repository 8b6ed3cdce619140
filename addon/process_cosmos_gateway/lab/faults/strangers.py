"""A stranger, or a harmful site, in a process of its own: ``python -m …lab.faults.strangers KIND PORT SECONDS``.

Prints how often it struck. ``--certificate FILE``: a site's key and certificate (PEM), for the kinds that need one.
"""

import argparse
import asyncio
import gzip
import ssl
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

HOST = "127.0.0.1"
HELD = 600
"""Connections that are held open at a time: more than a listener lets strangers have."""

_TIRED = 0.02
_BATCH = 8 << 20
_UNPACKED = 256 << 20
_REQUEST = 60_000
_PATIENCE = 60.0


@dataclass(slots=True)
class Flood:
    """What all workers of a kind share. ``strikes``: connections opened, or requests sent."""

    port: int
    tls: ssl.SSLContext
    strikes: int = 0

    async def half_open(self) -> None:
        """Connect, say nothing, until thrown out."""
        reader, writer = await asyncio.open_connection(HOST, self.port)
        self.strikes += 1
        await _outlast(reader, writer)

    async def mute(self) -> None:
        """Shake hands, ask for nothing."""
        reader, writer = await asyncio.open_connection(HOST, self.port, ssl=self.tls)
        self.strikes += 1
        await _outlast(reader, writer)

    async def slow(self) -> None:
        """Send a body a byte a second."""
        reader, writer = await asyncio.open_connection(HOST, self.port, ssl=self.tls)
        self.strikes += 1
        writer.write(_head("POST /v1/enroll", 60_000))
        ended = asyncio.create_task(_outlast(reader, writer))
        while not ended.done():
            writer.write(b" ")
            await asyncio.sleep(1)

    async def packed(self) -> None:
        """Ask for the health with a body that unpacks to a thousand times its length."""
        await self._ask(_head("GET /health", len(_bomb()), "Content-Encoding: gzip\r\n") + _bomb())

    async def codeless(self) -> None:
        """Ask for a certificate with a code that was never made."""
        body = b'{"secret":"no","site":"01K8J5Z0000000000000000001","csr":"' + b"x" * _REQUEST + b'"}'
        await self._ask(_head("POST /v1/enroll", len(body)) + body)

    async def tiny(self) -> None:
        """Send a batch of millions of tiny values."""
        body = b"[" + b"0," * (_BATCH // 2 - 2) + b"0]"
        content = "Content-Type: application/cloudevents-batch+json\r\n"
        await self._ask(_head("POST /v1/events", len(body), content) + body)

    async def _ask(self, request: bytes) -> None:
        reader, writer = await asyncio.open_connection(HOST, self.port, ssl=self.tls)
        try:
            writer.write(request)
            await reader.read(1 << 16)
            self.strikes += 1
        finally:
            writer.transport.abort()

    async def work(self, strike: Callable[[], Awaitable[None]]) -> None:
        """Strike again and again until cancelled."""
        while True:
            with suppress(OSError, EOFError, TimeoutError):
                async with asyncio.timeout(_PATIENCE):
                    await strike()
            await asyncio.sleep(_TIRED)


KINDS: Mapping[str, tuple[Callable[[Flood], Callable[[], Awaitable[None]]], int]] = {
    "half open": (lambda flood: flood.half_open, HELD),
    "mute": (lambda flood: flood.mute, HELD // 4),
    "slow": (lambda flood: flood.slow, HELD // 4),
    "packed": (lambda flood: flood.packed, 4),
    "codeless": (lambda flood: flood.codeless, 4),
    "tiny": (lambda flood: flood.tiny, 2),
}
"""How each kind strikes, and by how many workers."""


async def _outlast(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while await reader.read(1 << 16):
            pass
    writer.transport.abort()


def _head(request: str, length: int, more: str = "") -> bytes:
    return f"{request} HTTP/1.1\r\nHost: {HOST}\r\n{more}Content-Length: {length}\r\n\r\n".encode()


def _bomb(made: list[bytes] = []) -> bytes:  # noqa: B006 - made once
    if not made:
        made.append(gzip.compress(bytes(_UNPACKED), 1))
    return made[0]


def context(certificate: Path | None) -> ssl.SSLContext:
    """Return TLS of somebody who does not care whom he meets."""
    anybody = ssl.create_default_context()
    anybody.check_hostname = False
    anybody.verify_mode = ssl.CERT_NONE
    if certificate is not None:
        anybody.load_cert_chain(certificate)
    return anybody


async def flood(kind: str, port: int, seconds: float, certificate: Path | None) -> int:
    """Flood a port for so long; return how often it struck."""
    strike_fn, workers = KINDS[kind]
    one = Flood(port, context(certificate))
    if kind == "packed":
        _bomb()
    tasks = [asyncio.create_task(one.work(strike_fn(one))) for _ in range(workers)]
    until = time.monotonic() + seconds
    while time.monotonic() < until:  # noqa: ASYNC110 - time is what is waited for
        await asyncio.sleep(0.1)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return one.strikes


def main() -> None:
    """Flood, and print how often it struck."""
    parser = argparse.ArgumentParser("process_cosmos_gateway.lab.faults.strangers", description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("port", type=int)
    parser.add_argument("seconds", type=float)
    parser.add_argument("--certificate", type=Path)
    arguments = parser.parse_args()
    sys.stdout.write(str(asyncio.run(flood(arguments.kind, arguments.port, arguments.seconds, arguments.certificate))))


if __name__ == "__main__":
    main()
