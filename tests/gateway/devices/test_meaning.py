"""The meaning of a property, from its name, title, type and description."""

import orjson
import pytest

from process_cosmos_gateway.contract.devices import Hint, Property
from process_cosmos_gateway.contract.errors import Code
from process_cosmos_gateway.devices.things.description import DescriptionError, Thing, parse_description

from .parts import description

WRITABLE = [
    "valve",
    "valveOpen",
    "openValve",
    "is_valve_open",
    "valve-state",
    "Main valve",
    "VALVE",
    "valve No. 2",
    "valveNo3",
    "Valve offset relay",
    "valveFreezeGuard",
]
NEGATED_VALVES = [
    "valveClosed",
    "closedValve",
    "valve_closed",
    "valve-closed",
    "Valve closed",
    "VALVE_CLOSED",
    "valveclosed",
    "isValveClosed",
    "valveShut",
    "shutOffValve",
    "shutoffValve",
    "closeValve",
    "Close the valve",
    "valveOff",
    "valveNotOpen",
    "noValve",
    "nonValve",
    "valve is unopened",
    "valvesClosed",
    "valveInverted",
]
READ = ["leak", "Water leak", "leakDetected", "moisture", "leak_sensor", "MOISTURE", "Leak No. 1"]
NEGATED_LEAKS = [
    "noLeak",
    "no_leak",
    "no-leak",
    "No leak",
    "NO_LEAK",
    "noleak",
    "leakFree",
    "leakfree",
    "leak-proof",
    "leakOk",
    "notLeaking",
    "Leak not detected",
    "no water leak",
    "without leak",
    "nonLeak",
    "un-leak",
    "unleak",
    "dryMoisture",
    "moistureOff",
    "leakClear",
    "isn't a leak",
]


def thing(name: str = "x", *, readonly: bool = False, title_of_thing: str = "Tank", **members: object) -> Thing:
    base = "mqtt://b/wot/tank/properties/x"
    forms = [{"href": base, "op": "observeproperty"}, {"href": f"{base}/set", "op": "writeproperty"}]
    affordance = {"type": "boolean", "readOnly": readonly, "forms": forms, **members}
    document = description(title=title_of_thing, properties={name: affordance}, events={})
    return parse_description("wot/tank/td", orjson.dumps(document), ["wot/+/td"])


def described(name: str = "x", *, readonly: bool = False, title_of_thing: str = "Tank", **members: object) -> Property:
    return thing(name, readonly=readonly, title_of_thing=title_of_thing, **members).device.properties[0]


def meaning(found: Property) -> tuple[Hint, bool, Hint]:
    return found.hint, found.writable, found.suggested_hint


VALVE = (Hint.VALVE, True, Hint.NONE)
MOISTURE = (Hint.MOISTURE, False, Hint.NONE)
SWITCH = (Hint.NONE, True, Hint.NONE)
PLAIN = (Hint.NONE, False, Hint.NONE)
SUGGESTED_VALVE = (Hint.NONE, False, Hint.VALVE)
SUGGESTED_LEAK = (Hint.NONE, False, Hint.MOISTURE)


@pytest.mark.parametrize(
    ("names", "readonly", "meant"),
    [
        (WRITABLE, False, VALVE),
        (NEGATED_VALVES, False, SUGGESTED_VALVE),
        (READ, True, MOISTURE),
        (NEGATED_LEAKS, True, SUGGESTED_LEAK),
        (NEGATED_LEAKS, False, SUGGESTED_LEAK),
        (["valveClosed", "pumpOff", "closed", "dry"], True, PLAIN),
        (["pump", "pumpOff", "lamp closed", "leakAlarmSwitch"], False, SWITCH),
    ],
)
def test_a_negating_word_in_a_name_leaves_its_meaning_open(
    names: list[str],
    *,
    readonly: bool,
    meant: tuple[Hint, bool, Hint],
) -> None:
    expected = dict.fromkeys(names, meant)
    assert {name: meaning(described(name, readonly=readonly)) for name in names} == expected
    assert {name: meaning(described(readonly=readonly, title=name)) for name in names} == expected
    assert meaning(described(names[0], readonly=readonly, title=names[-1])) == meant


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("True when the valve is closed", SUGGESTED_VALVE),
        ("Normally closed valve.", SUGGESTED_VALVE),
        ("True: the valve is not open", SUGGESTED_VALVE),
        ("No leak detected at the valve", SUGGESTED_VALVE),
        ("Whether the valve is open or closed", VALVE),
        ("The main valve (true: open, false: closed)", VALVE),
        ("Closes the valve in the cellar", VALVE),
        ("Water. No guarantee", VALVE),
    ],
)
def test_a_negating_description_leaves_the_meaning_open_unless_it_also_names_the_opposite(
    text: str, meant: object
) -> None:
    assert meaning(described("valve", description=text)) == meant


@pytest.mark.parametrize(
    ("types", "name", "readonly", "meant"),
    [
        ("saref:Valve", "valveClosed", False, VALVE),
        ("a:ValveClosed", "state", False, SUGGESTED_VALVE),
        ("Moisture", "noLeak", True, MOISTURE),
        ("NoLeak", "state", True, SUGGESTED_LEAK),
    ],
)
def test_an_unambiguous_type_takes_precedence(types: str, name: str, *, readonly: bool, meant: object) -> None:
    assert meaning(described(name, readonly=readonly, **{"@type": types})) == meant


def test_closed_alone_is_ambiguous_for_a_thing_titled_as_a_valve() -> None:
    assert meaning(described("closed", title_of_thing="Main valve")) == SUGGESTED_VALVE
    assert meaning(described("noise off", title_of_thing="Main valve")) == SWITCH
    assert meaning(described("closed", title_of_thing="Window")) == SWITCH


@pytest.mark.parametrize(
    ("name", "readonly", "means", "meant", "inverted"),
    [
        ("valveClosed", False, "closed", VALVE, True),
        ("valveClosed", False, "open", VALVE, False),
        ("x", False, "closed", VALVE, True),
        ("valveClosed", True, "closed", PLAIN, False),
        ("noLeak", True, "dry", MOISTURE, True),
        ("noLeak", True, "wet", MOISTURE, False),
        ("leakFree", False, "dry", MOISTURE, True),
        ("Water valve", True, "wet", MOISTURE, False),
    ],
)
def test_the_description_declares_the_meaning_of_true(
    name: str,
    *,
    readonly: bool,
    means: str,
    meant: object,
    inverted: bool,
) -> None:
    found = thing(name, readonly=readonly, **{"cosmos:trueMeans": means})
    assert meaning(found.device.properties[0]) == meant
    assert found.inverted == ({name} if inverted else set())
    assert bool(found.writes) is found.device.properties[0].writable


@pytest.mark.parametrize(("kind", "means"), [("boolean", "shut"), ("boolean", True), ("number", "open")])
def test_an_unknown_meaning_is_refused(kind: str, means: object) -> None:
    with pytest.raises(DescriptionError) as refused:
        thing("valve", readonly=False, title_of_thing="Tank", type=kind, **{"cosmos:trueMeans": means})
    assert refused.value.code is Code.DESCRIPTION_INVALID


@pytest.mark.parametrize("name", ["dryBulbTemperature", "noTemperature", "batteryOff", "humidityFree"])
def test_numbers_have_no_polarity(name: str) -> None:
    found = described(name, type="number", readonly=True)
    assert found.hint is not Hint.NONE
    assert found.suggested_hint is Hint.NONE
