"""The observer reads by itself: messages of devices, pushes, events, Home Assistant's states."""

import asyncio
from functools import partial
from pathlib import Path

import orjson
from paho.mqtt import publish

from process_cosmos_testbed.arrivals import read_lines
from process_cosmos_testbed.broker import Broker
from process_cosmos_testbed.home_assistant.push_service import read_push
from process_cosmos_testbed.processes import until
from process_cosmos_testbed.scenarios.leak_demo.cellar import CELLAR_VALVE
from process_cosmos_testbed.scenarios.leak_demo.evidence import (
    ActionRun,
    DeviceEvent,
    Leak,
    Notified,
    Record,
    ValveCommand,
)
from process_cosmos_testbed.scenarios.leak_demo.home_assistant_watch import HomeAssistantWatch
from process_cosmos_testbed.scenarios.leak_demo.kitchen import connected_kitchen
from process_cosmos_testbed.scenarios.leak_demo.observer import Observer, read_arrival

PUSH = {
    "message": "Water",
    "data": {
        "tag": "E1",
        "actions": [
            {"action": "cosmos/E1/3/phone/answer/Turn on again", "title": "Turn on again"},
            {"action": "cosmos/E1/3/phone/seen/", "title": "Seen"},
        ],
    },
}


def watch(records: list[Record]) -> HomeAssistantWatch:
    return HomeAssistantWatch("http://nowhere", "token", records.append)


def test_what_a_device_did_counts_once_the_destinations_are_set_up(tmp_path: Path) -> None:
    observer = Observer(tmp_path)
    observer.take_message("wot/s", "properties/leak", b"true")
    observer.begin()
    for path, payload in (("leak", b"true"), ("leak", b"false"), ("leak", b"true"), ("level", b"5")):
        observer.take_message("wot/s", f"properties/{path}", payload)
    for _ in range(2):
        observer.take_message("wot/s", "events/wet", b"true")
    assert observer.records == [
        DeviceEvent(device=("wot/s", "leak"), value=False),
        DeviceEvent(device=("wot/s", "leak"), value=True),
        *[DeviceEvent(device=("wot/s", "wet"), value=True)] * 2,
    ]


async def test_the_kitchen_records_what_the_broker_acknowledged_and_what_its_valve_was_told(
    broker: Broker, tmp_path: Path
) -> None:
    observer = Observer(tmp_path)
    async with connected_kitchen(broker.options, observer) as kitchen:
        observer.begin()
        await kitchen.flood()
        single = partial(publish.single, qos=1, hostname="127.0.0.1", port=broker.port)
        await asyncio.to_thread(single, "wot/valve-kitchen/properties/open/writeproperty", b"false")
        await kitchen.until_closed()
        await until(lambda: len(observer.records) > 4, "acknowledged state of the valve", 10)
    assert observer.records == [
        Leak(sensor="wot/leak-kitchen"),
        DeviceEvent(device=("wot/leak-kitchen", "leak"), value=True),
        DeviceEvent(device=("wot/leak-kitchen", "leak_detected"), value=True),
        ValveCommand(valve="wot/valve-kitchen", closes=True),
        DeviceEvent(device=("wot/valve-kitchen", "open"), value=False),
    ]


def test_a_push_has_an_alert_its_revision_and_its_buttons() -> None:
    push = read_push("ann", PUSH, 5.0)
    assert (push.phone, push.alert, push.revision, push.at) == ("ann", "E1", "3", 5.0)
    assert push.buttons["Turn on again"] == "cosmos/E1/3/phone/answer/Turn on again"
    assert not read_push("ann", {"message": "clear_notification", "data": {"tag": "E1"}}, 5.0).buttons


def test_only_a_push_with_buttons_counts_as_a_notification(tmp_path: Path) -> None:
    observer = Observer(tmp_path)
    for body in (PUSH, {"message": "clear_notification", "data": {"tag": "E1"}}):
        observer.take_push(read_push("ann", body, 5.0))
    assert observer.records == [Notified(phone="ann", alert="E1", key="E1/3", at=5.0)]
    assert orjson.loads((tmp_path / "ledger.jsonl").read_bytes())["what"] == "Notified"


def test_an_event_is_read_alike_from_the_webhook_and_from_the_clouds_ledger() -> None:
    event = {"id": "1", "type": "process_cosmos.device.changed.v1", "subject": "wot/valve"}
    data = {"data": {"device": "wot/valve", "property": "open", "value": False}}
    at_webhook = read_arrival("webhook", {**event, **data}, fresh=True)
    at_cloud = read_arrival("cloud", {**event, **data, "site": "S", "duplicate": True}, fresh=False)
    assert at_webhook.device == at_cloud.device == ("wot/valve", "open")
    assert at_webhook.value is at_cloud.value is False
    assert (at_webhook.fresh, at_cloud.fresh) == (True, False)


async def test_lines_are_read_also_when_one_is_still_being_written(tmp_path: Path) -> None:
    file = tmp_path / "lines"
    file.write_bytes(b'{"id": 1}\n{"id"')
    lines = read_lines(file)
    async with asyncio.timeout(5):
        assert await anext(lines) == {"id": 1}
        with file.open("ab") as rest:
            rest.write(b": 2}\n")
        assert await anext(lines) == {"id": 2}


def test_steps_of_a_counter_are_counted_one_by_one_also_those_nobody_saw() -> None:
    records: list[Record] = []
    home = watch(records)
    home.take_states({"a": {"counter.cellar_valve_closings": {"s": "0"}, "counter.pump_restarts": {"s": "unknown"}}})
    home.take_states({"c": {"counter.cellar_valve_closings": {"+": {"s": "1"}}}})
    home.take_states({"a": {"counter.cellar_valve_closings": {"s": "unavailable"}}})
    home.take_states({"a": {"counter.cellar_valve_closings": {"s": "3"}, "counter.pump_restarts": {"s": "1"}}})
    assert records == [*[ValveCommand(valve=CELLAR_VALVE, closes=True)] * 3, ActionRun(effect="pump restarted")]


def test_a_sensor_leaks_once_each_time_it_turns_on() -> None:
    records: list[Record] = []
    home = watch(records)
    for state in ("off", "on", "on", "off", "unavailable", "on"):
        home.take_states({"c": {"binary_sensor.cellar_floor": {"+": {"s": state}}}})
    home.take_states({"c": {"binary_sensor.cellar_floor": {"+": {"a": {"icon": "mdi:water"}}}}})
    assert records == [Leak(sensor="binary_sensor.cellar_floor")] * 2
