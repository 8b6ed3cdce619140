"""Readings may be acknowledged before they are stored, for a limited time; everything else only afterwards."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from process_cosmos_gateway.contract.destinations import Priority
from process_cosmos_gateway.devices import message_writer
from process_cosmos_gateway.devices.mqtt.connection import Connection, Message
from process_cosmos_gateway.options import ReadingOptions
from process_cosmos_gateway.outbox import DropReason
from process_cosmos_gateway.store import Transaction
from process_cosmos_testbed.broker import Broker
from tests.support.waiting import until

from .parts import blocked_store, client, running_devices, set_up_tank

LEVEL = "wot/tank/properties/level"
PUMP = "wot/tank/properties/pump"
STORED_VALUES = "SELECT value FROM device_reading ORDER BY time"
LEVELS = """SELECT device_reading.value FROM device_reading JOIN device_property ON number = property
  WHERE name = 'level' ORDER BY device_reading.time"""
LONG = ReadingOptions(reading_linger=60)
SHORT = ReadingOptions(reading_linger=0.1)


@pytest.fixture
def acknowledged(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Return the payloads of property messages, in the order of their acknowledgement."""
    payloads: list[bytes] = []
    acknowledge = Connection.acknowledge

    def noting(self: Connection, message: Message) -> bool:
        if message.topic in (LEVEL, PUMP):
            payloads.append(message.payload)
        return acknowledge(self, message)

    monkeypatch.setattr(Connection, "acknowledge", noting)
    return payloads


async def test_a_reading_is_acknowledged_before_its_commit_and_a_change_after_it_in_order(
    broker: Broker, tmp_path: Path, acknowledged: list[bytes]
) -> None:
    async with running_devices(tmp_path, broker.options, readings=LONG) as gateway, client(broker.options) as tank:
        await set_up_tank(gateway, tank)
        await until(lambda: acknowledged == [b"0"])
        async with blocked_store(gateway):
            await tank.publish(LEVEL, 1)
            await until(lambda: acknowledged == [b"0", b"1"])
            await tank.publish(PUMP, True)
            await tank.publish(LEVEL, 2)
            await until(lambda: gateway.value("wot/tank", "level") == 2)
            assert acknowledged == [b"0", b"1"]
        await until(lambda: acknowledged == [b"0", b"1", b"true", b"2"])
        assert (1,) in await gateway.rows(STORED_VALUES)  # it was committed with the change


async def test_without_linger_a_reading_is_on_disk_before_it_is_acknowledged(
    broker: Broker, tmp_path: Path, acknowledged: list[bytes]
) -> None:
    readings = ReadingOptions(reading_linger=0)
    async with running_devices(tmp_path, broker.options, readings=readings) as gateway, client(broker.options) as tank:
        await set_up_tank(gateway, tank)
        async with blocked_store(gateway):
            await tank.publish(LEVEL, 1)
            await until(lambda: gateway.value("wot/tank", "level") == 1)
            assert acknowledged == [b"0"]
        await until(lambda: acknowledged == [b"0", b"1"])


async def test_readings_are_committed_together_when_the_linger_time_of_the_oldest_ends(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings = ReadingOptions(reading_linger=0.5)
    async with running_devices(tmp_path, broker.options, readings=readings) as gateway, client(broker.options) as tank:
        await set_up_tank(gateway, tank)
        batches: list[int] = []
        apply_batch = message_writer._apply_batch

        def noting(
            transaction: Transaction, batch: Sequence[message_writer.PendingWrite], unconfirmed: Sequence[bytes]
        ) -> None:
            batches.append(sum(pending.stored.is_reading for pending in batch))
            apply_batch(transaction, batch, unconfirmed)

        monkeypatch.setattr(message_writer, "_apply_batch", noting)
        for value in range(1, 8):
            await tank.publish(LEVEL, value)
        await gateway.wait_for_rows(STORED_VALUES, [(value,) for value in range(1, 8)])
        assert sum(batches) == 7
        assert sum(map(bool, batches)) <= 3


async def test_after_the_linger_time_readings_are_acknowledged_only_after_their_commit(
    broker: Broker, tmp_path: Path, acknowledged: list[bytes]
) -> None:
    async with running_devices(tmp_path, broker.options, readings=SHORT) as gateway, client(broker.options) as tank:
        await set_up_tank(gateway, tank)
        async with blocked_store(gateway):
            await tank.publish(LEVEL, 1)
            await until(lambda: acknowledged[1:] == [b"1"])
            await until(lambda: gateway.devices._writer._committing_since is not None)
            await tank.publish(LEVEL, 2)
            await until(lambda: gateway.value("wot/tank", "level") == 2)
            assert acknowledged[1:] == [b"1"]
        await until(lambda: acknowledged[1:] == [b"1", b"2"])


async def test_a_stop_loses_no_acknowledged_reading(broker: Broker, tmp_path: Path, acknowledged: list[bytes]) -> None:
    async with client(broker.options) as tank:
        async with running_devices(tmp_path, broker.options, readings=LONG) as gateway:
            await set_up_tank(gateway, tank)
            for value in range(1, 51):
                await tank.publish(LEVEL, value)
            await until(lambda: len(acknowledged) == 51)
            assert (50,) not in await gateway.rows(STORED_VALUES)
        async with running_devices(tmp_path, broker.options, readings=LONG) as gateway:
            assert await gateway.rows(STORED_VALUES) == [(value,) for value in range(1, 51)]
            assert gateway.value("wot/tank", "level") == 50


async def test_a_stop_during_a_commit_neither_loses_nor_duplicates_messages(
    broker: Broker, tmp_path: Path, acknowledged: list[bytes]
) -> None:
    async with client(broker.options) as tank:
        async with running_devices(tmp_path, broker.options, readings=LONG) as gateway:
            await set_up_tank(gateway, tank)
            hanging = blocked_store(gateway)
            await hanging.__aenter__()
            await tank.publish(LEVEL, 1)
            await tank.publish(PUMP, True)
            await tank.publish(LEVEL, 2)
            await until(lambda: gateway.value("wot/tank", "level") == 2)
            asyncio.get_running_loop().call_later(0.1, asyncio.ensure_future, hanging.__aexit__(None, None, None))
        async with running_devices(tmp_path, broker.options, readings=LONG) as gateway:
            assert await gateway.rows(STORED_VALUES) == [(1,), (1,), (2,)]  # the one in the middle is the pump's
            await gateway.wait_for_events(lambda event: event["type"].endswith("device.changed.v1"), 1)


async def test_a_stop_while_the_disk_fails_stores_nothing_after_an_unstored_message(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(message_writer, "_MAX_BATCH_MESSAGES", 1)
    write, tries = message_writer.MessageWriter._write, [0, 0]

    async def fail_until_after_the_stop(
        self: message_writer.MessageWriter,
        batch: Sequence[message_writer.PendingWrite],
        dropped: Mapping[Priority, int],
    ) -> bool:
        tries[self._finishing] += 1
        return tries[True] > 1 and await write(self, batch, dropped)

    async with client(broker.options) as tank:
        async with running_devices(tmp_path, broker.options) as gateway:
            await set_up_tank(gateway, tank)
            await until(lambda: not gateway.devices._writer._unacknowledged)
            monkeypatch.setattr(message_writer, "_RETRY_SECONDS", 0.01)
            monkeypatch.setattr(message_writer.MessageWriter, "_write", fail_until_after_the_stop)
            await tank.publish(PUMP, True)
            await until(lambda: tries[False])
            await tank.publish(PUMP, False)
            await until(lambda: gateway.value("wot/tank", "pump") is False)
        monkeypatch.setattr(message_writer.MessageWriter, "_write", write)
        async with running_devices(tmp_path, broker.options) as gateway:
            changed = await gateway.wait_for_events(lambda event: event["type"].endswith("device.changed.v1"), 2)
            assert [event["data"]["value"] for event in changed] == [True, False]


async def test_above_the_size_limit_the_oldest_readings_are_dropped_and_counted(
    broker: Broker, tmp_path: Path, acknowledged: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(message_writer, "MAX_PENDING_BYTES", 5_000)
    async with running_devices(tmp_path, broker.options, readings=LONG) as gateway, client(broker.options) as tank:
        await set_up_tank(gateway, tank)
        async with blocked_store(gateway):
            await tank.publish(PUMP, True)
            for value in range(1, 101):
                await tank.publish(LEVEL, value)
            await tank.publish(PUMP, False)
            await until(lambda: gateway.value("wot/tank", "pump") is False)
        await until(lambda: len(acknowledged) == 103)
        numbers = [value for (value,) in await gateway.rows(LEVELS)]
        dropped = gateway.devices.counts["dropped"]
        assert dropped == 100 - len(numbers) > 50
        assert numbers[-1] == 100
        assert (await gateway.outbox.depths()).drops == {(Priority.READING, DropReason.QUOTA): dropped}
        pumps = [event["data"]["value"] for event in await gateway.drain() if event["type"].endswith("changed.v1")]
        assert pumps == [True, False]


async def test_changes_with_qos_0_are_dropped_only_if_no_reading_is_left_to_drop(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(message_writer, "MAX_PENDING_BYTES", 1_000)
    monkeypatch.setattr(message_writer, "_MAX_PENDING_CHANGE_BYTES", 3_000)
    async with running_devices(tmp_path, broker.options, readings=LONG) as gateway, client(broker.options) as tank:
        await set_up_tank(gateway, tank)
        async with blocked_store(gateway):
            for number in range(40):
                tank.connection.send(PUMP, b"true" if number % 2 else b"false", qos=0)
            await tank.publish("wot/tank/events/overflow", 1)
            await until(lambda: gateway.events("overflow"))
        await gateway.wait_for_events(lambda event: event["type"].endswith("device.event.v1"), 1)
        dropped = (await gateway.outbox.depths()).drops[Priority.CHANGE, DropReason.QUOTA]
        assert 10 < dropped == gateway.devices.counts["dropped"] < 40
