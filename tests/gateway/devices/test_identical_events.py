"""Identical device events are as many as were sent, whatever ids the broker gives them and whatever breaks."""

import asyncio
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from process_cosmos_gateway.devices.mqtt.connection import Connection, Message
from process_cosmos_gateway.lab.proxy import FaultProxy
from tests.brokers import Broker, running_broker

from .parts import client, hanging_disk, hearing, ready, until
from .test_redelivery import OVERFLOW, marks_of_events

BY_HAND = ("allow_anonymous true", "autosave_interval 0")
"""A broker that saves its sessions when it is told to: killed, it goes back to that."""


@pytest.fixture
async def forgetful(tmp_path: Path) -> AsyncIterator[Broker]:
    """A broker that is told when to save."""
    (tmp_path / "broker").mkdir()
    async with running_broker(tmp_path / "broker", BY_HAND) as broker:
        yield broker


async def save(broker: Broker) -> None:
    """Let the broker save its sessions, and return when it has."""
    file = broker.folder / "mosquitto.db"
    file.unlink(missing_ok=True)
    assert broker.process
    broker.process.send_signal(signal.SIGUSR1)
    await until(file.exists)


async def restarted(broker: Broker) -> None:
    """Kill the broker and start it again from what it saved."""
    broker.kill()
    await broker.start()


async def lose(broker: Broker, site: str, count: int) -> None:
    """Let the broker send ``count`` device events of the gateway's session into a connection that breaks."""
    heard: list[Message] = []
    connection = await Connection.open(
        broker.options,
        client_id=f"process-cosmos-{site}",
        on_message=lambda _, message: heard.append(message),
        keep_session=True,
    )
    await until(lambda: [message.topic for message in heard].count(OVERFLOW) == count)
    connection.drop()


async def say_true(broker: Broker, count: int) -> None:
    async with client(broker.options) as tank:
        for _ in range(count):
            await tank.say(OVERFLOW, True)


async def test_ids_that_a_killed_broker_gives_out_again_lose_no_event(forgetful: Broker, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    async with hearing(folder, forgetful.options) as heard:
        async with client(forgetful.options) as tank:
            await ready(heard, tank)
        await until(lambda: not heard.devices._writer._unacknowledged)
        await save(forgetful)
        await say_true(forgetful, 7)
        assert len(await marks_of_events(heard, 7)) == 7
        await until(lambda: not heard.devices._writer._unacknowledged)
        site = heard.store.site
    await restarted(forgetful)
    await say_true(forgetful, 3)  # with the ids of the first three
    await lose(forgetful, site, 3)
    async with hearing(folder, forgetful.options) as heard:
        await until(lambda: len(heard.events("overflow")) == 3)
        assert len(await marks_of_events(heard, 3)) == 3
        assert heard.devices.counts["repeats"] == 0


async def test_identical_events_around_kills_of_the_broker_arrive_each_once(forgetful: Broker, tmp_path: Path) -> None:
    async with hearing(tmp_path / "data", forgetful.options) as heard:
        async with client(forgetful.options) as tank:
            await ready(heard, tank)
        await until(lambda: not heard.devices._writer._unacknowledged)
        await save(forgetful)
        for each in range(1, 5):
            await say_true(forgetful, 10)
            await until(lambda count=each * 10: len(heard.events("overflow")) == count)  # type: ignore[misc]
            await restarted(forgetful)
            await until(lambda: heard.devices.broker_connected)
        await say_true(forgetful, 10)
        assert await marks_of_events(heard, 50) == 50 * [False]
        assert heard.devices.gaps == 0


async def test_a_message_whose_commit_outlasts_its_connection_is_a_repeat_on_the_next(
    broker: Broker, tmp_path: Path
) -> None:
    async with (
        FaultProxy("127.0.0.1", broker.options.port) as proxy,
        client(broker.options) as tank,
        hearing(tmp_path, replace(broker.options, port=proxy.port)) as heard,
    ):
        await ready(heard, tank)
        async with hanging_disk(heard):
            for _ in range(3):
                await tank.say(OVERFLOW, True)
            await until(lambda: len(heard.events("overflow")) == 3)
            proxy.reset()
            await until(lambda: heard.devices.counts["repeats"] == 3)
        await tank.say(OVERFLOW, True)
        assert await marks_of_events(heard, 4) == 4 * [False]
        assert len(heard.events("overflow")) == 4


async def test_a_message_whose_acknowledgement_was_lost_on_the_way_is_accepted_again_and_marked(
    broker: Broker, tmp_path: Path
) -> None:
    async with (
        FaultProxy("127.0.0.1", broker.options.port) as proxy,
        client(broker.options) as tank,
        hearing(tmp_path, replace(broker.options, port=proxy.port)) as heard,
    ):
        await ready(heard, tank)
        async with hanging_disk(heard):
            await tank.say(OVERFLOW, True)
            await until(lambda: heard.events("overflow"))
            proxy.stall()
        await until(lambda: not heard.devices._writer._unacknowledged)
        proxy.reset()
        proxy.heal()
        assert await marks_of_events(heard, 2) == [False, True]
        assert [event.possible_repeat for event in heard.events("overflow")] == [False, True]
        first, again = heard.events("overflow")
        assert first.key == again.key


async def test_a_gateway_that_is_stopped_acknowledges_what_it_has_stored(broker: Broker, tmp_path: Path) -> None:
    async with client(broker.options) as tank:
        async with hearing(tmp_path, broker.options) as heard:
            await ready(heard, tank)
            hanging = hanging_disk(heard)
            await hanging.__aenter__()
            for _ in range(3):
                await tank.say(OVERFLOW, True)
            await until(lambda: len(heard.events("overflow")) == 3)
            asyncio.get_running_loop().call_later(0.1, asyncio.ensure_future, hanging.__aexit__(None, None, None))
        async with hearing(tmp_path, broker.options) as heard:
            await tank.say(OVERFLOW, True)
            assert await marks_of_events(heard, 4) == 4 * [False]
            assert heard.devices.counts["possible_repeats"] == heard.devices.counts["repeats"] == 0
