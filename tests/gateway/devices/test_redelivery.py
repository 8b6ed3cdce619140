"""What the broker gives out again is known: kept once, and told with the same key."""

import asyncio
import signal
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from process_cosmos_gateway.contract.devices import EventHappened, ValueChanged
from process_cosmos_gateway.devices.mqtt import Message
from tests.brokers import Broker

from .parts import client, description, hearing, until

TD = "wot/tank/td"
LEVEL = "wot/tank/properties/level"
OVERFLOW = "wot/tank/events/overflow"
TOP = Path(__file__).parents[3]


def is_five(event: dict[str, Any]) -> bool:
    return isinstance(event["data"], list) and [reading["v"] for reading in event["data"]].count(5) == 1


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


@pytest.mark.parametrize(("moment", "linger"), [("commit", 0), ("ack", 0), ("ack", 60)])
async def test_a_kill_between_told_commit_and_acknowledgement_leaves_one_reading_and_one_key(
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
        if moment == "commit" or linger:
            assert [(change.key, change.redelivered) for change in again] == [(first["key"], True)]
            assert len(await heard.until_drained(is_five, 1)) == 1
        else:
            # It is on disk: the snapshot has it, there is no edge to tell.
            await until(lambda: heard.devices.counts["repeats"] == 1)
            assert heard.value("wot/tank", "level") == 5
            assert again == []


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


async def test_a_device_event_given_out_again_is_told_with_its_key_and_queued_once(
    broker: Broker, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    await known_device(folder, broker)
    async with client(broker.options) as tank:
        await tank.say(OVERFLOW, True)
        told = await told_until_killed(folder, broker, "ack")
        assert told[-1]["type"] == "event_happened"
        async with hearing(folder, broker.options) as heard:
            await until(lambda: heard.devices.counts["repeats"] == 1)
            (event,) = [change for change in heard.changes if isinstance(change, EventHappened)]
            assert (event.key, event.redelivered) == (told[-1]["key"], True)
            await tank.say(OVERFLOW, True)  # a second one of the same content is another event
            await until(lambda: len(heard.events("overflow")) == 2)
            assert heard.events("overflow")[1].key != event.key
            await heard.until_drained(lambda each: each["type"].endswith("device.event.v1"), 1)


async def test_messages_given_out_again_one_by_one_keep_their_order(broker: Broker, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    await known_device(folder, broker)
    async with client(broker.options) as tank:
        for value in range(1, 31):
            await tank.say(LEVEL, value)
    for _ in range(3):
        await told_until_killed(folder, broker, "ack")
    async with hearing(folder, broker.options) as heard:
        await until(lambda: heard.value("wot/tank", "level") == 30)
        await heard.until_rows(
            "SELECT value FROM device_reading WHERE value > 0 ORDER BY time", [(value,) for value in range(1, 31)]
        )
        assert heard.devices.counts["repeats"] > 0


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
