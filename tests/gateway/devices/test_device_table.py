"""Who may be there: one device an id, one owner a topic, and not without end."""

import orjson
import pytest

from process_cosmos_gateway.contract.errors import Code
from process_cosmos_gateway.devices.things.description import DescriptionError, Thing, parse_description
from process_cosmos_gateway.devices.things.device_table import Roster

from .parts import description_of

ANYWHERE = ("#",)


def thing(topic: str, *paths: str) -> Thing:
    forms = {path: {"type": "boolean", "readOnly": True, "forms": [{"href": f"mqtt://b/{path}"}]} for path in paths}
    return parse_description(topic, orjson.dumps(description_of("x", properties=forms, events={})), ANYWHERE)


def refusal(roster: Roster, newcomer: Thing) -> Code:
    before = (dict(roster.twins), dict(roster.routes))
    with pytest.raises(DescriptionError) as refused:
        roster.admit(newcomer)
    assert (roster.twins, roster.routes) == before
    return refused.value.code


def test_the_first_owner_keeps_a_topic_until_it_goes() -> None:
    roster = Roster()
    roster.admit(thing("a", "a/b/c"))
    assert refusal(roster, thing("a/b", "a/b/c", "a/b/d")) is Code.TOPIC_TAKEN
    roster.dismiss("a")
    assert roster.admit(thing("a/b", "a/b/c", "a/b/d")).id == "a/b"


def test_one_device_has_one_description() -> None:
    roster = Roster()
    roster.admit(thing("a", "a/b"))
    assert refusal(roster, thing("a/td", "a/c")) is Code.TOPIC_TAKEN
    assert roster.admit(thing("a", "a/c")).thing.reads == {"a/c": "a/c"}
    assert list(roster.routes) == ["a/c"]


def test_a_flood_of_devices_ends_somewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("process_cosmos_gateway.devices.things.device_table.MAX_THINGS", 2)
    roster = Roster()
    roster.admit(thing("a", "a/b"))
    roster.admit(thing("b", "b/b"))
    with pytest.raises(DescriptionError) as refused:
        roster.check_room("c", 1)
    assert refused.value.code is Code.TOO_MANY_DEVICES
    roster.check_room("b", 1)
    roster.admit(thing("b", "b/c"))
