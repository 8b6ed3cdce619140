"""Tests with aMQTT, a broker that supports MQTT 3.1.1 only, instead of Mosquitto."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from process_cosmos_gateway.options import BrokerOptions
from process_cosmos_testbed.processes import accepts, free_port
from process_cosmos_testbed.virtual_devices.kinds import LeakSensor, Valve
from tests.support.waiting import until

from .parts import client, running_devices, set_up_tank

pytestmark = pytest.mark.long

CONFIGURATION = """
listeners:
  default:
    type: tcp
    bind: 127.0.0.1:{port}
plugins:
  amqtt.plugins.authentication.AnonymousAuthPlugin:
    allow_anonymous: true
"""


@pytest.fixture
async def amqtt(tmp_path: Path) -> AsyncIterator[BrokerOptions]:
    """Start an aMQTT process that does not store sessions on disk."""
    port = free_port()
    file = tmp_path / "amqtt.yaml"
    file.write_text(CONFIGURATION.format(port=port))
    command = [str(Path(sys.executable).parent / "amqtt"), "-c", str(file)]
    with (tmp_path / "amqtt.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)  # noqa: ASYNC220 - ours, and quick
    try:
        async with asyncio.timeout(30):
            while not await accepts(port):
                assert process.poll() is None, (tmp_path / "amqtt.log").read_text()
                await asyncio.sleep(0.05)
        yield BrokerOptions(host="127.0.0.1", port=port)
    finally:
        process.kill()
        process.wait(10)


async def test_devices_are_read_and_written_through_a_broker_with_3_1_1_only(
    amqtt: BrokerOptions, tmp_path: Path
) -> None:
    async with (
        running_devices(tmp_path / "data", amqtt) as gateway,
        LeakSensor(amqtt, "leak-1") as sensor,
        Valve(amqtt, "valve-1") as valve,
    ):
        await until(lambda: gateway.value("wot/leak-1", "leak") is False)
        link = gateway.devices.broker_link
        assert link is not None
        assert link.version == "3.1.1"
        await sensor.set(True)
        await until(lambda: gateway.value("wot/leak-1", "leak") and gateway.events("leak_detected"))
        await until(lambda: gateway.value("wot/valve-1", "open"))
        await gateway.write("wot/valve-1", "open", value=False)
        await until(lambda: not valve.is_open and gateway.value("wot/valve-1", "open") is False)


async def test_a_session_not_kept_for_anonymous_clients_is_a_gap(amqtt: BrokerOptions, tmp_path: Path) -> None:
    async with client(amqtt) as tank:
        async with running_devices(tmp_path / "data", amqtt) as gateway:
            await set_up_tank(gateway, tank)
        async with running_devices(tmp_path / "data", amqtt) as gateway:
            await until(lambda: gateway.devices.gaps == 1)
            await tank.publish("wot/tank/events/overflow", 5)
            await until(lambda: gateway.events("overflow"))
