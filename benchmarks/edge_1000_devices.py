"""``edge_1000_devices``: a thousand devices of five numbers each, beside Home Assistant's own MQTT.

Both sides are set up by messages on the broker, ours by Thing Descriptions, Home Assistant's by its discovery. They
report in many short blocks, A B B A: a virtual machine may become twice as slow within a minute, and of long blocks
one side would get most of the slow time.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from statistics import median
from typing import override

import orjson

from process_cosmos_gateway.devices.mqtt.connection import Connection
from process_cosmos_gateway.options import BrokerOptions
from process_cosmos_testbed.broker import running_broker
from process_cosmos_testbed.home_assistant.client import HomeAssistantClient
from process_cosmos_testbed.processes import run_in_process, until
from process_cosmos_testbed.services import ControlledGateway
from process_cosmos_testbed.virtual_devices.device import Json, VirtualDevice

from .bench import Bench, Benchmark
from .edge import times_peer
from .edge_site import OURS, PEER, both_integrations
from .figures import Outcome
from .stand import broker_options, cpu_seconds

_NAMES = ("voltage", "current", "power", "energy", "frequency")
_PER_SECOND = 500
_WARM_SECONDS = 5
_BLOCKS = 4
"""Blocks of each side."""
_SETUP_WITHIN = 600.0
_UNACKNOWLEDGED = 100
_LATE_SECONDS = 1.0

type Published = tuple[str, bytes]
"""A topic and a payload."""


class Meter(VirtualDevice):
    """A device with five numbers; it only describes itself, because a thousand connections would measure the broker."""

    @override
    def properties(self) -> Mapping[str, Json]:
        return {name: {"title": name, "type": "number", "unit": "V", "readOnly": True} for name in _NAMES}


def ours(broker: BrokerOptions, devices: int) -> Iterator[Published]:
    """Yield the Thing Descriptions of ``devices`` meters, and that they are online."""
    for number in range(devices):
        meter = Meter(broker, f"meter-{number}")
        yield f"{meter.topic}/td", orjson.dumps(meter.description())
        yield f"{meter.topic}/availability", b"online"


def peers(_: BrokerOptions, devices: int) -> Iterator[Published]:
    """Yield the discovery messages of the same meters, and that they are online."""
    for number in range(devices):
        base = f"{PEER}/meter-{number}"
        components = {
            name: {
                "platform": "sensor",
                "name": name,
                "unique_id": f"{PEER}-{number}-{name}",
                "state_topic": f"{base}/properties/{name}",
                "unit_of_measurement": "V",
                "state_class": "measurement",
            }
            for name in _NAMES
        }
        config = {
            "device": {"identifiers": [f"{PEER}-{number}"], "name": f"{PEER} meter {number}"},
            "origin": {"name": "testbed"},
            "components": components,
            "availability": [{"topic": f"{base}/availability"}],
            "qos": 1,
        }
        yield f"homeassistant/device/{PEER}-{number}/config", orjson.dumps(config)
        yield f"{base}/availability", b"online"


async def run(bench: Bench) -> Outcome:
    """Set up both sides, then send 500 numbers a second to each of them in turns."""
    devices, seconds = bench.size(1_000, 20), bench.size(20, 5)
    folder = bench.folder("edge_1000_devices")
    cpu: dict[str, list[float]] = {OURS: [], PEER: []}
    setup: dict[str, float] = {}
    async with running_broker(folder) as broker:
        gateway = ControlledGateway(folder, options=broker_options(broker))
        async with both_integrations(folder, broker, gateway) as (home, client, _):
            for base, described in ((OURS, ours), (PEER, peers)):
                setup[base] = await _set_up(broker.options, client, described, devices)
            for block in range(_BLOCKS):
                for base in (OURS, PEER) if block % 2 == 0 else (PEER, OURS):
                    work = partial(produce, broker.options, base, devices, seconds + 2 * _WARM_SECONDS)
                    async with asyncio.TaskGroup() as tasks:
                        load = tasks.create_task(run_in_process(work, seconds + 60))
                        await asyncio.sleep(_WARM_SECONDS)
                        used = cpu_seconds(home.pid)
                        await asyncio.sleep(seconds)
                        cpu[base].append(1000 * (cpu_seconds(home.pid) - used) / (seconds * _PER_SECOND))
                        await load
    figures = {base: {"setup_s": setup[base], "cpu_s_per_1000": median(cpu[base])} for base in cpu}
    return Outcome(figures=figures[OURS], peers={"mqtt": figures[PEER]})


async def _set_up(
    options: BrokerOptions,
    client: HomeAssistantClient,
    described: Callable[[BrokerOptions, int], Iterator[Published]],
    devices: int,
) -> float:
    """Publish what describes the devices; return the seconds until Home Assistant has all their entities."""

    async def sensors() -> int:
        reply = await client.command("config/entity_registry/list")
        return sum(one["entity_id"].startswith("sensor.") for one in reply)

    begun, before = time.monotonic(), await sensors()

    async def complete() -> bool:
        return await sensors() >= before + devices * len(_NAMES)

    async with _publisher(options, "setup") as publish:
        for topic, payload in described(options, devices):
            await publish(topic, payload)
        await until(complete, "all entities", _SETUP_WITHIN, every=1)
    return time.monotonic() - begun


def produce(options: BrokerOptions, base: str, devices: int, seconds: float) -> None:
    """Report 500 numbers a second below ``base`` for ``seconds``; run in a process of its own.

    Raises ``TimeoutError`` if it was late at the end: then fewer messages arrived than are counted.
    """

    async def work() -> None:
        topics = [f"{base}/meter-{number}/properties/{name}" for number in range(devices) for name in _NAMES]
        begun = time.monotonic()
        async with _publisher(options, "load") as publish:
            for place in range(int(seconds * _PER_SECOND)):
                await asyncio.sleep(begun + place / _PER_SECOND - time.monotonic())
                await publish(topics[place % len(topics)], orjson.dumps(place / 10))
        if time.monotonic() > begun + seconds + _LATE_SECONDS:
            raise TimeoutError("the load was not published in time")

    asyncio.run(work())


@asynccontextmanager
async def _publisher(options: BrokerOptions, name: str) -> AsyncIterator[Callable[[str, bytes], Awaitable[None]]]:
    """Connect; yield a function that publishes, and waits only while a hundred publications are unacknowledged."""
    connection = await Connection.open(options, client_id=f"bench-{name}", on_message=lambda *_: None)
    free = asyncio.Semaphore(_UNACKNOWLEDGED)

    async def publish(topic: str, payload: bytes) -> None:
        await free.acquire()
        if not connection.alive:
            raise ConnectionError("the broker has closed the connection")
        connection.send(topic, payload, retain=True).add_done_callback(lambda _: free.release())

    try:
        yield publish
        for _ in range(_UNACKNOWLEDGED):
            await free.acquire()
    finally:
        connection.close()


BENCHMARK = Benchmark(name="edge_1000_devices", run=run, goals=(times_peer("cpu_s_per_1000", 1.0),))
