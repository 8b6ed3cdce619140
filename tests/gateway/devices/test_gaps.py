"""Reports of possibly missed messages: lost sessions, dropped messages, a second client with our id."""

import asyncio
from pathlib import Path

import pytest

from process_cosmos_gateway.devices.mqtt.connection import Connection
from process_cosmos_gateway.devices.mqtt.mqtt_session import DROPPED_TOPIC
from process_cosmos_gateway.errors import StoreError
from process_cosmos_testbed.broker import Broker, running_broker
from tests.support.waiting import until

from .parts import RunningDevices, client, running_devices, set_up_tank

LEVEL = "wot/tank/properties/level"
GAP = "process_cosmos.gap.v1"


def is_gap(event: dict[str, object]) -> bool:
    return event["type"] == GAP


async def restarted(broker: Broker, gateway: RunningDevices, *, forgetful: bool) -> None:
    await (broker.kill() if forgetful else broker.stop())
    await until(lambda: not gateway.devices.broker_connected)
    if forgetful:
        broker.forget()
    await broker.start()
    await until(lambda: gateway.devices.broker_connected)


async def test_neither_a_first_connection_nor_a_kept_session_is_a_gap(broker: Broker, tmp_path: Path) -> None:
    async with running_devices(tmp_path, broker.options) as gateway, client(broker.options) as tank:
        await set_up_tank(gateway, tank)
    async with running_devices(tmp_path, broker.options) as gateway:
        await restarted(broker, gateway, forgetful=False)
        assert gateway.devices.gaps == 0
        assert not list(filter(is_gap, await gateway.drain()))


async def test_a_lost_session_is_a_gap_also_after_a_restart_of_the_gateway_and_stays_counted(
    broker: Broker, tmp_path: Path
) -> None:
    async with running_devices(tmp_path, broker.options) as gateway:
        async with client(broker.options) as tank:
            await set_up_tank(gateway, tank)
        await restarted(broker, gateway, forgetful=True)
        [gap] = await gateway.wait_for_events(is_gap, 1)
        assert (gap["subject"], gap["data"]["reason"]) == ("broker", "session_lost")
        assert gap["data"]["since"] < gap["data"]["until"] == gap["time"]
        assert gateway.devices.gaps == 1
    await broker.kill()
    broker.forget()
    await broker.start()
    async with running_devices(tmp_path, broker.options) as gateway:
        assert gateway.devices.gaps == 2
        await gateway.wait_for_events(is_gap, 1)
    async with running_devices(tmp_path, broker.options) as gateway:
        assert gateway.devices.gaps == 2


async def test_a_lost_session_is_a_gap_also_if_the_disk_fails_when_the_next_begins(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class FullDisk:
        tried = False

        async def write(self, _: object) -> None:
            self.tried = True
            raise StoreError("the disk is full")

    async with running_devices(tmp_path, broker.options) as gateway, client(broker.options) as tank:
        await set_up_tank(gateway, tank)
        name = gateway.devices._session.name
        await broker.kill()
        await until(lambda: not gateway.devices.broker_connected)
        broker.forget()
        full = FullDisk()
        with monkeypatch.context() as disk:
            disk.setattr(gateway.devices._session, "store", full)
            await broker.start()
            await until(lambda: full.tried)
        await until(lambda: gateway.devices.broker_connected)
        await gateway.wait_for_events(is_gap, 1)
        assert gateway.devices.gaps == 1
        assert gateway.devices._session.name != name, "packet ids are reused in a new session"


async def test_messages_dropped_while_the_gateway_is_not_running_are_counted_when_it_is_back(tmp_path: Path) -> None:
    folder = tmp_path / "broker"
    folder.mkdir()
    lines = ("allow_anonymous true", "max_queued_messages 10", "sys_interval 1")
    async with running_broker(folder, lines) as broker, client(broker.options, topics=[DROPPED_TOPIC]) as tank:
        async with running_devices(tmp_path / "data", broker.options) as gateway:
            await set_up_tank(gateway, tank)
            await gateway.wait_for_rows("SELECT value FROM device_counter WHERE name = 'broker_count'", [(0,)])
            assert gateway.devices.broker_dropped == 0
        for value in range(100):
            await tank.publish(LEVEL, value)
        await until(lambda: tank.received[-1].payload != b"0")
        async with running_devices(tmp_path / "data", broker.options) as gateway:
            await until(lambda: gateway.devices.broker_dropped > 50)
            assert gateway.devices.gaps == 0
            dropped = gateway.devices.broker_dropped
            await gateway.wait_for_rows("SELECT value FROM device_counter WHERE name = 'broker_dropped'", [(dropped,)])


async def test_a_restart_of_the_brokers_counter_does_not_reduce_the_count(tmp_path: Path, broker: Broker) -> None:
    async with running_devices(tmp_path, broker.options) as gateway:
        session = gateway.devices._session
        session._broker_count = -1
        for payload, dropped in (
            (b"500", 0),
            (b"502", 2),
            (b"502", 2),
            (b"3", 5),
            (b"", 5),
            (b"-1", 5),
            (b"9" * 5000, 5),
        ):
            session.note_dropped_count(payload)
            assert session.broker_dropped == dropped


async def test_another_client_with_our_id_is_an_identity_conflict_until_it_has_been_away_for_a_while(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_devices(tmp_path, broker.options) as gateway:
        name = f"process-cosmos-{gateway.store.site}"
        for _ in range(2):
            await until(lambda: gateway.devices.broker_connected)
            assert not gateway.devices.identity_conflict
            other = await Connection.open(broker.options, client_id=name, on_message=lambda *_: None)
            await until(lambda: not gateway.devices.broker_connected)
            other.close()
        await until(lambda: gateway.devices.identity_conflict)
        now = asyncio.get_running_loop().time()
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now + 301, raising=False)
        assert not gateway.devices.identity_conflict
        monkeypatch.undo()
