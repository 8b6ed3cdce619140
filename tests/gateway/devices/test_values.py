"""Parsing of payloads, and merging of values into a twin."""

import math

import orjson
import pytest

from process_cosmos_gateway.contract.devices import Device, Property, PropertyKind, Value
from process_cosmos_gateway.devices.things.twin import is_transition, newest_reading, write_problem
from process_cosmos_gateway.devices.things.values import (
    MAX_BYTES,
    MAX_TEXT_BYTES,
    GarbageError,
    Reading,
    parse_readings,
)

NOW = 1_800_000_000.0
NUMBER, BOOLEAN, TEXT = PropertyKind.NUMBER, PropertyKind.BOOLEAN, PropertyKind.TEXT


def read(kind: PropertyKind, document: object) -> list[tuple[Value, float]]:
    payload = document if isinstance(document, bytes) else orjson.dumps(document)
    return [(reading.value, reading.time) for reading in parse_readings(kind, payload, NOW)]


@pytest.mark.parametrize(
    ("kind", "document"), [(BOOLEAN, True), (NUMBER, 21.5), (NUMBER, 7), (NUMBER, -0.0), (TEXT, "wet"), (TEXT, "")]
)
def test_a_json_value_has_the_time_of_receipt(kind: PropertyKind, document: Value) -> None:
    assert read(kind, document) == [(document, NOW)]


def test_senml_has_the_times_of_the_device() -> None:
    document = [
        {"bn": "urn:dev:1:", "bt": NOW - 100, "bv": 20, "v": 1.5},
        {"t": 10, "v": 2},
        {"u": "Cel", "t": 20},
        {"bt": 0, "bv": 0, "t": -5, "v": 3},
    ]
    assert read(NUMBER, document) == [(21.5, NOW - 100), (22.0, NOW - 90), (3.0, NOW - 5)]
    assert read(BOOLEAN, [{"vb": True, "t": NOW - 1}]) == [(True, NOW - 1)]
    assert read(TEXT, [{"vs": "a", "bver": 10}]) == [("a", NOW)]


def test_times_beyond_the_calendar_are_limited() -> None:
    assert read(NUMBER, [{"v": 1, "t": 1e300}, {"v": 1, "t": -1e300}])[1][1] == 0.0


@pytest.mark.parametrize(
    ("kind", "document"),
    [
        (BOOLEAN, b""),
        (BOOLEAN, b"ON"),
        (BOOLEAN, 1),
        (BOOLEAN, "true"),
        (NUMBER, True),
        (NUMBER, b"NaN"),
        (NUMBER, b"1e999"),
        (NUMBER, b"Infinity"),
        (NUMBER, "21"),
        (NUMBER, {"value": 1}),
        (NUMBER, None),
        (TEXT, 5),
        (TEXT, b'"\xff"'),
        (TEXT, b'"' + b"a" * MAX_BYTES + b'"'),
        (TEXT, "a" * (MAX_TEXT_BYTES + 1)),
        (TEXT, "\0" * (MAX_TEXT_BYTES // 6 + 1)),
        (TEXT, [{"vs": "ä" * (MAX_TEXT_BYTES // 2 + 1)}]),
        (NUMBER, b"[" * 100_000),
        (NUMBER, []),
        (NUMBER, [5]),
        (NUMBER, [{"vs": "x"}]),
        (NUMBER, [{"v": "x"}]),
        (NUMBER, [{"v": 1, "t": "now"}]),
        (NUMBER, [{"v": 1, "bver": 11}]),
        (NUMBER, [{"v": 1, "must_": 1}]),
        (BOOLEAN, [{"vb": 1}]),
    ],
)
def test_garbage_is_refused(kind: PropertyKind, document: object) -> None:
    with pytest.raises(GarbageError):
        read(kind, document)


def test_numbers_too_long_for_the_store_become_floats() -> None:
    ((value, _),) = read(NUMBER, b"18446744073709551615")
    assert isinstance(value, float)
    assert value > 2**63


def reading(value: Value, time: float) -> Reading:
    return Reading(value=value, time=time)


def test_a_backlog_does_not_replace_a_newer_value() -> None:
    held = reading(5, NOW - 10)
    assert newest_reading(held, [reading(1, NOW - 100), reading(2, NOW - 50)], NOW) is held
    assert newest_reading(held, [reading(1, NOW - 100), reading(2, NOW - 5)], NOW).value == 2
    assert newest_reading(None, [reading(1, NOW - 100)], NOW).value == 1


def test_a_time_from_the_future_does_not_outlive_the_next_value() -> None:
    ahead = newest_reading(None, [reading(1, NOW + 1e6)], NOW)
    assert ahead.time == NOW
    assert newest_reading(ahead, [reading(2, NOW + 1)], NOW + 1).value == 2


def test_a_clock_set_back_does_not_freeze_a_value() -> None:
    assert newest_reading(reading(1, NOW + 5000), [reading(2, NOW)], NOW).value == 2


def test_only_booleans_that_change_are_transitions() -> None:
    assert is_transition(BOOLEAN, None, reading(False, NOW))
    assert is_transition(BOOLEAN, reading(False, NOW), reading(True, NOW))
    assert not is_transition(BOOLEAN, reading(True, NOW), reading(True, NOW + 1))
    assert not is_transition(NUMBER, reading(1, NOW), reading(2, NOW))


@pytest.mark.parametrize(
    ("kind", "value", "fits"),
    [
        (BOOLEAN, True, True),
        (BOOLEAN, 1, False),
        (NUMBER, 5, True),
        (NUMBER, 4.9, False),
        (NUMBER, 10.1, False),
        (NUMBER, True, False),
        (NUMBER, "5", False),
        (NUMBER, math.nan, False),
        (TEXT, "x" * MAX_TEXT_BYTES, True),
        (TEXT, "x" * (MAX_TEXT_BYTES + 1), False),
        (TEXT, 5, False),
    ],
)
def test_a_write_must_fit_its_property(kind: PropertyKind, value: Value, fits: bool) -> None:  # noqa: FBT001 - a table
    described = Property(name="x", title="X", kind=kind, minimum=5, maximum=10)
    assert (write_problem(Device(id="d", title="D", properties=(described,)), "x", value) is None) is fits


@pytest.mark.parametrize(("value", "fits"), [(20, True), (20.0, True), (20.5, False)])
def test_only_whole_numbers_are_written_to_an_integer(value: float, fits: bool) -> None:  # noqa: FBT001 - a table
    described = Property(name="x", title="X", kind=NUMBER, integer=True)
    assert (write_problem(Device(id="d", title="D", properties=(described,)), "x", value) is None) is fits
