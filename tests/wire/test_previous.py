"""What the previous version and this one say to each other is understood (``wire/fixtures/previous``)."""

from functools import partial
from pathlib import Path
from typing import Any, cast

import orjson
import pytest
from jsonschema import Draft202012Validator

from process_cosmos_gateway.contract.codec import Message, encode
from process_cosmos_gateway.contract.messages import FROM_HOME_ASSISTANT
from process_cosmos_gateway.contract.session import MIN_SCHEMA

from .schemas import BODIES, TOP
from .test_wire import VALID, read

PREVIOUS = TOP / "wire/fixtures/previous"
SAID = sorted((PREVIOUS / "valid").glob("*.json"))
SCHEMAS: dict[str, Any] = {path.stem: orjson.loads(path.read_bytes()) for path in (PREVIOUS / "schemas").glob("*.json")}
SAYS = [path for path in VALID if path.name.partition(".")[0] in SCHEMAS]

named = partial(pytest.mark.parametrize, ids=lambda path: path.stem)


def test_the_previous_version_understood_each_message_it_said() -> None:
    assert {path.name.partition(".")[0] for path in SAID} == SCHEMAS.keys()
    assert {path.name.partition(".")[0] for path in SAYS} == SCHEMAS.keys()


@named("path", SAID)
def test_what_the_previous_version_said_is_understood_and_nothing_of_it_is_lost(path: Path) -> None:
    name = path.name.partition(".")[0]
    understood = read(name, path.read_bytes())
    written = orjson.dumps(understood) if name in BODIES else encode(cast("Message", understood))
    assert holds(orjson.loads(written), orjson.loads(path.read_bytes()))


@named("path", SAYS)
def test_what_this_version_says_is_understood_by_the_previous_one(path: Path) -> None:
    Draft202012Validator(SCHEMAS[path.name.partition(".")[0]]).validate(orjson.loads(path.read_bytes()))


def test_this_version_chooses_only_among_what_the_previous_one_knew() -> None:
    now = {path.stem: orjson.loads(path.read_bytes()) for path in (TOP / "wire/schemas").glob("*.json")}
    choices = [(name, each) for name, schema in SCHEMAS.items() for each in enums(schema)]
    assert len(choices) > 5
    for name, choice in choices:
        assert enums(now[name])[choice] <= enums(SCHEMAS[name])[choice], f"{choice} in {name}"


def test_what_the_previous_gateway_does_not_know_is_only_ever_asked_for() -> None:
    """It answers a frame it does not understand if that has an id; else it ends the session."""
    unknown = FROM_HOME_ASSISTANT.keys() - SCHEMAS.keys()
    for path in VALID:
        if (name := path.name.partition(".")[0]) in unknown:
            assert "id" in orjson.loads(path.read_bytes()), name


def test_this_version_still_speaks_with_the_previous_one() -> None:
    hello = orjson.loads((PREVIOUS / "valid/gateway_hello.json").read_bytes())
    assert hello["schema"] >= MIN_SCHEMA


def holds(now: object, before: object) -> bool:
    """Say whether everything in the document ``before`` is in ``now`` too."""
    match before:
        case dict():
            return isinstance(now, dict) and all(name in now and holds(now[name], before[name]) for name in before)
        case list():
            return isinstance(now, list) and all(map(holds, now, before, strict=True))
        case _:
            return bool(now == before)


def enums(schema: dict[str, Any]) -> dict[str, set[str]]:
    """Return the choices a message may hold, by their name."""
    return {name: set(each["enum"]) for name, each in schema.get("$defs", {}).items() if "enum" in each}
