"""Thing Descriptions: what is parsed, and what is refused."""

from dataclasses import replace
from typing import Any

import orjson
import pytest

from process_cosmos_gateway.contract.codec import MAX_FRAME, encode
from process_cosmos_gateway.contract.devices import Hint, PropertyKind, Snapshot
from process_cosmos_gateway.contract.errors import Code
from process_cosmos_gateway.devices.things.description import (
    MAX_BYTES,
    DescriptionError,
    Thing,
    is_meant_as_description,
    parse_description,
)
from process_cosmos_gateway.devices.things.values import MAX_TEXT_BYTES

from .parts import description

FILTERS = ("+", "wot/+/td")
TOPIC = "wot/tank/td"


def parse(document: object, topic: str = TOPIC) -> Thing:
    return parse_description(topic, document if isinstance(document, bytes) else orjson.dumps(document), FILTERS)


def refusal(document: object, topic: str = TOPIC) -> Code:
    with pytest.raises(DescriptionError) as refused:
        parse(document, topic)
    return refused.value.code


def one_property(name: str = "x", **affordance: object) -> dict[str, Any]:
    forms = [{"href": "mqtt://b/wot/tank/x"}, {"href": "mqtt://b/wot/tank/x/set", "op": "writeproperty"}]
    return description(events={}, properties={name: {"forms": forms, **affordance}})


def hint_of(name: str = "x", **affordance: object) -> Hint:
    return parse(one_property(name, **affordance)).device.properties[0].hint


def claiming(href: str) -> dict[str, Any]:
    forms = [{"href": href}]
    return description(events={}, properties={"x": {"type": "boolean", "readOnly": True, "forms": forms}})


def test_the_largest_device_fits_into_a_frame_with_the_longest_texts() -> None:
    properties = {
        "ä" * 252 + f"{number:03}": {
            "type": "string",
            "unit": "u" * 255,
            "forms": [{"href": f"mqtt://b/wot/tank/{number}"}],
        }
        for number in range(256)
    }
    described = description(events={}, properties=properties)
    described["title"] = "t" * 255
    assert len(orjson.dumps(described)) > MAX_BYTES * 3 // 5
    device = parse(described).device
    full = tuple(replace(each, value="x" * MAX_TEXT_BYTES) for each in device.properties)
    assert len(encode(Snapshot(sequence=1, devices=(replace(device, properties=full),)))) < MAX_FRAME * 3 // 4


def test_a_description_defines_the_device_and_its_topics() -> None:
    thing = parse(
        description(
            **{
                "cosmos:availability": {"href": "mqtt://elsewhere/wot/tank/availability"},
                "schema:manufacturer": {"schema:name": "Acme"},
                "schema:model": "T1",
                "schema:softwareVersion": "1.2.3",
            }
        )
    )
    device = thing.device
    assert (device.id, device.title, device.manufacturer, device.model, device.firmware) == (
        *("wot/tank", "Tank", "Acme", "T1", "1.2.3"),
    )
    assert [(each.name, each.kind, each.writable) for each in device.properties] == [
        ("level", PropertyKind.NUMBER, False),
        ("pump", PropertyKind.BOOLEAN, True),
    ]
    assert thing.reads == {"wot/tank/properties/level": "level", "wot/tank/properties/pump": "pump"}
    assert thing.writes == {"pump": "wot/tank/properties/pump/writeproperty"}
    assert thing.events == {"wot/tank/events/overflow": "overflow"}
    assert thing.availability == "wot/tank/availability"


def test_a_node_wot_description_is_accepted_unchanged() -> None:
    base = "mqtt://broker:1883/Leak%20Sensor"
    thing = parse(
        {
            "@context": ["https://www.w3.org/2019/wot/td/v1", "https://www.w3.org/2022/wot/td/v1.1"],
            "@type": "Thing",
            "title": "Leak Sensor",
            "id": "urn:uuid:1",
            "properties": {
                "leak": {
                    "type": "boolean",
                    "readOnly": True,
                    "forms": [
                        {"href": "http://10.0.0.1:8080/leak-sensor/properties/leak", "op": ["readproperty"]},
                        {
                            "href": f"{base}/properties/leak",
                            "contentType": "application/json",
                            "op": ["observeproperty", "unobserveproperty"],
                        },
                    ],
                },
                "armed": {
                    "type": "boolean",
                    "forms": [
                        {"href": f"{base}/properties/armed", "op": ["observeproperty", "unobserveproperty"]},
                        {"href": f"{base}/properties/armed/writeproperty", "op": ["writeproperty"]},
                    ],
                },
            },
            "actions": {"test": {"forms": [{"href": f"{base}/actions/test", "op": ["invokeaction"]}]}},
            "events": {
                "wet": {"forms": [{"href": f"{base}/events/wet", "op": ["subscribeevent", "unsubscribeevent"]}]}
            },
        },
        "Leak Sensor",
    )
    assert thing.device.id == "Leak Sensor"
    assert thing.reads == {
        "Leak%20Sensor/properties/leak": "leak",
        "Leak%20Sensor/properties/armed": "armed",
    }
    assert thing.writes == {"armed": "Leak%20Sensor/properties/armed/writeproperty"}
    assert thing.events == {"Leak%20Sensor/events/wet": "wet"}
    assert thing.availability is None
    assert thing.device.properties[0].hint is Hint.MOISTURE


@pytest.mark.parametrize(
    ("base", "href"),
    [
        ("mqtt://b:1883/wot/tank/", "level"),
        ("mqtt://b:1883", "/wot/tank/level"),
        ("mqtts://b", "mqtts://other/wot/tank/level"),
    ],
)
def test_a_relative_href_is_resolved_against_the_base(base: str, href: str) -> None:
    assert list(parse({**claiming(href), "base": base, "events": {}}).reads) == ["wot/tank/level"]


@pytest.mark.parametrize(
    ("affordance", "hint"),
    [
        ({"type": "boolean", "@type": "saref:Moisture", "readOnly": True}, Hint.MOISTURE),
        (
            {"type": "boolean", "@type": ["a:Thing", "https://x.example/y#LeakProperty"], "readOnly": True},
            Hint.MOISTURE,
        ),
        ({"type": "boolean", "title": "Water leak", "readOnly": True}, Hint.MOISTURE),
        ({"type": "boolean", "title": "Leak alarm switch"}, Hint.NONE),
        ({"type": "boolean", "@type": "Valve"}, Hint.VALVE),
        ({"type": "boolean", "@type": "Valve", "readOnly": True}, Hint.NONE),
        ({"type": "number", "unit": "Cel"}, Hint.TEMPERATURE),
        ({"type": "integer", "title": "Relative humidity"}, Hint.HUMIDITY),
        ({"type": "number", "@type": "BatteryLevel"}, Hint.BATTERY),
        ({"type": "string", "title": "Battery"}, Hint.NONE),
        ({"type": "number", "title": "Pressure", "unit": "hPa"}, Hint.NONE),
    ],
)
def test_type_unit_and_title_determine_the_hint(affordance: dict[str, Any], hint: Hint) -> None:
    assert hint_of(**affordance) is hint


def test_a_name_determines_the_hint_too() -> None:
    assert hint_of("outdoorTemperature", type="number") is Hint.TEMPERATURE


@pytest.mark.parametrize(
    ("unit", "spelled"),
    [("qudt:DEG_C", "°C"), ("degree celsius", "°C"), ("far", "°F"), ("percent", "%"), ("hPa", "hPa")],
)
def test_units_are_spelled_as_home_assistant_does(unit: str, spelled: str) -> None:
    assert parse(one_property(type="number", unit=unit)).device.properties[0].unit == spelled


def test_a_topic_for_both_reading_and_writing_is_not_written() -> None:
    forms = [{"href": "mqtt://b/wot/tank/x"}]
    thing = parse(description(properties={"x": {"type": "boolean", "forms": forms}}))
    assert (thing.writes, thing.device.properties[0].writable) == ({}, False)


@pytest.mark.parametrize(("affordance", "integer"), [("integer", True), ("number", False)])
def test_an_integer_is_a_number_marked_as_integer(affordance: str, integer: bool) -> None:  # noqa: FBT001 - a table
    (described,) = parse(one_property(type=affordance)).device.properties
    assert (described.kind, described.integer) == (PropertyKind.NUMBER, integer)


def test_object_and_write_only_properties_are_ignored() -> None:
    forms = [{"href": "mqtt://b/wot/tank/x"}]
    odd = {
        "position": {"type": "object", "forms": [{"href": "mqtt://b/wot/tank/y"}]},
        "secret": {"type": "string", "writeOnly": True, "forms": [{"href": "mqtt://b/wot/tank/z"}]},
        "good": {"type": "boolean", "forms": forms},
    }
    assert [each.name for each in parse(description(properties=odd)).device.properties] == ["good"]


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"garbage",
        b"\xff\xfe{}",
        b"[]",
        b"{}",
        b'{"title": NaN}',
        b'{"title":"a","x":' + b"[" * 500 + b"]" * 500 + b"}",
        b'{"title":"a","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"title":"' + b"a" * MAX_BYTES + b'"}',
        description(title=None),
        description(title=""),
        description(title="a" * 300),
        description(properties=[]),
        description(events={}, properties={"x": {"type": "boolean"}}),
        description(events={}, properties={"x": {"type": "boolean", "forms": []}}),
        description(events={}, properties={"x": {"type": "boolean", "forms": ["mqtt://b/wot/tank/x"]}}),
        description(events={}, properties={"x": {"type": "boolean", "forms": [{"href": 5}]}}),
        description(properties={"x": {"type": "boolean", "forms": [{"href": "http://b/wot/tank/x"}]}}, events={}),
        description(properties={str(n): {} for n in range(300)}),
        description(properties={}, events={}),
        description(events=7),
        one_property(type="number", minimum="low"),
        one_property(type="number", maximum=True),
        claiming("mqtt://b/" + "wot/tank/" + "x" * 2000),
        claiming("mqtt://b/wot/tank/a\0b"),
        claiming("mqtt://b"),
    ],
)
def test_an_invalid_description_is_refused_with_a_code(document: object) -> None:
    assert refusal(document) is Code.DESCRIPTION_INVALID


UNUSABLE: dict[str, Any] = {
    "no forms": None,
    "a list of nothing": [],
    "a form that is a text": ["mqtt://b/wot/tank/x"],
    "a form without href": [{"op": "readproperty"}],
    "another protocol": [{"href": "coap://b/wot/tank/x"}],
    "a wildcard": [{"href": "mqtt://b", "mqv:filter": "wot/tank/+/x"}],
    "several filters": [{"href": "mqtt://b", "mqv:filter": ["wot/tank/x", "wot/tank/y"]}],
    "a filter that is a number": [{"href": "mqtt://b", "mqv:filter": 5}],
    "a topic of another device": [{"href": "mqtt://b/wot/other/x"}],
    "a topic that is in use": [{"href": "mqtt://b/wot/tank/properties/level"}],
}


@pytest.mark.parametrize("forms", UNUSABLE.values(), ids=UNUSABLE.keys())
def test_an_unusable_form_removes_its_property_but_not_the_device(forms: object) -> None:
    known = description()["properties"]
    thing = parse(description(properties={**known, "x": {"type": "boolean", "readOnly": True, "forms": forms}}))
    assert set(thing.reads.values()) == {"level", "pump"}
    assert set(thing.unusable) <= {"x"}


MISTAKES: dict[str, Any] = {
    "a minimum that is a text": {"type": "number", "minimum": "5"},
    "a long title": {"type": "number", "title": "x" * 256},
    "a title that is a number": {"type": "number", "title": 5},
    "a true that means nothing known": {"type": "boolean", "cosmos:trueMeans": "maybe"},
    "a true of a number": {"type": "number", "cosmos:trueMeans": "open"},
    "no object": "y",
}


@pytest.mark.parametrize("affordance", MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_in_a_property_removes_that_property_only(affordance: dict[str, Any] | str) -> None:
    known = description()["properties"]
    odd = {**affordance, "forms": [{"href": "mqtt://b/wot/tank/x"}]} if isinstance(affordance, dict) else affordance
    thing = parse(description(properties={"x": odd, **known}))
    assert (set(thing.reads.values()), set(thing.unusable)) == ({"level", "pump"}, {"x"})
    assert [each.name for each in thing.device.properties] == ["level", "pump"]


@pytest.mark.parametrize("name", ["", "x" * 256])
def test_a_property_with_an_invalid_name_is_left_out(name: str) -> None:
    odd = {name: {"type": "boolean", "forms": [{"href": "mqtt://b/wot/tank/x"}]}}
    thing = parse(description(properties={**odd, **description()["properties"]}))
    assert (set(thing.reads.values()), set(thing.unusable)) == ({"level", "pump"}, {name[:255]})


def test_a_mistake_in_an_event_removes_that_event_only() -> None:
    forms = [{"href": "mqtt://b/wot/tank/x"}]
    known = description()["events"]
    thing = parse(description(events={"x": {"title": 5, "forms": forms}, **known}))
    assert (set(thing.events.values()), set(thing.unusable)) == ({"overflow"}, {"x"})
    assert len(parse(description(events=known)).events) == len(thing.device.events) == 1


@pytest.mark.parametrize(
    "affordance",
    ["online", {"href": 5}, {"href": "mqtt://b/wot/tank/properties/level"}, {"href": "mqtt://b/wot/other/online"}],
)
def test_a_mistake_in_the_availability_removes_that_only(affordance: object) -> None:
    thing = parse(description(**{"cosmos:availability": affordance}))
    assert thing.availability is None
    assert (set(thing.reads.values()), set(thing.unusable)) == ({"level", "pump"}, {"cosmos:availability"})


def test_an_invalid_manufacturer_is_left_out() -> None:
    assert parse(description(**{"schema:manufacturer": {"schema:name": 5}})).device.manufacturer is None


def test_a_form_after_an_unusable_one_is_used() -> None:
    forms = [{"href": "mqtt://b/#"}, {"href": 5}, {"href": "mqtt://b/wot/tank/x"}]
    thing = parse(description(properties={"x": {"type": "boolean", "readOnly": True, "forms": forms}}))
    assert (thing.reads, thing.unusable) == ({"wot/tank/x": "x"}, {})


def test_forms_of_the_w3c_mqtt_binding_name_their_topics_in_members() -> None:
    forms = [
        {
            "href": "mqtt://b:1883",
            "op": ["observeproperty"],
            "mqv:filter": "wot/tank/x",
            "mqv:controlPacket": "subscribe",
        },
        {"href": "mqtt://b:1883", "op": "writeproperty", "mqv:topic": "wot/tank/x/set", "mqv:controlPacket": "publish"},
    ]
    happens = [{"href": "mqtt://b:1883", "op": "subscribeevent", "mqv:filter": ["wot/tank/e"]}]
    thing = parse(description(properties={"x": {"type": "number", "forms": forms}}, events={"e": {"forms": happens}}))
    assert (thing.reads, thing.writes, thing.events) == (
        {"wot/tank/x": "x"},
        {"x": "wot/tank/x/set"},
        {"wot/tank/e": "e"},
    )


@pytest.mark.parametrize(
    "href",
    [
        "mqtt://b/wot/other/properties/x",
        "mqtt://b/wot/tank/#",
        "mqtt://b/wot/tank/+/x",
        "mqtt://b/wot/tank/td",
        "mqtt://b/wot/tanks",
        "mqtt://b/$SYS/broker/uptime",
        "mqtt://b/#",
        "mqtt://b//wot/tank/x",
    ],
)
def test_a_description_may_claim_only_topics_below_its_own(href: str) -> None:
    assert refusal(claiming(href)) is Code.TOPIC_TAKEN


def test_a_description_at_a_higher_level_may_not_claim_topics_of_lower_ones() -> None:
    assert refusal(claiming("mqtt://b/wot/tank/properties/x"), "wot") is Code.TOPIC_TAKEN
    assert list(parse({**claiming("mqtt://b/wot/x"), "events": {}}, "wot").reads) == ["wot/x"]


def test_other_messages_on_topics_of_one_level_are_not_logged_as_mistakes() -> None:
    assert not is_meant_as_description("homeassistant", b"online")
    assert is_meant_as_description("wot/tank/td", b"garbage")
    assert is_meant_as_description("tank", orjson.dumps(description()))
