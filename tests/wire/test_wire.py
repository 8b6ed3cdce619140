"""Agreement of codec, schemas and golden fixtures."""

import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import orjson
import pytest
from jsonschema import Draft202012Validator

from process_cosmos_gateway.api.session import _MOST_UNSENT
from process_cosmos_gateway.api.status import AGES_EVERY
from process_cosmos_gateway.contract.codec import MAX_FRAME, MAX_TEXT, Message, decode, decode_json, encode, parse
from process_cosmos_gateway.contract.errors import ContractError
from process_cosmos_gateway.contract.messages import FROM_GATEWAY, FROM_HOME_ASSISTANT
from process_cosmos_gateway.contract.versions import SCHEMA

from .schemas import BODIES, MESSAGES, SCHEMAS, TOP, schema_files

FIXTURES = TOP / "wire/fixtures"
VALID = sorted((FIXTURES / "valid").glob("*.json"))
INVALID = sorted((FIXTURES / "invalid").glob("*.json"))

named = partial(pytest.mark.parametrize, ids=lambda path: path.stem)


def parse_fixture(name: str, text: bytes | str) -> object:
    """Parse ``text`` as the body ``name``, or as a message if no body has that name."""
    return parse(BODIES[name], decode_json(text)) if name in BODIES else decode(text, MESSAGES)


def test_every_message_and_body_has_a_valid_fixture() -> None:
    assert {path.name.partition(".")[0] for path in VALID} == {*MESSAGES, *BODIES}


@named("path", VALID)
def test_a_valid_fixture_is_parsed_and_written_again_byte_by_byte(path: Path) -> None:
    name = path.name.partition(".")[0]
    message = parse_fixture(name, path.read_bytes())
    written = orjson.dumps(message) if name in BODIES else encode(cast("Message", message))
    assert type(message) is {**MESSAGES, **BODIES}[name]
    assert written == path.read_bytes()


@named("path", VALID)
def test_a_valid_fixture_satisfies_its_schema(path: Path) -> None:
    schema = orjson.loads((SCHEMAS / f"{path.name.partition('.')[0]}.json").read_bytes())
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate(orjson.loads(path.read_bytes()))


@named("path", INVALID)
def test_an_invalid_fixture_is_refused_with_its_path_and_reason(path: Path) -> None:
    fixture = orjson.loads(path.read_bytes())
    with pytest.raises(ContractError) as refused:
        parse_fixture(fixture.get("body", ""), fixture["text"])
    assert (refused.value.path, refused.value.reason) == (fixture["path"], fixture["reason"])


def test_there_are_invalid_fixtures_of_messages_and_of_bodies() -> None:
    fixtures = [orjson.loads(path.read_bytes()) for path in INVALID]
    assert any("body" in fixture for fixture in fixtures)
    assert any("body" not in fixture for fixture in fixtures)


def test_the_schemas_match_the_contract() -> None:
    written = {path: path.read_bytes() for path in SCHEMAS.glob("*.json")}
    assert written == dict(schema_files()), "run scripts/schemas"


def test_the_changelog_begins_with_the_current_schema() -> None:
    headings = [line for line in (TOP / "wire/CHANGELOG.md").read_text().splitlines() if line.startswith("## ")]
    assert headings[0] == f"## Schema {SCHEMA}"


def test_the_specification_names_every_request_and_the_bounds_of_a_session() -> None:
    text = " ".join((TOP / "wire/README.md").read_text().split())
    others = {"home_assistant_hello", "heartbeat", "stopping", "transition", "caught_up", "result", "subscribe"}
    requests = re.search(r"\*\*Requests\*\* \(([^)]*)\)", text)
    assert requests
    assert set(re.findall(r"`(\w+)`", requests[1])) == FROM_HOME_ASSISTANT.keys() - others
    assert all(f"`{name}`" in text for name in ("rejected_events", "destination_tested"))
    assert f"more than {_MOST_UNSENT:,} frames wait" in text
    assert f"every {AGES_EVERY // 60} minutes for its ages" in text


def test_a_type_used_in_both_directions_is_the_same_message() -> None:
    both = FROM_GATEWAY.keys() & FROM_HOME_ASSISTANT.keys()
    assert both == {"heartbeat", "result"}
    assert all(FROM_GATEWAY[name] is FROM_HOME_ASSISTANT[name] for name in both)


def test_members_of_a_newer_schema_are_ignored() -> None:
    assert decode('{"type":"caught_up","mood":"good"}', MESSAGES) == decode('{"type":"caught_up"}', MESSAGES)


def test_a_frame_of_the_maximum_length_is_accepted_and_a_longer_one_refused() -> None:
    frame = b'{"type":"caught_up"}'
    decode(frame.ljust(MAX_FRAME), MESSAGES)
    with pytest.raises(ContractError, match="must not be longer"):
        decode(frame.ljust(MAX_FRAME + 1), MESSAGES)


def test_a_text_of_the_maximum_length_is_accepted_and_a_longer_one_refused() -> None:
    decode(orjson.dumps({"type": "list_rejected", "id": "x" * MAX_TEXT}), MESSAGES)
    with pytest.raises(ContractError, match=r"list_rejected\.id: must not be longer"):
        decode(orjson.dumps({"type": "list_rejected", "id": "x" * (MAX_TEXT + 1)}), MESSAGES)


@pytest.mark.parametrize("frame", [b"\xff\xfe", b'{"type":"\xc3"}', b"[" * 100_000, b'{"a":' * 5_000])
def test_broken_bytes_and_depth_bombs_are_refused(frame: bytes) -> None:
    with pytest.raises(ContractError, match="must be JSON"):
        decode(frame, MESSAGES)


def test_the_last_of_duplicate_members_counts() -> None:
    assert decode('{"type":"list_rejected","id":"1","id":"2"}', MESSAGES) == decode(
        '{"type":"list_rejected","id":"2"}', MESSAGES
    )


def test_an_unsupported_type_is_a_programming_error() -> None:
    @dataclass
    class Strange:
        member: complex

    with pytest.raises(TypeError, match="the codec does not know"):
        parse(Strange, {})
