"""The fault proxy: each fault does what it says, and is counted."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from process_cosmos_testbed.proxy import FaultProxy
from tests.support.waiting import until


@pytest.fixture
async def proxy() -> AsyncIterator[FaultProxy]:
    """A proxy before a server that gives back what it gets."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(1000):
            writer.write(piece)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with FaultProxy("127.0.0.1", server.sockets[0].getsockname()[1]) as running:
        yield running
    server.close()


class Caller:
    """One connection to the proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    async def receive(self, length: int) -> bytes:
        async with asyncio.timeout(30):
            return await self._reader.readexactly(length)

    async def hears_nothing(self, seconds: float = 0.1) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._reader.readexactly(1)
        except TimeoutError:
            return True
        return False

    async def is_reset(self) -> bool:
        try:
            async with asyncio.timeout(30):
                await self._reader.read()
        except ConnectionResetError:
            return True
        return False


@asynccontextmanager
async def call(proxy: FaultProxy) -> AsyncIterator[Caller]:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        yield Caller(reader, writer)
    finally:
        writer.close()


async def test_without_a_fault_all_is_passed_on(proxy: FaultProxy) -> None:
    async with call(proxy) as caller:
        caller.send(b"hello")
        assert await caller.receive(5) == b"hello"
    assert (proxy.counts.connections, proxy.counts.bytes_up, proxy.counts.bytes_down) == (1, 5, 5)


async def test_latency_delays_each_way_and_keeps_the_order(proxy: FaultProxy) -> None:
    proxy.latency(0.1, 0.05)
    loop = asyncio.get_running_loop()
    async with call(proxy) as caller:
        began = loop.time()
        for number in range(10):
            caller.send(bytes((number,)))
            await asyncio.sleep(0)
        assert await caller.receive(10) == bytes(range(10))
        # Pieces travel one behind the other, not one after the other.
        assert 0.1 <= loop.time() - began < 0.8
    assert proxy.counts.delayed >= 2


async def test_stall_keeps_what_comes_and_healing_hands_it_over(proxy: FaultProxy) -> None:
    async with call(proxy) as caller:
        caller.send(b"a")
        await caller.receive(1)
        proxy.stall()
        caller.send(b"bc")
        assert await caller.hears_nothing()
        proxy.heal()
        assert await caller.receive(2) == b"bc"
    assert proxy.counts.stalled > 0
    assert proxy.counts.swallowed == 0


async def test_a_black_hole_swallows_both_ways_and_resets_when_healed(proxy: FaultProxy) -> None:
    async with call(proxy) as before:
        before.send(b"a")
        await before.receive(1)
        proxy.blackhole()
        async with call(proxy) as inside:
            before.send(b"lost")
            inside.send(b"lost too")
            assert await before.hears_nothing()
            assert await inside.hears_nothing()
            await until(lambda: proxy.counts.swallowed_bytes == 12)
            proxy.heal()
            assert await before.is_reset()
            assert await inside.is_reset()
    async with call(proxy) as after:
        after.send(b"b")
        assert await after.receive(1) == b"b"
    assert proxy.counts.resets == 2


async def test_replies_are_swallowed_while_requests_arrive(proxy: FaultProxy) -> None:
    async with call(proxy) as caller:
        proxy.swallow_replies()
        caller.send(b"request")
        assert await caller.hears_nothing()
        await until(lambda: proxy.counts.swallowed_bytes == 7)
        assert proxy.counts.bytes_up == 7
        proxy.heal()
        assert await caller.is_reset()


async def test_refused_connections_are_reset_old_and_new(proxy: FaultProxy) -> None:
    async with call(proxy) as before:
        before.send(b"a")
        await before.receive(1)
        proxy.refuse()
        assert await before.is_reset()
        async with call(proxy) as new:
            assert await new.is_reset()
    assert (proxy.counts.resets, proxy.counts.refused) == (1, 1)


async def test_a_reset_ends_what_is_there_and_nothing_else(proxy: FaultProxy) -> None:
    async with call(proxy) as before:
        before.send(b"a")
        await before.receive(1)
        proxy.reset()
        assert await before.is_reset()
    async with call(proxy) as after:
        after.send(b"b")
        assert await after.receive(1) == b"b"


async def test_a_far_side_that_is_away_ends_the_connection() -> None:
    async with FaultProxy("127.0.0.1", 1) as proxy, call(proxy) as caller:
        with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
            await caller.receive(1)


async def test_a_narrow_line_passes_so_many_bits_a_second(proxy: FaultProxy) -> None:
    loop = asyncio.get_running_loop()
    async with call(proxy) as caller:
        proxy.bandwidth(80_000)
        begun = loop.time()
        caller.send(b"x" * 1000)
        await caller.receive(1000)
    assert loop.time() - begun >= 0.2  # 8,000 bits, up and down
    assert proxy.counts.throttled >= 2


async def test_healing_hands_over_at_once_what_a_narrow_line_held_up(proxy: FaultProxy) -> None:
    async with call(proxy) as caller:
        proxy.bandwidth(8)
        caller.send(b"an hour")
        assert await caller.hears_nothing()
        proxy.heal()
        assert await caller.receive(7) == b"an hour"


async def test_lost_packets_come_late_and_come(proxy: FaultProxy) -> None:
    async with call(proxy) as caller:
        proxy.loss(1.0)
        caller.send(b"late")
        assert await caller.receive(4) == b"late"
    assert proxy.counts.lost_packets == 2


async def test_a_lost_packet_may_end_its_connection() -> None:
    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(swallow, "127.0.0.1", 0)
    async with FaultProxy("127.0.0.1", server.sockets[0].getsockname()[1]) as proxy, call(proxy) as caller:
        proxy.loss(1.0)
        caller.send(b"x" * 1_000_000)
        assert await caller.is_reset()
    server.close()
    assert proxy.counts.resets == 1


async def test_a_half_open_connection_leads_nowhere_and_a_new_one_works(proxy: FaultProxy) -> None:
    async with call(proxy) as old:
        old.send(b"1")
        await old.receive(1)
        proxy.half_open()
        old.send(b"2")
        assert await old.hears_nothing()
        async with call(proxy) as new:
            new.send(b"3")
            assert await new.receive(1) == b"3"
        proxy.heal()
        assert await old.is_reset()
    assert proxy.counts.swallowed == 1
