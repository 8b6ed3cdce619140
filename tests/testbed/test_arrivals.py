"""What the ledger reads out of the events destinations get."""

from typing import Any

import pytest

from process_cosmos_gateway.contract.destinations import Priority
from process_cosmos_testbed.arrivals import arrivals_of
from process_cosmos_testbed.ledger import UNNUMBERED, Arrival, Item

CHANGE, READING = Priority.CHANGE, Priority.READING


def read(kind: str, data: Any, subject: str = "wot/sensor-0") -> list[tuple[Item, float | None]]:  # noqa: ANN401 - JSON
    event = {"id": "01", "type": kind, "subject": subject, "data": data}
    arrivals = list(arrivals_of(event, fresh=True))
    assert all(isinstance(arrival, Arrival) and arrival.event == "01" and arrival.fresh for arrival in arrivals)
    return [(arrival.item, arrival.at) for arrival in arrivals]


def test_an_alert_is_known_by_how_often_it_was_called() -> None:
    found = read("process_cosmos.alert.updated.v1", {"count": 3}, "01KAP")
    assert found == [(Item(Priority.URGENT, "01KAP", 3), None)]


def test_a_tick_is_known_by_its_number() -> None:
    data = {"device": "wot/sensor-0", "event": "tick", "value": 7}
    assert read("process_cosmos.device.event.v1", data) == [(Item(CHANGE, "wot/sensor-0", 7), None)]


def test_a_tick_says_whether_it_may_be_a_repeat() -> None:
    data = {"device": "wot/sensor-0", "event": "tick", "value": 7}
    event = {"id": "01", "type": "process_cosmos.device.event.v1", "subject": "wot/sensor-0", "data": data}
    [once] = arrivals_of(event, fresh=True)
    [again] = arrivals_of({**event, "data": {**data, "possible_repeat": True}}, fresh=True)
    assert (once.marked, again.marked) == (False, True)


def test_a_pulse_has_no_number_and_a_key_of_its_own() -> None:
    data = {"device": "wot/sensor-0", "event": "pulse", "value": True}
    assert read("process_cosmos.device.event.v1", data) == [(Item(CHANGE, "wot/sensor-0/pulse", UNNUMBERED), None)]


def test_a_programs_event_is_known_by_its_number() -> None:
    found = read("testbed.numbered.v1", {"priority": "urgent", "number": 2}, "program-1")
    assert found == [(Item(Priority.URGENT, "program-1", 2), None)]


def test_readings_keep_their_devices_time() -> None:
    reading = {"time": "2026-11-22T10:00:00.250Z", "value": 5}
    data = {"device": "wot/sensor-0", "property": "level", "readings": [reading]}
    assert read("process_cosmos.reading.v1", data) == [(Item(READING, "wot/sensor-0", 5), 1795341600.25)]


def test_a_pack_is_read_with_its_base_fields() -> None:
    pack = [
        {"bn": "wot%2Fsensor-0/", "bt": 100.0, "n": "level", "v": 1},
        {"n": "level", "t": 0.5, "v": 2},
        {"n": "other", "t": 0.6, "v": 3},
        {"bn": "wot%2Fsensor-1/", "bv": 10, "n": "level", "v": 4},
    ]
    assert read("process_cosmos.readings.v1", pack) == [
        (Item(READING, "wot/sensor-0", 1), 100.0),
        (Item(READING, "wot/sensor-0", 2), 100.5),
        (Item(READING, "wot/sensor-1", 14), 100.0),
    ]


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("process_cosmos.alert.reconciled.v1", {"count": 3}),
        ("process_cosmos.device.changed.v1", {"device": "wot/sensor-0", "online": False}),
        ("process_cosmos.device.event.v1", {"device": "wot/sensor-0", "event": "ballast", "value": 7}),
        ("process_cosmos.reading.v1", {"device": "wot/sensor-0", "property": "other", "readings": []}),
    ],
)
def test_events_without_a_number_of_a_producer_are_ignored(kind: str, data: object) -> None:
    assert read(kind, data) == []
