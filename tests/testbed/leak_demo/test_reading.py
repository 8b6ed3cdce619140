"""The ledger reads what it sees by itself: Thing Descriptions, pushes, events, Home Assistant's states."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from process_cosmos_testbed.scenarios.leak_demo.ledger.arrivals import arrival_of, follow_arrivals
from process_cosmos_testbed.scenarios.leak_demo.ledger.book import Book
from process_cosmos_testbed.scenarios.leak_demo.ledger.evidence import ActionRun, Arrival, Command, Leak
from process_cosmos_testbed.scenarios.leak_demo.ledger.home_watch import HomeWatch, Watched
from process_cosmos_testbed.scenarios.leak_demo.ledger.pushes import button_of, ring_of
from process_cosmos_testbed.scenarios.leak_demo.ledger.things import Saying, scalar, topics_of

DESCRIPTION = {
    "title": "Valve",
    "properties": {
        "open": {
            "type": "boolean",
            "forms": [
                {"href": "mqtt://broker:1883/wot/valve/properties/open", "op": ["readproperty", "observeproperty"]},
                {"href": "mqtt://broker:1883/wot/valve/properties/open/writeproperty", "op": "writeproperty"},
            ],
        },
        "leak": {"type": "boolean", "@type": "Moisture", "forms": [{"href": "wot/valve/properties/leak"}]},
    },
    "events": {"stuck": {"data": {"type": "boolean"}, "forms": [{"href": "mqtt://broker/wot/valve/events/stuck"}]}},
}

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


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    made = Book(tmp_path / "book")
    yield made
    made.close()


def watch(book: Book) -> HomeWatch:
    watched = Watched(
        sensors=("binary_sensor.floor",), closings={"counter.closings": "valve"}, effects={"counter.pump": "pump"}
    )
    return HomeWatch("http://nowhere", "token", watched, book)


def test_a_description_says_what_each_topic_says() -> None:
    topics = topics_of("wot/valve/td", orjson.dumps(DESCRIPTION))
    assert {name: topic.saying for name, topic in topics.items()} == {
        "wot/valve/properties/open": Saying.VALUE,
        "wot/valve/properties/open/writeproperty": Saying.COMMAND,
        "wot/valve/properties/leak": Saying.VALUE,
        "wot/valve/events/stuck": Saying.EVENT,
    }
    assert {topic.device for topic in topics.values()} == {"wot/valve"}
    assert [name for name, topic in topics.items() if topic.moisture] == ["wot/valve/properties/leak"]


def test_what_is_no_description_claims_no_topic() -> None:
    assert topics_of("a", b"true") == topics_of("a", b"{") == topics_of("a", b"{}") == {}


def test_a_payload_is_a_value_or_its_text() -> None:
    assert [scalar(payload) for payload in (b"true", b"1.5", b'"on"', b"online", b"[1]")] == [
        True,
        1.5,
        "on",
        "online",
        "[1]",
    ]


def test_a_push_with_buttons_is_a_ring_and_one_without_is_none() -> None:
    notification = ring_of("ann", PUSH)
    assert notification is not None
    assert (notification.phone, notification.alert, notification.key) == ("ann", "E1", "E1/3")
    assert ring_of("ann", {"message": "clear_notification", "data": {"tag": "E1"}}) is None
    assert button_of(PUSH, "Turn on again") == "cosmos/E1/3/phone/answer/Turn on again"


def test_an_event_is_read_alike_from_the_webhook_and_from_the_clouds_log() -> None:
    event = {"id": "1", "type": "process_cosmos.device.changed.v1", "subject": "wot/valve"}
    data = {"data": {"device": "wot/valve", "property": "open", "value": False}}
    at_webhook = arrival_of("webhook", {**event, **data, "source": "/sites/S"})
    at_cloud = arrival_of("cloud", {**event, **data, "site": "S", "duplicate": True})
    assert at_webhook.source == at_cloud.source == "/sites/S"
    assert at_webhook.device == at_cloud.device == ("wot/valve", "open")
    assert at_webhook.value is at_cloud.value is False
    assert (at_webhook.taken_as_new, at_cloud.taken_as_new) == (None, False)


async def test_the_clouds_log_is_followed_also_when_a_line_is_still_being_written(book: Book, tmp_path: Path) -> None:
    log = tmp_path / "arrivals.log"
    line = orjson.dumps({"id": "1", "type": "t", "site": "S", "duplicate": False}) + b"\n"
    log.write_bytes(line + line[:7])
    following = asyncio.create_task(follow_arrivals(log, book))
    assert await book.until(lambda: len(book.records) == 1, 5)
    with log.open("ab") as file:
        file.write(line[7:])
    assert await book.until(lambda: len(book.records) == 2, 5)
    assert all(isinstance(record, Arrival) for record in book.records)
    following.cancel()


async def test_waiting_for_what_never_comes_ends(book: Book) -> None:
    assert not await book.until(lambda: False, 0.01)


def test_steps_of_a_counter_are_counted_one_by_one_also_those_nobody_saw(book: Book) -> None:
    home = watch(book)
    home.take_states({"a": {"counter.closings": {"s": "0"}, "counter.pump": {"s": "unknown"}}})
    home.take_states({"c": {"counter.closings": {"+": {"s": "1"}}}})
    home.take_states({"a": {"counter.closings": {"s": "unavailable"}}})
    home.take_states({"a": {"counter.closings": {"s": "3"}, "counter.pump": {"s": "1"}}})
    assert book.records == [*[Command(valve="valve", closes=True)] * 3, ActionRun(effect="pump")]


def test_a_sensor_leaks_once_each_time_it_turns_on(book: Book) -> None:
    home = watch(book)
    for state in ("off", "on", "on", "off", "unavailable", "on"):
        home.take_states({"c": {"binary_sensor.floor": {"+": {"s": state}}}})
    home.take_states({"c": {"binary_sensor.floor": {"+": {"a": {"icon": "mdi:water"}}}}})
    assert book.records == [Leak(sensor="binary_sensor.floor")] * 2
