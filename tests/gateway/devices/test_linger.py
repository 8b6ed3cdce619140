"""Readings may be acknowledged before they are on disk, within a bound; everything else is on disk first."""

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
from tests.brokers import Broker

from .parts import client, hanging_disk, hearing, ready, until

LEVEL = "wot/tank/properties/level"
WORKER = "wot/tank/properties/pump"
KEPT = "SELECT value FROM device_reading ORDER BY time"
LEVELS = """SELECT device_reading.value FROM device_reading JOIN device_property ON number = property
  WHERE name = 'level' ORDER BY device_reading.time"""
LONG = ReadingOptions(linger=60)
SHORT = ReadingOptions(linger=0.1)


@pytest.fixture
def acknowledged(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The payloads of messages of properties, as they are acknowledged."""
    payloads: list[bytes] = []
    acknowledge = Connection.acknowledge

    def noting(self: Connection, message: Message) -> bool:
        if message.topic in (LEVEL, WORKER):
            payloads.append(message.payload)
        return acknowledge(self, message)

    monkeypatch.setattr(Connection, "acknowledge", noting)
    return payloads


async def test_a_reading_is_acknowledged_before_its_commit_a_change_after_and_all_in_order(
    broker: Broker, tmp_path: Path, acknowledged: list[bytes]
) -> None:
    async with hearing(tmp_path, broker.options, readings=LONG) as heard, client(broker.options) as tank:
        await ready(heard, tank)
        await until(lambda: acknowledged == [b"0"])
        async with hanging_disk(heard):
            await tank.say(LEVEL, 1)
            await until(lambda: acknowledged == [b"0", b"1"])
            await tank.say(WORKER, True)
            await tank.say(LEVEL, 2)
            await until(lambda: heard.value("wot/tank", "level") == 2)
            assert acknowledged == [b"0", b"1"]
        await until(lambda: acknowledged == [b"0", b"1", b"true", b"2"])
        assert (1,) in await heard.rows(KEPT)  # it went with the change


async def test_without_linger_a_reading_is_on_disk_before_it_is_acknowledged(
    broker: Broker, tmp_path: Path, acknowledged: list[bytes]
) -> None:
    readings = ReadingOptions(linger=0)
    async with hearing(tmp_path, broker.options, readings=readings) as heard, client(broker.options) as tank:
        await ready(heard, tank)
        async with hanging_disk(heard):
            await tank.say(LEVEL, 1)
            await until(lambda: heard.value("wot/tank", "level") == 1)
            assert acknowledged == [b"0"]
        await until(lambda: acknowledged == [b"0", b"1"])


async def test_readings_are_written_together_once_the_first_has_waited_long_enough(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings = ReadingOptions(linger=0.5)
    async with hearing(tmp_path, broker.options, readings=readings) as heard, client(broker.options) as tank:
        await ready(heard, tank)
        batches: list[int] = []
        apply_batch = message_writer._apply_batch

        def noting(
            transaction: Transaction, batch: Sequence[message_writer.PendingWrite], unconfirmed: Sequence[bytes]
        ) -> None:
            batches.append(sum(pending.is_reading for pending in batch))
            apply_batch(transaction, batch, unconfirmed)

        monkeypatch.setattr(message_writer, "_apply_batch", noting)
        for value in range(1, 8):
            await tank.say(LEVEL, value)
        await heard.until_rows(KEPT, [(value,) for value in range(1, 8)])
        assert sum(batches) == 7
        assert sum(map(bool, batches)) <= 3


async def test_once_a_reading_has_waited_too_long_the_next_ones_are_acknowledged_after_their_commit(
    broker: Broker, tmp_path: Path, acknowledged: list[bytes]
) -> None:
    async with hearing(tmp_path, broker.options, readings=SHORT) as heard, client(broker.options) as tank:
        await ready(heard, tank)
        async with hanging_disk(heard):
            await tank.say(LEVEL, 1)
            await until(lambda: acknowledged[1:] == [b"1"])
            await until(lambda: heard.devices._writer._committing_since is not None)
            await tank.say(LEVEL, 2)
            await until(lambda: heard.value("wot/tank", "level") == 2)
            assert acknowledged[1:] == [b"1"]
        await until(lambda: acknowledged[1:] == [b"1", b"2"])


async def test_a_stop_loses_no_acknowledged_reading(broker: Broker, tmp_path: Path, acknowledged: list[bytes]) -> None:
    async with client(broker.options) as tank:
        async with hearing(tmp_path, broker.options, readings=LONG) as heard:
            await ready(heard, tank)
            for value in range(1, 51):
                await tank.say(LEVEL, value)
            await until(lambda: len(acknowledged) == 51)
            assert (50,) not in await heard.rows(KEPT)
        async with hearing(tmp_path, broker.options, readings=LONG) as heard:
            assert await heard.rows(KEPT) == [(value,) for value in range(1, 51)]
            assert heard.value("wot/tank", "level") == 50


async def test_a_stop_in_the_midst_of_a_commit_loses_and_doubles_nothing(
    broker: Broker, tmp_path: Path, acknowledged: list[bytes]
) -> None:
    async with client(broker.options) as tank:
        async with hearing(tmp_path, broker.options, readings=LONG) as heard:
            await ready(heard, tank)
            hanging = hanging_disk(heard)
            await hanging.__aenter__()
            await tank.say(LEVEL, 1)
            await tank.say(WORKER, True)
            await tank.say(LEVEL, 2)
            await until(lambda: heard.value("wot/tank", "level") == 2)
            asyncio.get_running_loop().call_later(0.1, asyncio.ensure_future, hanging.__aexit__(None, None, None))
        async with hearing(tmp_path, broker.options, readings=LONG) as heard:
            assert await heard.rows(KEPT) == [(1,), (1,), (2,)]  # that in the middle is the pump's
            await heard.until_drained(lambda event: event["type"].endswith("device.changed.v1"), 1)


async def test_a_stop_while_the_disk_fails_writes_nothing_that_came_after_what_is_not_written(
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
        async with hearing(tmp_path, broker.options) as heard:
            await ready(heard, tank)
            await until(lambda: not heard.devices._writer._unacknowledged)
            monkeypatch.setattr(message_writer, "_RETRY_SECONDS", 0.01)
            monkeypatch.setattr(message_writer.MessageWriter, "_write", fail_until_after_the_stop)
            await tank.say(WORKER, True)
            await until(lambda: tries[False])
            await tank.say(WORKER, False)
            await until(lambda: heard.value("wot/tank", "pump") is False)
        monkeypatch.setattr(message_writer.MessageWriter, "_write", write)
        async with hearing(tmp_path, broker.options) as heard:
            changed = await heard.until_drained(lambda event: event["type"].endswith("device.changed.v1"), 2)
            assert [event["data"]["value"] for event in changed] == [True, False]


async def test_where_too_much_waits_the_oldest_readings_make_room_are_counted_and_hold_nothing_back(
    broker: Broker, tmp_path: Path, acknowledged: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(message_writer, "MAX_PENDING_BYTES", 5_000)
    async with hearing(tmp_path, broker.options, readings=LONG) as heard, client(broker.options) as tank:
        await ready(heard, tank)
        async with hanging_disk(heard):
            await tank.say(WORKER, True)
            for value in range(1, 101):
                await tank.say(LEVEL, value)
            await tank.say(WORKER, False)
            await until(lambda: heard.value("wot/tank", "pump") is False)
        await until(lambda: len(acknowledged) == 103)
        numbers = [value for (value,) in await heard.rows(LEVELS)]
        dropped = heard.devices.counts["dropped"]
        assert dropped == 100 - len(numbers) > 50
        assert numbers[-1] == 100
        assert (await heard.outbox.depths()).drops == {(Priority.READING, DropReason.QUOTA): dropped}
        pumps = [event["data"]["value"] for event in await heard.drained() if event["type"].endswith("changed.v1")]
        assert pumps == [True, False]


async def test_changes_without_acknowledgement_are_dropped_only_when_nothing_else_makes_room(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(message_writer, "MAX_PENDING_BYTES", 1_000)
    monkeypatch.setattr(message_writer, "_MAX_PENDING_CHANGE_BYTES", 3_000)
    async with hearing(tmp_path, broker.options, readings=LONG) as heard, client(broker.options) as tank:
        await ready(heard, tank)
        async with hanging_disk(heard):
            for number in range(40):
                tank.connection.send(WORKER, b"true" if number % 2 else b"false", qos=0)
            await tank.say("wot/tank/events/overflow", 1)
            await until(lambda: heard.events("overflow"))
        await heard.until_drained(lambda event: event["type"].endswith("device.event.v1"), 1)
        dropped = (await heard.outbox.depths()).drops[Priority.CHANGE, DropReason.QUOTA]
        assert 10 < dropped == heard.devices.counts["dropped"] < 40
