"""Messages that the broker sends again: dropped if they are certainly repeats, else accepted and marked."""

import asyncio
import signal
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from process_cosmos_gateway.contract.devices import EventHappened, ValueChanged
from process_cosmos_gateway.devices.mqtt.connection import Message
from process_cosmos_testbed.broker import Broker
from tests.support.waiting import until

from .parts import RunningDevices, client, description, running_devices

TD = "wot/tank/td"
LEVEL = "wot/tank/properties/level"
OVERFLOW = "wot/tank/events/overflow"
PUMP = "wot/tank/properties/pump"
TOP = Path(__file__).parents[3]


def is_five(event: dict[str, Any]) -> bool:
    return isinstance(event["data"], list) and [reading["v"] for reading in event["data"]].count(5) == 1


async def possible_repeats_of(gateway: RunningDevices, count: int) -> list[bool]:
    """Return the ``possible_repeat`` marks of the device events delivered, once there are ``count``."""
    events = await gateway.wait_for_events(lambda each: each["type"].endswith("device.event.v1"), count)
    return [each["data"].get("possible_repeat", False) for each in events]


async def changes_until_killed(folder: Path, broker: Broker, moment: str, linger: float = 0.0) -> list[dict[str, Any]]:
    """Run a devices service that kills itself; return the changes it had reported."""
    process = await asyncio.create_subprocess_exec(
        *(
            sys.executable,
            "-m",
            "tests.gateway.devices.crashing",
            str(folder),
            str(broker.options.port),
            moment,
            str(linger),
        ),
        cwd=TOP,
        stdout=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(20):
        output, _ = await process.communicate()
    assert process.returncode == -signal.SIGKILL
    return [orjson.loads(line) for line in output.splitlines()]


async def set_up_device(folder: Path, broker: Broker) -> None:
    """Let the gateway add the device and subscribe to it, and wait for a first value."""
    async with running_devices(folder, broker.options) as gateway, client(broker.options) as tank:
        await tank.publish(TD, description(), retain=True)
        await until(lambda: gateway.device("wot/tank"))
        await tank.publish(LEVEL, 0, retain=True)
        await until(lambda: gateway.value("wot/tank", "level") == 0)
        await gateway.wait_until_acknowledged(tank, LEVEL, -1)


@pytest.mark.parametrize(("moment", "linger"), [("commit", 0), ("ack", 60)])
async def test_a_kill_before_the_commit_leaves_one_reading_with_the_same_key(
    broker: Broker, tmp_path: Path, moment: str, linger: float
) -> None:
    folder = tmp_path / "data"
    await set_up_device(folder, broker)
    async with client(broker.options) as tank:
        await tank.publish(LEVEL, 5)
    reported = await changes_until_killed(folder, broker, moment, linger)
    first = reported[-1]
    assert (first["type"], first["value"], first["redelivered"]) == ("value_changed", 5, False)
    async with running_devices(folder, broker.options) as gateway:
        await gateway.wait_for_rows("SELECT value FROM device_reading WHERE value > 0", [(5,)])
        again = [change for change in gateway.changes if isinstance(change, ValueChanged)]
        assert [(change.key, change.redelivered) for change in again] == [(first["key"], True)]
        assert len(await gateway.wait_for_events(is_five, 1)) == 1


async def test_a_stored_value_that_the_broker_sends_again_is_no_transition(broker: Broker, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    await set_up_device(folder, broker)
    async with client(broker.options) as tank:
        await tank.publish(PUMP, True)
    await changes_until_killed(folder, broker, "ack")
    async with running_devices(folder, broker.options) as gateway:
        await until(lambda: gateway.devices.counts["possible_repeats"] == 1)
        assert gateway.value("wot/tank", "pump") is True
        assert gateway.values("pump") == []
        assert len(await gateway.wait_for_events(lambda each: each["type"].endswith("device.changed.v1"), 1)) == 1


async def test_a_kill_loses_only_readings_acknowledged_within_the_linger_time(broker: Broker, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    await set_up_device(folder, broker)
    async with client(broker.options) as tank:
        await tank.publish(LEVEL, 5)
        await tank.publish(OVERFLOW, True)
    await changes_until_killed(folder, broker, "commit", 60)
    async with running_devices(folder, broker.options) as gateway:
        await gateway.wait_for_events(lambda each: each["type"].endswith("device.event.v1"), 1)
        assert await gateway.rows("SELECT value FROM device_reading WHERE value > 0") == []
        assert gateway.devices.counts["repeats"] == 0


async def test_a_device_event_is_accepted_again_and_marked_after_a_kill_before_its_acknowledgement(
    broker: Broker, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    await set_up_device(folder, broker)
    async with client(broker.options) as tank:
        await tank.publish(OVERFLOW, True)
        reported = await changes_until_killed(folder, broker, "ack")
        assert reported[-1]["type"] == "event_happened"
        async with running_devices(folder, broker.options) as gateway:
            await until(lambda: gateway.devices.counts["possible_repeats"] == 1)
            (event,) = [change for change in gateway.changes if isinstance(change, EventHappened)]
            assert (event.key, event.redelivered, event.possible_repeat) == (reported[-1]["key"], True, True)
            await tank.publish(OVERFLOW, True)  # a second message with the same content is another event
            await until(lambda: len(gateway.events("overflow")) == 2)
            assert gateway.events("overflow")[1].key != event.key
            assert await possible_repeats_of(gateway, 3) == [False, True, False]


async def test_messages_sent_again_one_by_one_keep_their_order(broker: Broker, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    await set_up_device(folder, broker)
    async with client(broker.options) as tank:
        for value in range(1, 31):
            await tank.publish(LEVEL, value)
    for _ in range(3):
        await changes_until_killed(folder, broker, "ack")
    async with running_devices(folder, broker.options) as gateway:
        await gateway.wait_for_rows("SELECT count(DISTINCT value) FROM device_reading WHERE value > 0", [(30,)])
        stored = [
            value for (value,) in await gateway.rows("SELECT value FROM device_reading WHERE value > 0 ORDER BY time")
        ]
        assert list(dict.fromkeys(stored)) == list(range(1, 31))
        assert len(stored) > 30, "the commit before each kill was not acknowledged"
        assert gateway.devices.counts["repeats"] == 0


async def test_an_acknowledgement_of_an_ended_connection_is_not_sent(broker: Broker, tmp_path: Path) -> None:
    async with client(broker.options) as tank, running_devices(tmp_path / "data", broker.options) as gateway:
        await tank.publish(TD, description(), retain=True)
        await until(lambda: gateway.device("wot/tank"))
        await tank.publish(LEVEL, 0, retain=True)
        await until(lambda: gateway.value("wot/tank", "level") == 0)
        connection = gateway.devices._connection
        assert connection is not None
        connection.drop()
        await until(lambda: gateway.devices.broker_connected)
        connection.acknowledge(Message(topic=LEVEL, payload=b"", qos=1, number=1))  # has no effect
        await tank.publish(LEVEL, 1)
        await until(lambda: gateway.value("wot/tank", "level") == 1)
