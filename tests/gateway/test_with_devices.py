"""The whole gateway with a real broker and devices: MQTT messages reach Home Assistant, even across a crash."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from process_cosmos_gateway.contract.alerts import CaughtUp
from process_cosmos_gateway.contract.destinations import Status
from process_cosmos_gateway.contract.devices import (
    DeviceChanged,
    EventHappened,
    Snapshot,
    Subscribe,
    ValueChanged,
    WriteProperty,
)
from process_cosmos_gateway.contract.messages import FromGateway
from process_cosmos_gateway.contract.session import Result
from process_cosmos_testbed.broker import Broker
from process_cosmos_testbed.virtual_devices.kinds import LEAK, OPEN, LeakSensor, TemperatureSensor, Valve

from .api.link import RUN, Link
from .gateway_process import GatewayProcess, gateway_process
from .store.parts import opened


@pytest.fixture
async def gateway(broker: Broker, tmp_path: Path, unused_tcp_port: int) -> AsyncIterator[GatewayProcess]:
    async with gateway_process(tmp_path, unused_tcp_port, mqtt(broker)) as running:
        yield running


def mqtt(broker: Broker) -> str:
    return f'mqtt_host = "127.0.0.1"\nmqtt_port = {broker.options.port}\n'


async def until(link: Link, fits: Callable[[FromGateway], bool]) -> list[FromGateway]:
    """Return the messages up to the first that fits."""
    seen = [await link.next()]
    while not fits(seen[-1]):
        seen.append(await link.next())
    return seen


def key_of(message: FromGateway) -> str | None:
    """Return the key shared by a redelivered message and its first copy, by which the integration drops repeats."""
    return getattr(message, "key", None)


def values_of(seen: list[FromGateway]) -> list[object]:
    return [message.value for message in seen if isinstance(message, ValueChanged) and message.property == LEAK]


def is_wet(message: FromGateway) -> bool:
    return isinstance(message, ValueChanged) and message.property == LEAK and message.value is True


def is_described(message: FromGateway) -> bool:
    devices = message.devices if isinstance(message, Snapshot) else ()
    return bool(devices) or isinstance(message, DeviceChanged)


async def test_a_device_is_described_and_its_wet_sensor_is_reported_at_once(
    gateway: GatewayProcess, broker: Broker
) -> None:
    async with gateway.session() as (link, _), LeakSensor(broker.options, "leak-kitchen") as sensor:
        await link.send(CaughtUp(), Subscribe(id="1", run=RUN))
        await until(link, is_described)
        await sensor.set(True)
        wet = (await until(link, is_wet))[-1]
        assert isinstance(wet, ValueChanged)
        assert wet.age < 1


async def test_a_write_reaches_the_valve_and_is_answered(gateway: GatewayProcess, broker: Broker) -> None:
    async with gateway.session() as (link, _), Valve(broker.options, "valve-main") as valve:
        await link.send(CaughtUp(), Subscribe(id="1", run=RUN))
        changed = (await until(link, is_described))[-1]
        device = changed.devices[0] if isinstance(changed, Snapshot) else getattr(changed, "device", None)
        assert device
        await until(link, lambda message: isinstance(message, ValueChanged) or isinstance(changed, Snapshot))
        await link.send(WriteProperty(id="2", device=device.id, property=OPEN, value=False))
        await until(link, lambda message: message == Result(id="2"))
        await valve.until(lambda: valve.commands)
        assert valve.commands[0].value is False


async def test_changes_while_the_gateway_was_down_reach_the_same_run(gateway: GatewayProcess, broker: Broker) -> None:
    async with LeakSensor(broker.options, "leak-kitchen") as sensor:
        async with gateway.session() as (link, _):
            await link.send(CaughtUp(), Subscribe(id="1", run=RUN))
            await until(link, is_described)
            await sensor.set(True)
            received = await until(link, lambda message: isinstance(message, EventHappened))
        await gateway.kill()
        await sensor.set(False)
        await sensor.set(True)
        await gateway.start()
        last = max(getattr(message, "sequence", 0) for message in received)
        known = {key_of(message) for message in received}
        async with gateway.session() as (link, _):
            await link.send(CaughtUp(), Subscribe(id="1", run=RUN, after=last))
            seen = await until(
                link, lambda message: isinstance(message, EventHappened) and key_of(message) not in known
            )
    assert values_of([message for message in seen if key_of(message) not in known]) == [False, True]


async def test_a_stop_writes_the_readings_that_were_acknowledged_and_not_yet_on_disk(
    broker: Broker, tmp_path: Path, unused_tcp_port: int
) -> None:
    options = mqtt(broker) + "reading_linger = 60\n"
    async with (
        gateway_process(tmp_path, unused_tcp_port, options) as gateway,
        TemperatureSensor(broker.options, "cellar") as sensor,
    ):
        async with gateway.session() as (link, _):
            await link.send(CaughtUp(), Subscribe(id="1", run=RUN))
            await until(link, is_described)
            for degrees in range(1, 31):
                await sensor.set(float(degrees))
            await until(link, lambda message: isinstance(message, ValueChanged) and message.value == 30.0)
        await gateway.stop()
        async with opened(gateway.data) as store:
            kept = await store.read(lambda transaction: transaction.rows("SELECT value FROM device_reading"))
        assert {float(degrees) for degrees in range(1, 31)} <= {value for (value,) in kept}
        await gateway.start()


async def test_the_status_reports_the_link_to_the_broker(gateway: GatewayProcess, broker: Broker) -> None:
    async with gateway.session() as (link, _):
        await link.send(CaughtUp(), Subscribe(id="1", run=RUN))
        await until(link, lambda message: isinstance(message, Status) and message.broker_connected)
        await broker.stop()
        await until(link, lambda message: isinstance(message, Status) and not message.broker_connected)


async def test_it_idles_in_65_megabytes_with_broker_and_session(
    broker: Broker, tmp_path: Path, unused_tcp_port: int
) -> None:
    async with (
        gateway_process(tmp_path, unused_tcp_port, mqtt(broker), measured=False) as gateway,
        gateway.session() as (link, _),
        LeakSensor(broker.options, "leak-kitchen"),
    ):
        await link.send(CaughtUp(), Subscribe(id="1", run=RUN))
        await until(link, is_described)
        assert gateway.megabytes() * 1e6 / (1 << 20) <= 65
