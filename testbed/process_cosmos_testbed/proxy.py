"""A TCP proxy that injects faults and counts them.

It listens on one address and forwards each connection to another. The faults:

``latency(seconds, jitter)``  each piece is forwarded later, in order, in both directions
``loss(share)``               packets are lost, as TCP shows it: a stall for each, occasionally a reset
``bandwidth(bits)``           limits the bits per second of all connections and directions together
``half_open()``               existing connections lead nowhere without notice; new ones work
``stall()``                   everything is held back until healed, nothing is lost
``blackhole()``               connections stay open, new ones are accepted, and every byte is discarded
``swallow_replies()``         requests arrive, replies are discarded (which makes clients repeat requests)
``refuse()``                  connections are reset, also new ones
``reset()``                   connections are reset now; new ones work
``heal()``                    everything is forwarded again; connections that lost bytes are reset

``counts`` proves that a fault took effect. All methods are called from the event loop of the proxy; ``control.py``
offers them to other processes.
"""

import asyncio
import contextlib
import random
import socket
import struct
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self

_PIECE = 1 << 16
_PIECES = 256
_PACKET = 1400
"""Bytes of a packet, the unit of loss."""
_RETRANSMISSION = 0.2
"""Seconds TCP waits for an acknowledgement before it sends a lost packet again."""
_ROUNDS = 3
"""Retransmissions after which all lost packets of one piece have arrived."""
_RESETS = 0.01
"""The share of lost packets that end their connection."""
# A linger time of 0 makes the kernel send RST instead of FIN when the socket is closed.
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Fault(StrEnum):
    """What the proxy does to connections; latency comes on top."""

    NONE = "none"
    STALL = "stall"
    BLACKHOLE = "blackhole"
    SWALLOW_REPLIES = "swallow_replies"
    REFUSE = "refuse"


@dataclass(slots=True, kw_only=True)
class Counts:
    """What the proxy did since its start."""

    connections: int = 0
    refused: int = 0
    resets: int = 0
    delayed: int = 0
    lost_packets: int = 0
    throttled: int = 0
    stalled: int = 0
    swallowed: int = 0
    swallowed_bytes: int = 0
    bytes_up: int = 0
    bytes_down: int = 0


@dataclass(eq=False, slots=True)
class _Pair:
    """One connection through the proxy: the client's side, and the far side once it is connected."""

    client: asyncio.StreamWriter
    task: asyncio.Task[object]
    far: asyncio.StreamWriter | None = None
    lost_bytes: bool = False
    half_open: bool = False

    def reset(self) -> None:
        for writer in (self.client, self.far):
            if writer is not None and not writer.is_closing():
                sock = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
                writer.transport.abort()
        self.task.cancel()


@dataclass(eq=False)
class FaultProxy:
    """Forwards TCP connections from ``port`` of 127.0.0.1 (0: any free one), and injects faults on command."""

    far_host: str
    far_port: int
    port: int = 0
    fault: Fault = Fault.NONE
    counts: Counts = field(default_factory=Counts)

    def __post_init__(self) -> None:
        """Begin without faults."""
        self._pairs: set[_Pair] = set()
        self._random = random.Random(0)  # noqa: S311 - a seed makes a run repeatable
        self._seconds = self._jitter = self._loss = 0.0
        self._bits: float | None = None
        self._free_at = 0.0
        self._changed = asyncio.Event()
        self._healed = asyncio.Event()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        """Start to listen; ``port`` is known afterwards."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Reset all connections, and stop listening."""
        if self._server is not None:
            self._server.close()
        tasks = [pair.task for pair in self._pairs]
        for pair in tuple(self._pairs):
            pair.reset()
        await asyncio.gather(*tasks, return_exceptions=True)

    def seed(self, seed: str) -> None:
        """Seed the random choices."""
        self._random.seed(seed)

    def latency(self, seconds: float, jitter: float = 0.0) -> None:
        """Forward each piece after ``seconds`` ± ``jitter``."""
        self._seconds, self._jitter = seconds, jitter

    def loss(self, share: float) -> None:
        """Lose ``share`` (0 to 1) of the packets."""
        self._loss = share

    def bandwidth(self, bits: float | None) -> None:
        """Forward ``bits`` a second; None: without a limit."""
        self._bits = bits

    def half_open(self) -> None:
        """Discard everything on the existing connections."""
        for pair in self._pairs:
            pair.half_open = True

    def stall(self) -> None:
        """Hold everything back without losing it."""
        self._set(Fault.STALL)

    def blackhole(self) -> None:
        """Discard every byte in both directions."""
        self._set(Fault.BLACKHOLE)

    def swallow_replies(self) -> None:
        """Forward requests and discard replies."""
        self._set(Fault.SWALLOW_REPLIES)

    def redirect(self, far_port: int) -> None:
        """Lead to another port of the far side from now on."""
        self.far_port = far_port
        self.reset()

    def refuse(self) -> None:
        """Reset all connections, also new ones."""
        self._set(Fault.REFUSE)
        self.reset()

    def reset(self) -> None:
        """Reset all connections now (RST)."""
        for pair in tuple(self._pairs):
            self._reset(pair)

    def heal(self) -> None:
        """End all faults, latency, loss and bandwidth limits; reset connections that lost bytes."""
        self._seconds = self._jitter = self._loss = 0.0
        self._bits = None
        self._free_at = 0.0
        self._healed.set()
        self._healed = asyncio.Event()
        for pair in tuple(self._pairs):
            # TCP never delivers what follows a gap: a peer would read on in the middle of a message.
            if pair.lost_bytes or pair.half_open:
                self._reset(pair)
        self._set(Fault.NONE)

    def _set(self, fault: Fault) -> None:
        self.fault = fault
        self._changed.set()
        self._changed = asyncio.Event()

    def _reset(self, pair: _Pair) -> None:
        self.counts.resets += 1
        self._pairs.discard(pair)
        pair.reset()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - start_server runs this as a task
        pair = _Pair(writer, task)
        self._pairs.add(pair)
        self.counts.connections += 1
        try:
            await self._pass_on(pair, reader)
        except asyncio.CancelledError, OSError:
            pass  # reset by the proxy, or the far side is down: the client's connection ends
        finally:
            self._pairs.discard(pair)
            for side in (pair.client, pair.far):
                if side is not None:
                    side.close()

    async def _pass_on(self, pair: _Pair, reader: asyncio.StreamReader) -> None:
        if self.fault is Fault.REFUSE:
            self.counts.refused += 1
            pair.reset()
            return
        while self.fault is Fault.BLACKHOLE:
            await self._lose_until_changed(pair, reader)
        far_reader, pair.far = await asyncio.open_connection(self.far_host, self.far_port)
        async with asyncio.TaskGroup() as group:
            ways = (
                *self._way(group, pair, reader, pair.far, up=True),
                *self._way(group, pair, far_reader, pair.client, up=False),
            )
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for task in ways:
                task.cancel()

    async def _lose_until_changed(self, pair: _Pair, reader: asyncio.StreamReader) -> None:
        """Discard what a connection made in a black hole sends; it is reset by ``heal``."""
        while piece := await reader.read(_PIECE):
            self._swallow(pair, piece)
        raise ConnectionResetError

    def _way(
        self,
        group: asyncio.TaskGroup,
        pair: _Pair,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        up: bool,
    ) -> tuple[asyncio.Task[None], asyncio.Task[None]]:
        pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_PIECES)
        return (
            group.create_task(self._read(reader, pieces)),
            group.create_task(self._write(pair, pieces, writer, up=up)),
        )

    async def _read(self, reader: asyncio.StreamReader, pieces: asyncio.Queue[tuple[float, bytes]]) -> None:
        """Queue each piece with the time it is due, also the empty one at the end. Ends only when cancelled."""
        loop = asyncio.get_running_loop()
        piece = b"."
        while piece:
            try:
                piece = await reader.read(_PIECE)
            except OSError:
                piece = b""
            await pieces.put((loop.time() + self._delay(), piece))
        # The first task that ends cancels the others: pieces that are still delayed must be written before.
        await loop.create_future()

    async def _write(
        self, pair: _Pair, pieces: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter, *, up: bool
    ) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due, piece = await pieces.get()
            if (wait := due - loop.time()) > 0:
                await asyncio.sleep(wait)
            while self.fault is Fault.STALL or (self.fault is Fault.BLACKHOLE and not piece):
                self.counts.stalled += 1
                await self._changed.wait()
            if not piece:
                return
            if pair.half_open or self.fault is Fault.BLACKHOLE or (self.fault is Fault.SWALLOW_REPLIES and not up):
                self._swallow(pair, piece)
                continue
            await self._squeeze(pair, piece)
            await self._hand_over(writer, piece, up=up)

    async def _squeeze(self, pair: _Pair, piece: bytes) -> None:
        """Wait as long as lost packets and limited bandwidth delay ``piece``."""
        packets = -(-len(piece) // _PACKET)
        lost = sum(self._random.random() < self._loss for _ in range(packets)) if self._loss else 0
        self.counts.lost_packets += lost
        if any(self._random.random() < _RESETS for _ in range(lost)):
            self._reset(pair)
        wait = min(lost, _ROUNDS) * _RETRANSMISSION
        if self._bits is not None:
            self.counts.throttled += 1
            now = asyncio.get_running_loop().time()
            self._free_at = max(now, self._free_at) + len(piece) * 8 / self._bits
            wait += self._free_at - now
        if wait:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._healed.wait(), wait)

    async def _hand_over(self, writer: asyncio.StreamWriter, piece: bytes, *, up: bool) -> None:
        with contextlib.suppress(OSError):  # the reader of that side notices its end
            writer.write(piece)
            await writer.drain()
        if up:
            self.counts.bytes_up += len(piece)
        else:
            self.counts.bytes_down += len(piece)

    def _delay(self) -> float:
        if not self._seconds and not self._jitter:
            return 0.0
        self.counts.delayed += 1
        return max(0.0, self._seconds + self._random.uniform(-self._jitter, self._jitter))

    def _swallow(self, pair: _Pair, piece: bytes) -> None:
        pair.lost_bytes = True
        self.counts.swallowed += 1
        self.counts.swallowed_bytes += len(piece)
