"""What the broker sends again: dropped where it is surely known, else accepted again and marked."""

import asyncio
import signal
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from process_cosmos_gateway.contract.devices import EventHappened, ValueChanged
from process_cosmos_gateway.devices.mqtt.connection import Message
from tests.brokers import Broker

from .parts import Hearing, client, description, hearing, until

TD = "wot/tank/td"
LEVEL = "wot/tank/properties/level"
OVERFLOW = "wot/tank/events/overflow"
WORKER = "wot/tank/properties/pump"
TOP = Path(__file__).parents[3]


def is_five(event: dict[str, Any]) -> bool:
    return isinstance(event["data"], list) and [reading["v"] for reading in event["data"]].count(5) == 1


async def marks_of_events(heard: Hearing, count: int) -> list[bool]:
    """Return of each device event that waits for destinations whether it is marked, once there are ``count``."""
    events = await heard.until_drained(lambda each: each["type"].endswith("device.event.v1"), count)
    return [each["data"].get("possible_repeat", False) for each in events]


async def told_until_killed(folder: Path, broker: Broker, moment: str, linger: float = 0.0) -> list[dict[str, Any]]:
    """Run a gateway's half that kills itself; return what it had told."""
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


async def known_device(folder: Path, broker: Broker) -> None:
    """Let the gateway know the device and be subscribed, with a first value."""
    async with hearing(folder, broker.options) as heard, client(broker.options) as tank:
        await tank.say(TD, description(), retain=True)
        await until(lambda: heard.device("wot/tank"))
        await tank.say(LEVEL, 0, retain=True)
        await until(lambda: heard.value("wot/tank", "level") == 0)
        await heard.until_acknowledged(tank, LEVEL, -1)


@pytest.mark.parametrize(("moment", "linger"), [("commit", 0), ("ack", 60)])
async def test_a_kill_before_the_commit_leaves_one_reading_and_one_key(
    broker: Broker, tmp_path: Path, moment: str, linger: float
) -> None:
    folder = tmp_path / "data"
    await known_device(folder, broker)
    async with client(broker.options) as tank:
        await tank.say(LEVEL, 5)
    told = await told_until_killed(folder, broker, moment, linger)
    first = told[-1]
    assert (first["type"], first["value"], first["redelivered"]) == ("value_changed", 5, False)
    async with hearing(folder, broker.options) as heard:
        await heard.until_rows("SELECT value FROM device_reading WHERE value > 0", [(5,)])
        again = [change for change in heard.changes if isinstance(change, ValueChanged)]
        assert [(change.key, change.redelivered) for change in again] == [(first["key"], True)]
        assert len(await heard.until_drained(is_five, 1)) == 1


async def test_a_value_that_is_on_disk_when_the_broker_sends_it_again_makes_no_transition(
    broker: Broker, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    await known_device(folder, broker)
    async with client(broker.options) as tank:
        await tank.say(WORKER, True)
    await told_until_killed(folder, broker, "ack")
    async with hearing(folder, broker.options) as heard:
        await until(lambda: heard.devices.counts["possible_repeats"] == 1)
        assert heard.value("wot/tank", "pump") is True
        assert heard.values("pump") == []
        assert len(await heard.until_drained(lambda each: each["type"].endswith("device.changed.v1"), 1)) == 1


async def test_a_kill_costs_readings_that_were_acknowledged_within_the_linger_and_nothing_else(
    broker: Broker, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    await known_device(folder, broker)
    async with client(broker.options) as tank:
        await tank.say(LEVEL, 5)
        await tank.say(OVERFLOW, True)
    await told_until_killed(folder, broker, "commit", 60)
    async with hearing(folder, broker.options) as heard:
        await heard.until_drained(lambda each: each["type"].endswith("device.event.v1"), 1)
        assert await heard.rows("SELECT value FROM device_reading WHERE value > 0") == []
        assert heard.devices.counts["repeats"] == 0


async def test_a_device_event_is_accepted_again_and_marked_if_the_gateway_was_killed_before_it_acknowledged(
    broker: Broker, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    await known_device(folder, broker)
    async with client(broker.options) as tank:
        await tank.say(OVERFLOW, True)
        told = await told_until_killed(folder, broker, "ack")
        assert told[-1]["type"] == "event_happened"
        async with hearing(folder, broker.options) as heard:
            await until(lambda: heard.devices.counts["possible_repeats"] == 1)
            (event,) = [change for change in heard.changes if isinstance(change, EventHappened)]
            assert (event.key, event.redelivered, event.possible_repeat) == (told[-1]["key"], True, True)
            await tank.say(OVERFLOW, True)  # a second one of the same content is another event
            await until(lambda: len(heard.events("overflow")) == 2)
            assert heard.events("overflow")[1].key != event.key
            assert await marks_of_events(heard, 3) == [False, True, False]


async def test_messages_given_out_again_one_by_one_keep_their_order(broker: Broker, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    await known_device(folder, broker)
    async with client(broker.options) as tank:
        for value in range(1, 31):
            await tank.say(LEVEL, value)
    for _ in range(3):
        await told_until_killed(folder, broker, "ack")
    async with hearing(folder, broker.options) as heard:
        await heard.until_rows("SELECT count(DISTINCT value) FROM device_reading WHERE value > 0", [(30,)])
        kept = [
            value for (value,) in await heard.rows("SELECT value FROM device_reading WHERE value > 0 ORDER BY time")
        ]
        assert list(dict.fromkeys(kept)) == list(range(1, 31))
        assert len(kept) > 30, "of each kill's commit nothing was acknowledged"
        assert heard.devices.counts["repeats"] == 0


async def test_an_acknowledgement_does_not_outlive_its_connection(broker: Broker, tmp_path: Path) -> None:
    async with client(broker.options) as tank, hearing(tmp_path / "data", broker.options) as heard:
        await tank.say(TD, description(), retain=True)
        await until(lambda: heard.device("wot/tank"))
        await tank.say(LEVEL, 0, retain=True)
        await until(lambda: heard.value("wot/tank", "level") == 0)
        connection = heard.devices._connection
        assert connection is not None
        connection.drop()
        await until(lambda: heard.devices.broker_connected)
        connection.acknowledge(Message(topic=LEVEL, payload=b"", qos=1, number=1))  # goes nowhere, and does no harm
        await tank.say(LEVEL, 1)
        await until(lambda: heard.value("wot/tank", "level") == 1)
