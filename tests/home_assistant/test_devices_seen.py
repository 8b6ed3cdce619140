"""The state of devices, without Home Assistant."""

from dataclasses import replace

import pytest

from custom_components.process_cosmos.contract.devices import (
    Device,
    EventHappened,
    Property,
    PropertyKind,
    Snapshot,
    ValueChanged,
)
from custom_components.process_cosmos.gateway.devices import DeviceStates, DeviceUpdate

WET = DeviceUpdate(device="leak-1", property="wet")


def said(*, sequence: int, wet: bool, key: str | None, redelivered: bool = False) -> ValueChanged:
    return ValueChanged(
        sequence=sequence, device="leak-1", property="wet", value=wet, age=0.0, key=key, redelivered=redelivered
    )


def snapshot(sequence: int, *, wet: bool) -> Snapshot:
    item = Property(name="wet", title="wet", kind=PropertyKind.BOOLEAN, value=wet)
    return Snapshot(sequence=sequence, devices=(Device(id="leak-1", title="Leak", properties=(item,)),))


def things() -> DeviceStates:
    found = DeviceStates()
    found.apply_snapshot(snapshot(1, wet=False))
    return found


def test_a_sensor_stays_wet_although_the_gateway_was_killed_before_its_commit() -> None:
    found = things()
    found.apply_change(said(sequence=2, wet=True, key="s-7-h"), 1.0)
    found.apply_snapshot(snapshot(1000, wet=False))  # the restarted gateway sends what its database holds
    assert found.apply_change(said(sequence=1001, wet=True, key="s-7-h", redelivered=True), 3.0) == WET
    assert found.by_id["leak-1"].values == {"wet": True}


@pytest.mark.parametrize("redelivered", [True, False])
def test_a_value_equal_to_the_reported_one_has_no_effect(*, redelivered: bool) -> None:
    found = things()
    found.apply_change(said(sequence=2, wet=True, key="s-7-h"), 1.0)
    assert found.apply_change(said(sequence=3, wet=True, key="s-7-h", redelivered=redelivered), 2.0) is None


def test_a_redelivered_value_that_differs_from_the_reported_one_is_shown() -> None:
    found = things()
    found.apply_change(said(sequence=2, wet=True, key="s-7-h"), 1.0)
    found.apply_change(said(sequence=3, wet=False, key="s-8-h"), 1.1)
    assert found.apply_change(said(sequence=1001, wet=True, key="s-7-h", redelivered=True), 3.0) == WET
    assert found.by_id["leak-1"].values == {"wet": True}


def test_a_redelivered_event_is_shown_and_marked_if_its_key_was_seen_within_ten_minutes() -> None:
    found = things()
    press = EventHappened(sequence=2, device="leak-1", event="button", age=0.0, key="s-7-h")
    again = replace(press, sequence=3, redelivered=True)
    assert found.apply_change(again, 0.0) == DeviceUpdate(device="leak-1", event=again)
    assert found.apply_change(press, 1.0) == DeviceUpdate(device="leak-1", event=press)
    assert found.apply_change(again, 2.0) == DeviceUpdate(device="leak-1", event=replace(again, possible_repeat=True))
    assert found.apply_change(again, 700.0) == DeviceUpdate(device="leak-1", event=again)


def test_an_event_marked_by_the_gateway_stays_marked() -> None:
    found = things()
    press = EventHappened(sequence=2, device="leak-1", event="button", age=0.0, redelivered=True, possible_repeat=True)
    assert found.apply_change(press, 1.0) == DeviceUpdate(device="leak-1", event=press)
