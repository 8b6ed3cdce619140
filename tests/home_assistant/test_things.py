"""What the gateway says of its devices, held without Home Assistant."""

from custom_components.process_cosmos.contract.devices import (
    Device,
    DeviceRemoved,
    Property,
    PropertyKind,
    Snapshot,
    ValueChanged,
)
from custom_components.process_cosmos.things import Things, Touched

WET = Touched(device="leak-1", property="wet")


def said(*, sequence: int, wet: bool, key: str | None, redelivered: bool = False) -> ValueChanged:
    return ValueChanged(
        sequence=sequence, device="leak-1", property="wet", value=wet, age=0.0, key=key, redelivered=redelivered
    )


def snapshot(sequence: int, *, wet: bool) -> Snapshot:
    item = Property(name="wet", title="wet", kind=PropertyKind.BOOLEAN, value=wet)
    return Snapshot(sequence=sequence, devices=(Device(id="leak-1", title="Leak", properties=(item,)),))


def things() -> Things:
    found = Things()
    found.take_all(snapshot(1, wet=False))
    return found


def test_a_sensor_stays_wet_although_the_gateway_was_killed_before_its_commit() -> None:
    found = things()
    found.take(said(sequence=2, wet=True, key="s-7-h"), 1.0)
    found.take_all(snapshot(1000, wet=False))  # the gateway again, from its disk
    assert found.take(said(sequence=1001, wet=True, key="s-7-h", redelivered=True), 3.0) == WET
    assert found.by_id["leak-1"].values == {"wet": True}


def test_a_value_given_out_again_that_still_holds_touches_nothing() -> None:
    found = things()
    found.take(said(sequence=2, wet=True, key="s-7-h"), 1.0)
    assert found.take(said(sequence=3, wet=True, key="s-7-h", redelivered=True), 2.0) is None


def test_of_values_given_out_again_only_the_newest_is_shown() -> None:
    found = things()
    found.take(said(sequence=2, wet=True, key="s-7-h"), 1.0)
    found.take(said(sequence=3, wet=False, key="s-8-h"), 1.1)
    assert found.take(said(sequence=1001, wet=True, key="s-7-h", redelivered=True), 3.0) is None
    assert found.take(said(sequence=1002, wet=False, key="s-8-h", redelivered=True), 3.1) is None
    assert found.by_id["leak-1"].values == {"wet": False}


def test_a_value_given_out_again_is_old_when_one_without_a_key_came_after_it() -> None:
    found = things()
    found.take(said(sequence=2, wet=True, key="s-7-h"), 1.0)
    found.take(said(sequence=3, wet=False, key=None), 1.1)
    assert found.take(said(sequence=4, wet=True, key="s-7-h", redelivered=True), 3.0) is None
    assert found.by_id["leak-1"].values == {"wet": False}


def test_nothing_is_remembered_of_a_device_that_is_gone() -> None:
    found = things()
    found.take(said(sequence=2, wet=True, key="s-7-h"), 1.0)
    assert found.take(DeviceRemoved(sequence=3, device="leak-1"), 2.0) == Touched(device="leak-1")
    found.take_all(snapshot(4, wet=False))
    assert found.take(said(sequence=5, wet=True, key="s-7-h", redelivered=True), 3.0) is None
