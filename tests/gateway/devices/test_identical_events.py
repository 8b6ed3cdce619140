"""As many identical device events are delivered as were sent, despite reused packet ids and failures."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from process_cosmos_gateway.devices.mqtt.connection import Connection, Message
from process_cosmos_testbed.broker import Broker, running_broker
from process_cosmos_testbed.proxy import FaultProxy
from tests.support.waiting import until

from .parts import blocked_store, client, running_devices, set_up_tank
from .test_redelivery import OVERFLOW, possible_repeats_of

MANUAL_SAVE = ("allow_anonymous true", "autosave_interval 0")
"""A broker that saves its sessions only on SIGUSR1: after a kill it goes back to that state."""


@pytest.fixture
async def forgetful(tmp_path: Path) -> AsyncIterator[Broker]:
    """Start a broker that saves its sessions only on SIGUSR1."""
    (tmp_path / "broker").mkdir()
    async with running_broker(tmp_path / "broker", MANUAL_SAVE) as broker:
        yield broker


async def restarted(broker: Broker) -> None:
    """Kill the broker and start it again from its saved state."""
    await broker.kill()
    await broker.start()


async def receive_and_drop(broker: Broker, site: str, count: int) -> None:
    """Receive ``count`` device events of the gateway's session without acknowledgement, and break the connection."""
    received: list[Message] = []
    connection = await Connection.open(
        broker.options,
        client_id=f"process-cosmos-{site}",
        on_message=lambda _, message: received.append(message),
        keep_session=True,
    )
    await until(lambda: [message.topic for message in received].count(OVERFLOW) == count)
    connection.drop()


async def publish_true(broker: Broker, count: int) -> None:
    async with client(broker.options) as tank:
        for _ in range(count):
            await tank.publish(OVERFLOW, True)


async def test_packet_ids_reused_by_a_killed_broker_lose_no_event(forgetful: Broker, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    async with running_devices(folder, forgetful.options) as gateway:
        async with client(forgetful.options) as tank:
            await set_up_tank(gateway, tank)
        await until(lambda: not gateway.devices._writer._unacknowledged)
        await forgetful.save()
        await publish_true(forgetful, 7)
        assert len(await possible_repeats_of(gateway, 7)) == 7
        await until(lambda: not gateway.devices._writer._unacknowledged)
        site = gateway.store.site
    await restarted(forgetful)
    await publish_true(forgetful, 3)  # with the packet ids of the first three
    await receive_and_drop(forgetful, site, 3)
    async with running_devices(folder, forgetful.options) as gateway:
        await until(lambda: len(gateway.events("overflow")) == 3)
        assert len(await possible_repeats_of(gateway, 3)) == 3
        assert gateway.devices.counts["repeats"] == 0


async def test_identical_events_around_kills_of_the_broker_arrive_once_each(forgetful: Broker, tmp_path: Path) -> None:
    async with running_devices(tmp_path / "data", forgetful.options) as gateway:
        async with client(forgetful.options) as tank:
            await set_up_tank(gateway, tank)
        await until(lambda: not gateway.devices._writer._unacknowledged)
        await forgetful.save()
        for each in range(1, 5):
            await publish_true(forgetful, 10)
            await until(lambda count=each * 10: len(gateway.events("overflow")) == count)  # type: ignore[misc]
            await restarted(forgetful)
            await until(lambda: gateway.devices.broker_connected)
        await publish_true(forgetful, 10)
        assert await possible_repeats_of(gateway, 50) == 50 * [False]
        assert gateway.devices.gaps == 0


async def test_a_message_committed_after_its_connection_ended_is_a_repeat_on_the_next(
    broker: Broker, tmp_path: Path
) -> None:
    async with (
        FaultProxy("127.0.0.1", broker.options.port) as proxy,
        client(broker.options) as tank,
        running_devices(tmp_path, replace(broker.options, port=proxy.port)) as gateway,
    ):
        await set_up_tank(gateway, tank)
        async with blocked_store(gateway):
            for _ in range(3):
                await tank.publish(OVERFLOW, True)
            await until(lambda: len(gateway.events("overflow")) == 3)
            proxy.reset()
            await until(lambda: gateway.devices.counts["repeats"] == 3)
        await tank.publish(OVERFLOW, True)
        assert await possible_repeats_of(gateway, 4) == 4 * [False]
        assert len(gateway.events("overflow")) == 4


async def test_a_message_whose_acknowledgement_was_lost_is_accepted_again_and_marked(
    broker: Broker, tmp_path: Path
) -> None:
    async with (
        FaultProxy("127.0.0.1", broker.options.port) as proxy,
        client(broker.options) as tank,
        running_devices(tmp_path, replace(broker.options, port=proxy.port)) as gateway,
    ):
        await set_up_tank(gateway, tank)
        async with blocked_store(gateway):
            await tank.publish(OVERFLOW, True)
            await until(lambda: gateway.events("overflow"))
            proxy.stall()
        await until(lambda: not gateway.devices._writer._unacknowledged)
        proxy.reset()
        proxy.heal()
        assert await possible_repeats_of(gateway, 2) == [False, True]
        assert [event.possible_repeat for event in gateway.events("overflow")] == [False, True]
        first, again = gateway.events("overflow")
        assert first.key == again.key


async def test_a_stopping_gateway_acknowledges_the_messages_it_has_stored(broker: Broker, tmp_path: Path) -> None:
    async with client(broker.options) as tank:
        async with running_devices(tmp_path, broker.options) as gateway:
            await set_up_tank(gateway, tank)
            hanging = blocked_store(gateway)
            await hanging.__aenter__()
            for _ in range(3):
                await tank.publish(OVERFLOW, True)
            await until(lambda: len(gateway.events("overflow")) == 3)
            asyncio.get_running_loop().call_later(0.1, asyncio.ensure_future, hanging.__aexit__(None, None, None))
        async with running_devices(tmp_path, broker.options) as gateway:
            await tank.publish(OVERFLOW, True)
            assert await possible_repeats_of(gateway, 4) == 4 * [False]
            assert gateway.devices.counts["possible_repeats"] == gateway.devices.counts["repeats"] == 0
