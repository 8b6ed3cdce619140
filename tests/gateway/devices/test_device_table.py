"""The device table: one description for a device, one owner for a topic, and a limit."""

import orjson
import pytest

from process_cosmos_gateway.contract.errors import Code
from process_cosmos_gateway.devices.things.description import DescriptionError, Thing, parse_description
from process_cosmos_gateway.devices.things.device_table import DeviceTable

from .parts import description_of

ANYWHERE = ("#",)


def thing(topic: str, *paths: str) -> Thing:
    forms = {path: {"type": "boolean", "readOnly": True, "forms": [{"href": f"mqtt://b/{path}"}]} for path in paths}
    return parse_description(topic, orjson.dumps(description_of("x", properties=forms, events={})), ANYWHERE)


def refusal(device_table: DeviceTable, added: Thing) -> Code:
    before = (dict(device_table.twins), dict(device_table.routes))
    with pytest.raises(DescriptionError) as refused:
        device_table.add(added)
    assert (device_table.twins, device_table.routes) == before
    return refused.value.code


def test_the_first_owner_keeps_a_topic_until_it_is_removed() -> None:
    device_table = DeviceTable()
    device_table.add(thing("a", "a/b/c"))
    assert refusal(device_table, thing("a/b", "a/b/c", "a/b/d")) is Code.TOPIC_TAKEN
    device_table.remove("a")
    assert device_table.add(thing("a/b", "a/b/c", "a/b/d")).id == "a/b"


def test_one_device_has_one_description() -> None:
    device_table = DeviceTable()
    device_table.add(thing("a", "a/b"))
    assert refusal(device_table, thing("a/td", "a/c")) is Code.TOPIC_TAKEN
    assert device_table.add(thing("a", "a/c")).thing.reads == {"a/c": "a/c"}
    assert list(device_table.routes) == ["a/c"]


def test_the_number_of_devices_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("process_cosmos_gateway.devices.things.device_table.MAX_DEVICES", 2)
    device_table = DeviceTable()
    device_table.add(thing("a", "a/b"))
    device_table.add(thing("b", "b/b"))
    with pytest.raises(DescriptionError) as refused:
        device_table.check_room("c", 1)
    assert refused.value.code is Code.TOO_MANY_DEVICES
    device_table.check_room("b", 1)
    device_table.add(thing("b", "b/c"))
