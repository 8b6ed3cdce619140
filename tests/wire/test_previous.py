"""Compatibility of the wire with the previous version (``wire/fixtures/previous``)."""

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
from .test_wire import VALID, parse_fixture

PREVIOUS = TOP / "wire/fixtures/previous"
OLD_MESSAGES = sorted((PREVIOUS / "valid").glob("*.json"))
SCHEMAS: dict[str, Any] = {path.stem: orjson.loads(path.read_bytes()) for path in (PREVIOUS / "schemas").glob("*.json")}
NEW_MESSAGES = [path for path in VALID if path.name.partition(".")[0] in SCHEMAS]

named = partial(pytest.mark.parametrize, ids=lambda path: path.stem)


def test_every_previous_message_has_a_schema_and_fixtures() -> None:
    assert {path.name.partition(".")[0] for path in OLD_MESSAGES} == SCHEMAS.keys()
    assert {path.name.partition(".")[0] for path in NEW_MESSAGES} == SCHEMAS.keys()


@named("path", OLD_MESSAGES)
def test_messages_of_the_previous_version_are_parsed_without_loss(path: Path) -> None:
    name = path.name.partition(".")[0]
    parsed = parse_fixture(name, path.read_bytes())
    written = orjson.dumps(parsed) if name in BODIES else encode(cast("Message", parsed))
    assert contains(orjson.loads(written), orjson.loads(path.read_bytes()))


@named("path", NEW_MESSAGES)
def test_messages_of_this_version_satisfy_the_previous_schemas(path: Path) -> None:
    Draft202012Validator(SCHEMAS[path.name.partition(".")[0]]).validate(orjson.loads(path.read_bytes()))


def test_this_version_sends_only_enum_values_of_the_previous_one() -> None:
    now = {path.stem: orjson.loads(path.read_bytes()) for path in (TOP / "wire/schemas").glob("*.json")}
    choices = [(name, each) for name, schema in SCHEMAS.items() for each in enums(schema)]
    assert len(choices) > 5
    for name, choice in choices:
        assert enums(now[name])[choice] <= enums(SCHEMAS[name])[choice], f"{choice} in {name}"


def test_messages_unknown_to_the_previous_gateway_are_requests() -> None:
    """It answers an unknown frame with an id, and ends the session after one without."""
    unknown = FROM_HOME_ASSISTANT.keys() - SCHEMAS.keys()
    for path in VALID:
        if (name := path.name.partition(".")[0]) in unknown:
            assert "id" in orjson.loads(path.read_bytes()), name


def test_this_version_supports_the_previous_schema() -> None:
    hello = orjson.loads((PREVIOUS / "valid/gateway_hello.json").read_bytes())
    assert hello["schema"] >= MIN_SCHEMA


def contains(now: object, before: object) -> bool:
    """Return whether the document ``now`` contains everything in ``before``."""
    match before:
        case dict():
            return isinstance(now, dict) and all(name in now and contains(now[name], before[name]) for name in before)
        case list():
            return isinstance(now, list) and all(map(contains, now, before, strict=True))
        case _:
            return bool(now == before)


def enums(schema: dict[str, Any]) -> dict[str, set[str]]:
    """Return the enums of a message's schema, by name."""
    return {name: set(each["enum"]) for name, each in schema.get("$defs", {}).items() if "enum" in each}
