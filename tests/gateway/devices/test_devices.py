"""Devices on a real broker: changes for Home Assistant, stored rows, events for destinations."""

import asyncio
from itertools import dropwhile
from pathlib import Path

import pytest

from process_cosmos_gateway.contract.devices import (
    AvailabilityChanged,
    DeviceChanged,
    DeviceRemoved,
    Hint,
    ValueChanged,
)
from process_cosmos_gateway.devices.things.description import AVAILABILITY
from process_cosmos_gateway.errors import StoreError
from process_cosmos_testbed.broker import Broker
from process_cosmos_testbed.virtual_devices.kinds import LeakSensor, TemperatureSensor, Valve
from tests.support.waiting import until

from .parts import client, description, description_of, running_devices

TD = "wot/tank/td"
LEVEL = "wot/tank/properties/level"
PUMP = "wot/tank/properties/pump"
READINGS = """SELECT name, device_reading.value FROM device_reading
  JOIN device_property ON number = property ORDER BY device_reading.time"""


async def test_a_device_appears_with_its_values_and_its_availability(broker: Broker, tmp_path: Path) -> None:
    async with (
        running_devices(tmp_path / "data", broker.options) as gateway,
        LeakSensor(broker.options, "leak-1", "Leak"),
    ):
        await until(lambda: gateway.value("wot/leak-1", "leak") is False)
        device = gateway.device("wot/leak-1")
        assert device is not None
        assert (device.title, device.online, device.properties[0].hint) == ("Leak", True, Hint.MOISTURE)
        assert isinstance(gateway.changes[0], DeviceChanged)


async def test_a_change_is_reported_before_it_is_on_disk(broker: Broker, tmp_path: Path) -> None:
    async with (
        running_devices(tmp_path / "data", broker.options) as gateway,
        LeakSensor(broker.options, "leak-1") as sensor,
    ):
        await until(lambda: gateway.value("wot/leak-1", "leak") is False)
        blocked = asyncio.Event()
        loop = asyncio.get_running_loop()
        release = asyncio.run_coroutine_threadsafe
        hold = asyncio.create_task(
            gateway.store.write(lambda _: release(blocked.wait(), loop).result(10))
        )  # the writer's thread waits
        await sensor.set(True)
        await until(lambda: gateway.values("leak")[-1:] == [True])
        assert not hold.done()
        assert (True,) not in await gateway.rows("SELECT value = 'true' FROM device_property")
        blocked.set()
        await hold
        await gateway.wait_for_rows("SELECT CAST(value AS TEXT) FROM device_property", [("true",)])


async def test_transitions_device_events_and_readings_reach_destinations_in_order(
    broker: Broker, tmp_path: Path
) -> None:
    async with (
        running_devices(tmp_path / "data", broker.options) as gateway,
        LeakSensor(broker.options, "leak-1", "Leak") as sensor,
        TemperatureSensor(broker.options, "temperature-1", "Cellar") as temperature,
    ):
        await until(lambda: gateway.value("wot/temperature-1", "temperature") == 20.0)
        await until(lambda: gateway.value("wot/leak-1", "leak") is False)
        for wet in (True, False, True):
            await sensor.set(wet)
        await temperature.set(21.5)
        leak = {"device": "wot/leak-1", "title": "Leak", "property": "leak"}
        readings = await gateway.wait_for_events(
            lambda each: isinstance(each["data"], list) and each["data"][-1]["v"] == 21.5, 1
        )
        await gateway.wait_for_events(lambda each: each["data"] == {**leak, "value": True}, 2)
        events = [each for each in gateway.delivered if each["subject"] == "wot/leak-1"]
        changes = list(dropwhile(lambda each: each["data"].get("value") is not True, events))
        assert [(each["type"], each["data"]) for each in changes[:3]] == [
            ("process_cosmos.device.changed.v1", {**leak, "value": True}),
            (
                "process_cosmos.device.event.v1",
                {"device": "wot/leak-1", "title": "Leak", "event": "leak_detected", "value": True},
            ),
            ("process_cosmos.device.changed.v1", {**leak, "value": False}),
        ]
        assert readings[-1]["type"] == "process_cosmos.readings.v1"
        assert readings[-1]["data"][-1]["n"] == "wot%2Ftemperature-1/temperature"
        assert readings[-1]["data"][-1]["u"] == "°C"


async def test_every_raw_reading_is_stored_also_unchanged_ones(broker: Broker, tmp_path: Path) -> None:
    async with running_devices(tmp_path / "data", broker.options) as gateway, client(broker.options) as tank:
        await tank.publish(TD, description(), retain=True)
        await until(lambda: gateway.device("wot/tank"))
        await tank.publish("wot/marker/td", description_of("marker"), retain=True)
        await until(lambda: gateway.device("wot/marker"))
        for value in (1, 1, 2.5):
            await tank.publish(LEVEL, value)
        await gateway.wait_for_rows(READINGS, [("level", 1), ("level", 1), ("level", 2.5)])
        assert gateway.values("level") == [1, 2.5]


async def test_a_backlog_in_senml_is_stored_with_its_times_and_merged(broker: Broker, tmp_path: Path) -> None:
    backlog = [{"bt": 1_700_000_000, "v": 1}, {"t": 60, "v": 2}]
    async with running_devices(tmp_path / "data", broker.options) as gateway, client(broker.options) as tank:
        await tank.publish(TD, description(), retain=True)
        await until(lambda: gateway.device("wot/tank"))
        await tank.publish(LEVEL, 7, retain=True)
        await until(lambda: gateway.value("wot/tank", "level") == 7)
        for document in (backlog, backlog, [{"bt": 1_700_000_000, "v": 9}]):
            await tank.publish(LEVEL, document)
        await gateway.wait_for_rows(
            "SELECT time, value FROM device_reading WHERE time < 1750000000 ORDER BY time, value",
            [(1_700_000_000.0, 1.0), (1_700_000_000.0, 9.0), (1_700_000_060.0, 2.0)],
        )
        assert gateway.value("wot/tank", "level") == 7


async def test_a_retained_value_sets_state_and_is_no_reading(broker: Broker, tmp_path: Path) -> None:
    async with client(broker.options) as tank:
        await tank.publish(TD, description(), retain=True)
        await tank.publish(LEVEL, 5, retain=True)
        async with running_devices(tmp_path / "data", broker.options) as gateway:
            await until(lambda: gateway.value("wot/tank", "level") == 5)
            await tank.publish("wot/tank/events/overflow", None)
            await until(lambda: gateway.events("overflow"))
            assert await gateway.rows(READINGS) == []


async def test_a_last_will_makes_the_device_offline(broker: Broker, tmp_path: Path) -> None:
    async with (
        running_devices(tmp_path / "data", broker.options) as gateway,
        LeakSensor(broker.options, "leak-1") as sensor,
    ):
        await until(lambda: (device := gateway.device("wot/leak-1")) and device.online)
        await sensor.vanish()
        await until(lambda: AvailabilityChanged(sequence=0, device="wot/leak-1", online=False) in gateway.changes)
        await until(lambda: (device := gateway.device("wot/leak-1")) and device.online)
        assert {"device": "wot/leak-1", "title": "leak-1", "online": False} in [
            each["data"] for each in await gateway.drain()
        ]


async def test_a_withdrawn_description_removes_the_device(broker: Broker, tmp_path: Path) -> None:
    async with running_devices(tmp_path / "data", broker.options) as gateway, client(broker.options) as tank:
        await tank.publish(TD, description(), retain=True)
        await until(lambda: gateway.device("wot/tank"))
        await tank.publish(TD, b"", retain=True)
        await until(lambda: DeviceRemoved(sequence=0, device="wot/tank") in gateway.changes)
        assert gateway.devices.devices() == ()
        await gateway.wait_for_rows("SELECT count(*) FROM device", [(0,)])


async def test_devices_values_and_availability_survive_a_restart_without_the_broker(
    broker: Broker, tmp_path: Path
) -> None:
    async with running_devices(tmp_path / "data", broker.options) as gateway, client(broker.options) as tank:
        await tank.publish(TD, description(**{AVAILABILITY: {"href": "mqtt://x/wot/tank/availability"}}), retain=True)
        await tank.publish("wot/tank/availability", b"online", retain=True)
        await tank.publish(PUMP, True, retain=True)
        await until(lambda: gateway.value("wot/tank", "pump"))
        await until(lambda: (device := gateway.device("wot/tank")) and device.online)
        before = gateway.devices.devices()
        await gateway.wait_for_rows("SELECT online FROM device", [(1,)])
        await gateway.wait_for_rows("SELECT count(*) FROM device_property WHERE value IS NOT NULL", [(1,)])
    await broker.stop()
    async with running_devices(tmp_path / "data", broker.options, connected=False) as gateway:
        assert gateway.devices.devices() == before
        assert not gateway.devices.broker_connected


async def test_messages_sent_while_the_gateway_was_not_running_are_received_when_it_is_back(
    broker: Broker, tmp_path: Path
) -> None:
    async with client(broker.options) as tank:
        async with running_devices(tmp_path / "data", broker.options) as gateway:
            await tank.publish(TD, description(), retain=True)
            await until(lambda: gateway.device("wot/tank"))
            await tank.publish(LEVEL, 0, retain=True)
            await until(lambda: gateway.value("wot/tank", "level") == 0)
            await gateway.wait_until_acknowledged(tank, LEVEL, -1)
        for value in range(1, 50):
            await tank.publish(LEVEL, value)
        async with running_devices(tmp_path / "data", broker.options) as gateway:
            await until(lambda: gateway.value("wot/tank", "level") == 49)
            assert gateway.values("level") == list(range(1, 50))
            assert gateway.devices.gaps == 0


async def test_a_broker_that_lost_its_sessions_is_logged_and_devices_continue(
    broker: Broker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        running_devices(tmp_path / "data", broker.options) as gateway,
        LeakSensor(broker.options, "leak-1") as sensor,
    ):
        await until(lambda: gateway.value("wot/leak-1", "leak") is False)
        await broker.kill()
        broker.forget()
        await until(lambda: not gateway.devices.broker_connected)
        await broker.start()
        await until(lambda: gateway.devices.broker_connected)
        assert gateway.devices.gaps == 1
        assert "lost our session" in caplog.text
        await sensor.set(True)
        await until(lambda: gateway.value("wot/leak-1", "leak"))


async def test_devices_are_offline_when_the_broker_stays_away(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("process_cosmos_gateway.devices.service.AWAY_SECONDS", 0.05)
    async with running_devices(tmp_path / "data", broker.options) as gateway, client(broker.options) as tank:
        await tank.publish(TD, description(), retain=True)
        await until(lambda: gateway.device("wot/tank"))
        await broker.stop()
        await until(lambda: AvailabilityChanged(sequence=0, device="wot/tank", online=False) in gateway.changes)
        device = gateway.device("wot/tank")
        assert device is not None
        assert device.online is False
        await broker.start()
        await until(lambda: AvailabilityChanged(sequence=0, device="wot/tank", online=None) in gateway.changes)


async def test_garbage_is_counted_logged_without_its_content_and_acknowledged(
    broker: Broker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running_devices(tmp_path / "data", broker.options) as gateway, client(broker.options) as tank:
        await tank.publish(TD, description(**{AVAILABILITY: {"href": "mqtt://x/wot/tank/availability"}}), retain=True)
        await until(lambda: gateway.device("wot/tank"))
        await tank.publish(LEVEL, 1, retain=True)
        await until(lambda: gateway.value("wot/tank", "level") == 1)
        for payload in (b"canary-secret", b'"canary-secret"', b"\xff\xfe", b"1e999", b"[" * 5000):
            await tank.publish(LEVEL, payload)
        await tank.publish("wot/tank/availability", b"perhaps")
        await tank.publish("wot/tank/events/overflow", b"canary-secret{")
        await tank.publish(LEVEL, b"x" * (1 << 18))
        await gateway.wait_until_acknowledged(tank, LEVEL, 2)
        assert gateway.devices.counts["garbage"] == 8
        assert "canary" not in caplog.text
        assert sum("Ignored a message" in line for line in caplog.text.splitlines()) == 3
    async with running_devices(tmp_path / "data", broker.options) as gateway, client(broker.options, "marker") as tank:
        await tank.publish(LEVEL, 4)
        await until(lambda: gateway.value("wot/tank", "level") == 4)
        assert gateway.devices.counts["garbage"] == 0


async def test_a_hostile_description_does_not_affect_other_devices(
    broker: Broker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spying = description_of("tank", title="Spy")
    async with running_devices(tmp_path / "data", broker.options) as gateway, client(broker.options) as publisher:
        await publisher.publish(TD, description(), retain=True)
        await until(lambda: gateway.device("wot/tank"))
        for topic, payload in (
            ("wot/spy/td", spying),
            ("wot", spying),
            ("wot/sys/td", {**spying, "properties": {"x": {"type": "string", "forms": [{"href": "mqtt://b/$SYS/a"}]}}}),
            (
                "wot/all/td",
                {**spying, "properties": {"x": {"type": "string", "forms": [{"href": "mqtt://b/wot/all/#"}]}}},
            ),
            (TD, b"garbage"),
            (TD, b"[" * 100_000),
            ("wot/big/td", b'{"title":"' + b"a" * 300_000 + b'"}'),
            ("something", b"else"),
        ):
            await publisher.publish(topic, payload, retain=True)
        await publisher.publish("wot/last/td", description_of("last"), retain=True)
        await until(lambda: gateway.device("wot/last"))
        assert {device.id for device in gateway.devices.devices()} == {"wot/tank", "wot/last"}
        device = gateway.device("wot/tank")
        assert device is not None
        assert device.title == "Tank"
        assert gateway.devices.counts["topic_taken"] == 4
        assert gateway.devices.counts["description_invalid"] == 3
        assert "something" not in caplog.text


async def test_a_new_description_keeps_the_values_of_remaining_properties(broker: Broker, tmp_path: Path) -> None:
    async with running_devices(tmp_path / "data", broker.options) as gateway, client(broker.options) as tank:
        first = description()
        await tank.publish(TD, first, retain=True)
        await until(lambda: gateway.device("wot/tank"))
        await tank.publish(LEVEL, 4, retain=True)
        await tank.publish(PUMP, True, retain=True)
        await until(lambda: gateway.value("wot/tank", "level") == 4)
        await until(lambda: gateway.value("wot/tank", "pump"))
        second = {**first, "title": "New tank", "properties": {"level": first["properties"]["level"]}}
        await tank.publish(TD, second, retain=True)
        await until(lambda: (device := gateway.device("wot/tank")) and device.title == "New tank")
        assert gateway.value("wot/tank", "level") == 4
        await tank.publish(PUMP, False)
        await tank.publish(LEVEL, 5)
        await until(lambda: gateway.value("wot/tank", "level") == 5)
        assert gateway.values("pump") == [True]


async def test_an_invalid_stored_description_removes_its_device_only(
    broker: Broker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running_devices(tmp_path / "data", broker.options) as gateway, client(broker.options) as tank:
        for name in ("tank", "other"):
            await tank.publish(f"wot/{name}/td", description_of(name))
        await gateway.wait_for_rows("SELECT count(*) FROM device", [(2,)])
        await gateway.store.write(
            lambda transaction: transaction.run("UPDATE device SET description = x'7b7d' WHERE id = 'wot/tank'")
        )
    async with running_devices(tmp_path / "data", broker.options) as gateway:
        assert [device.id for device in gateway.devices.devices()] == ["wot/other"]
        assert "Ignored the stored description at wot/tank/td" in caplog.text


async def test_without_a_broker_there_are_no_devices(tmp_path: Path) -> None:
    async with running_devices(tmp_path / "data", None, connected=False) as gateway:
        assert gateway.devices.devices() == ()
        assert not gateway.devices.broker_connected


async def test_each_message_has_a_key_of_its_own(broker: Broker, tmp_path: Path) -> None:
    async with (
        running_devices(tmp_path / "data", broker.options) as gateway,
        LeakSensor(broker.options, "leak-1") as sensor,
    ):
        await until(lambda: gateway.value("wot/leak-1", "leak") is False)
        await sensor.set(True)
        await until(lambda: gateway.events("leak_detected"))
        change = gateway.changes[-2]
        assert isinstance(change, ValueChanged)
        event = gateway.events("leak_detected")[0]
        assert change.key
        assert event.key
        assert change.key != event.key
        assert (change.redelivered, event.redelivered) == (False, False)


async def test_while_the_disk_fails_messages_stay_at_the_broker(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("process_cosmos_gateway.devices.message_writer._RETRY_SECONDS", 0.05)
    async with running_devices(tmp_path / "data", broker.options) as gateway, Valve(broker.options, "valve-1") as valve:
        await until(lambda: gateway.value("wot/valve-1", "open"))
        await gateway.wait_for_rows("SELECT count(*) FROM device", [(1,)])
        write, failures = gateway.store.write, [1, 2, 3]

        async def failing(change):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 - as Store.write
            if failures:
                failures.pop()
                raise StoreError("no space left")
            return await write(change)

        monkeypatch.setattr(gateway.store, "write", failing)
        await valve.report("open", False)
        await gateway.wait_for_rows("SELECT CAST(value AS TEXT) FROM device_property", [("false",)])
        assert not failures
        assert caplog.text.count("could not be stored") == 3
