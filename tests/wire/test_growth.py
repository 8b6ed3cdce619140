"""What a newer peer adds is a handled value, in each message and each body of each direction."""

from dataclasses import fields, is_dataclass, replace
from enum import StrEnum
from typing import Any, get_args, get_type_hints

import orjson
import pytest

from process_cosmos_gateway.contract.codec import decode, parse
from process_cosmos_gateway.contract.decoder import MOST_REPORTS, Decoder
from process_cosmos_gateway.contract.errors import Code, ContractError, UnknownTypeError

from .growth import GOLDEN, grown, is_optional, shape_of, types_of
from .schemas import BODIES, MESSAGES


def neutral(value: Any) -> Any:  # noqa: ANN401 - any member
    """Return ``value`` with the neutral member of each enum, and without enums in lists."""
    if isinstance(value, StrEnum):
        return type(value)["UNKNOWN"]
    if isinstance(value, tuple):
        return tuple(neutral(each) for each in value if not isinstance(each, StrEnum))
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{each.name: neutral(getattr(value, each.name)) for each in fields(value)})
    return value


@pytest.mark.parametrize("name", GOLDEN)
def test_a_message_of_a_newer_peer_is_read_with_handled_values(name: str) -> None:
    growth, shape, unknown = grown(name), shape_of(name), set[str]()

    def note(path: str, _reason: str) -> None:
        unknown.add(path)

    old, new = orjson.loads(GOLDEN[name]), orjson.dumps(growth.document)
    if name.partition(".")[0] in BODIES:
        assert parse(shape, orjson.loads(new), note_fn=note) == neutral(parse(shape, old))
    else:
        assert decode(new, MESSAGES, note_fn=note) == neutral(decode(GOLDEN[name], MESSAGES))
    assert unknown == growth.unknown


def test_the_golden_messages_have_every_enum_and_every_object_of_the_contract() -> None:
    wanted = {each for shape in (*MESSAGES.values(), *BODIES.values()) for each in types_of(shape)}
    met = {each for name in GOLDEN for each in grown(name).met}
    assert len([each for each in wanted if issubclass(each, StrEnum)]) >= 9
    assert wanted == met


def test_every_enum_outside_lists_has_a_neutral_member() -> None:
    found = 0
    for shape in {each for message in (*MESSAGES.values(), *BODIES.values()) for each in types_of(message)}:
        for hint in get_type_hints(shape).values() if is_dataclass(shape) else ():
            for enum in get_args(hint) if is_optional(hint) else (hint,):
                if isinstance(enum, type) and issubclass(enum, StrEnum):
                    found += 1
                    assert "UNKNOWN" in enum.__members__, f"{shape.__name__}: {enum.__name__}"
    assert found >= 9


def test_stored_data_with_an_unknown_value_is_refused() -> None:
    with pytest.raises(ContractError, match="must be one of"):
        parse(shape_of("transition.answered"), grown("transition.answered").document)


def test_each_unknown_or_broken_part_is_reported_once_per_connection() -> None:
    reports: list[str] = []
    decoder = Decoder[object](MESSAGES, lambda path, reason: reports.append(f"{path} {reason}"))
    for _ in range(3):
        decoder.decode(b'{"type":"caught_up","mood":1}')
        assert decoder.unknown == ["caught_up.mood"]
        with pytest.raises(UnknownTypeError) as refused:
            decoder.decode(b'{"type":"sing"}')
        assert refused.value.code is Code.UNSUPPORTED
        with pytest.raises(ContractError, match=r"snapshot\.devices\[0\]"):
            decoder.decode(b'{"type":"snapshot","sequence":1,"devices":[7]}')
    assert reports == [
        "caught_up.mood is unknown",
        "$.type is the unknown message type 'sing'",
        "snapshot.devices[0] must be an object",
    ]


def test_the_same_mistake_in_each_entry_of_a_list_is_one_report() -> None:
    reports: list[str] = []
    decoder = Decoder[object](MESSAGES, lambda path, _reason: reports.append(path))
    event = b'{"device":"leak","age":1.0,"mood":1}'
    decoder.decode(b'{"type":"missed_changes","since":1.0,"changes":[' + b",".join([event] * 9) + b"]}")
    assert reports == ["missed_changes.changes[0].mood"]
    assert len(decoder.unknown) == 9


def test_a_peer_cannot_fill_the_log() -> None:
    reports: list[str] = []
    decoder = Decoder[object](MESSAGES, lambda path, _reason: reports.append(path))
    decoder.decode(orjson.dumps({"type": "caught_up", **{f"m{number}": 1 for number in range(1000)}}))
    assert len(reports) == MOST_REPORTS
