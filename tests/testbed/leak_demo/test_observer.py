"""The observer reads by itself: Thing Descriptions, pushes, events, Home Assistant's states."""

import asyncio
from pathlib import Path

import orjson

from process_cosmos_testbed.arrivals import read_lines
from process_cosmos_testbed.broker import Broker
from process_cosmos_testbed.home_assistant.push_service import read_push
from process_cosmos_testbed.scenarios.leak_demo.broker_log import Acknowledged
from process_cosmos_testbed.scenarios.leak_demo.broker_watch import BrokerWatch, scalar
from process_cosmos_testbed.scenarios.leak_demo.evidence import (
    ActionRun,
    DeviceEvent,
    Leak,
    Notified,
    Record,
    ValveCommand,
)
from process_cosmos_testbed.scenarios.leak_demo.home_assistant_watch import HomeAssistantWatch, Watched
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
    watched = Watched(
        sensors=("binary_sensor.floor",), closings={"counter.closings": "valve"}, effects={"counter.pump": "pump"}
    )
    return HomeAssistantWatch("http://nowhere", "token", watched, records.append)


async def test_leaks_commands_and_device_events_are_known_by_their_topics(broker: Broker) -> None:
    records: list[Record] = []
    watch = BrokerWatch(broker.port, records.append)
    before, after = [("leak", b"true")], [("leak", b"true"), ("leak", b"false"), ("leak", b"true"), ("level", b"5")]
    for name, payload in before:
        watch.take(f"wot/s/properties/{name}", payload)
    watch.begin()
    for name, payload in after:
        watch.take(f"wot/s/properties/{name}", payload)
    watch.take("wot/s/events/wet", b"true")
    watch.take("wot/v/properties/open/writeproperty", b"false")
    watch.take("other", b"true")
    assert records == [Leak(sensor="wot/s"), Leak(sensor="wot/s"), ValveCommand(valve="wot/v", closes=True)]
    acknowledged = Acknowledged(
        by_topic={
            "wot/s/properties/leak": {0, 1, 2, 3},
            "wot/s/properties/level": {0},
            "wot/s/events/wet": {0},
            "wot/v/properties/open/writeproperty": {0},
        }
    )
    assert watch.events(acknowledged) == [
        DeviceEvent(device=("wot/s", "leak"), value=False),
        DeviceEvent(device=("wot/s", "leak"), value=True),
        DeviceEvent(device=("wot/s", "wet"), value=True),
    ]


def test_a_payload_is_a_value_or_its_text() -> None:
    assert [scalar(payload) for payload in (b"true", b"1.5", b'"on"', b"online", b"[1]")] == [
        True,
        1.5,
        "on",
        "online",
        "[1]",
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
    observer.close()
    assert orjson.loads((tmp_path / "ledger.jsonl").read_bytes())["what"] == "Notified"


def test_an_event_is_read_alike_from_the_webhook_and_from_the_clouds_ledger() -> None:
    event = {"id": "1", "type": "process_cosmos.device.changed.v1", "subject": "wot/valve"}
    data = {"data": {"device": "wot/valve", "property": "open", "value": False}}
    at_webhook = read_arrival("webhook", {**event, **data, "source": "/sites/S"}, fresh=True)
    at_cloud = read_arrival("cloud", {**event, **data, "site": "S", "duplicate": True}, fresh=False)
    assert at_webhook.source == at_cloud.source == "/sites/S"
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
    home.take_states({"a": {"counter.closings": {"s": "0"}, "counter.pump": {"s": "unknown"}}})
    home.take_states({"c": {"counter.closings": {"+": {"s": "1"}}}})
    home.take_states({"a": {"counter.closings": {"s": "unavailable"}}})
    home.take_states({"a": {"counter.closings": {"s": "3"}, "counter.pump": {"s": "1"}}})
    assert records == [*[ValveCommand(valve="valve", closes=True)] * 3, ActionRun(effect="pump")]


def test_a_sensor_leaks_once_each_time_it_turns_on() -> None:
    records: list[Record] = []
    home = watch(records)
    for state in ("off", "on", "on", "off", "unavailable", "on"):
        home.take_states({"c": {"binary_sensor.floor": {"+": {"s": state}}}})
    home.take_states({"c": {"binary_sensor.floor": {"+": {"a": {"icon": "mdi:water"}}}}})
    assert records == [Leak(sensor="binary_sensor.floor")] * 2
