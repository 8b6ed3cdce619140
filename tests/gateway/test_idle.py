"""A gateway with nothing to do waits for events and deadlines; it does not look whether something has happened."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from selectors import DefaultSelector, SelectorKey
from typing import override

from aiohttp import ClientSession

from process_cosmos_gateway.api.pairing import Pairing, offer_pairing
from process_cosmos_gateway.components import Machine, build, open_store
from process_cosmos_gateway.contract.alerts import CaughtUp
from process_cosmos_gateway.contract.devices import Subscribe
from process_cosmos_gateway.contract.durations import HEARTBEAT_EVERY
from process_cosmos_gateway.contract.pairing import PairingRequest
from process_cosmos_gateway.contract.session import Heartbeat
from process_cosmos_gateway.options import Options
from process_cosmos_testbed.shiftable_clock import ShiftableClock, SkippingLoop

from .api.link import RUN, Link, hello

MINUTES = 10
GRACE = 0.01
"""Real seconds in which a database thread or the other end of a socket may answer before time is skipped."""


class SkippingSelector(DefaultSelector):
    """Skips the time until the next timer when no file is ready, and counts how often a timer was waited for."""

    loop: SkippingLoop
    timers = 0

    @override
    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        if not (ready := super().select(GRACE)):
            self.timers += 1
            self.loop.skip(timeout)
        return ready


def test_an_idle_gateway_with_home_assistant_waits_for_less_than_a_timer_a_second(
    tmp_path: Path, unused_tcp_port: int
) -> None:
    selector = SkippingSelector()
    selector.loop = SkippingLoop(selector)
    with asyncio.Runner(loop_factory=lambda: selector.loop) as runner:
        timers = runner.run(count_timers(selector, tmp_path, unused_tcp_port))
    assert 0 < timers < 60 * MINUTES


async def count_timers(selector: SkippingSelector, data: Path, port: int) -> int:
    async with idle_gateway(Machine(clock=ShiftableClock(selector.loop)), data, port) as (token, tasks):
        http = ClientSession(f"http://127.0.0.1:{port}", headers={"Authorization": f"Bearer {token}"})
        async with http, http.ws_connect("/ws") as socket:
            link = Link(socket)
            await link.send(hello(), CaughtUp(), Subscribe(id="1", run=RUN))
            tasks.create_task(send_heartbeats(link))
            reader = tasks.create_task(read_until_closed(link))
            await asyncio.sleep(60)
            before = selector.timers
            await asyncio.sleep(60 * MINUTES)
            counted = selector.timers - before
            assert not reader.done(), "the session ended"
    return counted


@asynccontextmanager
async def idle_gateway(machine: Machine, data: Path, port: int) -> AsyncIterator[tuple[str, asyncio.TaskGroup]]:
    """Run all components without a broker; give the token of a pairing, and a group whose tasks end with them."""
    options = Options(data=data, host="127.0.0.1", port=port)
    offered = PairingRequest(secret=offer_pairing(data, machine.clock), instance="home")
    token = await Pairing(data, machine.clock, supervised=True).pair(offered)
    store = await open_store(options, machine)
    try:
        built = await build(store, options, machine, None, supervised=True)
        async with built.server.listen(options.host, port, None), asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(each.run()) for each in (store, built.alerts, built.destinations)]
            running += [tasks.create_task(each.run()) for each in (built.devices, built.admission)]
            yield token, tasks
            for task in running:
                task.cancel()
    finally:
        await store.close()


async def send_heartbeats(link: Link) -> None:
    while not link.socket.closed:
        await link.send(Heartbeat())
        await asyncio.sleep(HEARTBEAT_EVERY)


async def read_until_closed(link: Link) -> None:
    async for _ in link.socket:
        pass
