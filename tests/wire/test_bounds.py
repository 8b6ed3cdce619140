"""Bounds of JSON values: every value that Home Assistant supplies or a peer sends can be written."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from process_cosmos_gateway.contract.bounds import (
    CUT,
    MAX_DATA_DEPTH,
    MAX_DEPTH,
    MAX_VALUES,
    bounded,
    is_deeper,
    write_json,
)
from process_cosmos_gateway.contract.codec import Json, decode_json, members, parse
from process_cosmos_gateway.contract.errors import Code, ContractError

texts = st.text(st.characters(categories=None) | st.sampled_from("\ud83d\ude00\x00"), max_size=5)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.integers(0, 20_000).map(lambda bits: 1 << bits)
    | st.floats()
    | texts
    | st.datetimes(timezones=st.just(UTC))
    | st.sets(st.integers(), max_size=2)
    | st.binary(max_size=3)
)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3))


def nested(levels: int, leaf: object = 1) -> object:
    """Return ``leaf`` nested in ``levels`` arrays."""
    for _ in range(levels):
        leaf = [leaf]
    return leaf


@given(values, st.integers(0, 300))
def test_any_python_value_becomes_json_within_the_bounds(value: object, levels: int) -> None:
    fit = bounded(nested(levels, value))
    assert orjson.loads(orjson.dumps(fit)) == fit
    assert not is_deeper(fit, MAX_DATA_DEPTH)


@given(values, st.integers(0, 300))
def test_writing_never_fails_for_any_value(value: object, levels: int) -> None:
    @dataclass
    class Holder:
        value: object

    written = write_json(Holder(value=bounded(value, 300)))
    assert decode_json(written) == {"value": bounded(value, 300)} or is_deeper(bounded(value, 300), MAX_DEPTH - 1)
    assert not is_deeper(decode_json(write_json(bounded(nested(levels, value), MAX_DEPTH))))


def test_a_value_within_the_bounds_is_unchanged_and_not_noted() -> None:
    value = {"a": [1, -(2**63), 2**64 - 1, 1.5, "😀", None, True], "b": {}}
    notes: list[str] = []
    assert bounded(value, note_fn=lambda path, _: notes.append(path)) == value
    assert notes == []


@pytest.mark.parametrize(
    ("value", "fit", "path", "reason"),
    [
        ({"a": "x\ud83d"}, {"a": "x\ufffd"}, "$.a", "contains an unpaired surrogate"),
        ([1, 2**64], [1, str(2**64)], "$[1]", "is a whole number beyond 64 bits"),
        ([math.nan], ["nan"], "$[0]", "is not a finite number"),
        (nested(MAX_DATA_DEPTH + 1), nested(MAX_DATA_DEPTH, CUT), "$" + "[0]" * MAX_DATA_DEPTH, "is nested too deeply"),
        ([0] * (MAX_VALUES + 5), [0] * (MAX_VALUES - 1) + [CUT], "$", f"contains more than {MAX_VALUES} values"),
    ],
    ids=["unpaired surrogate", "a large number", "nan", "depth", "many values"],
)
def test_a_value_beyond_the_bounds_is_changed_and_noted(value: object, fit: object, path: str, reason: str) -> None:
    notes: list[tuple[str, str]] = []
    assert bounded(value, note_fn=lambda *note: notes.append(note)) == fit
    assert notes == [(path, reason)]


def test_a_value_that_contains_itself_is_cut() -> None:
    value: list[object] = []
    for _ in range(40):
        value = [value, value, value]
    value.append(value)
    assert len(orjson.dumps(bounded(value))) < 10 * MAX_VALUES


@pytest.mark.parametrize("make", [bytes, str], ids=["bytes", "text"])
def test_a_document_is_accepted_up_to_the_depth_limit_and_refused_beyond(make: Callable[[object], bytes | str]) -> None:
    def document(levels: int) -> bytes | str:
        text = "[" * levels + "]" * levels
        return text if make is str else text.encode()

    decode_json(document(MAX_DEPTH))
    with pytest.raises(ContractError) as refused:
        decode_json(document(MAX_DEPTH + 1))
    assert refused.value.code is Code.TOO_DEEP


def test_many_brackets_side_by_side_are_not_deep() -> None:
    assert decode_json(b"[" + b",".join([b"{}"] * 1000) + b"]") == [{}] * 1000


@pytest.mark.parametrize("text", [b"1e999", b'"\\ud83d"', b"NaN", b"[" * 2000 + b"]" * 2000])
def test_values_beyond_json_are_malformed(text: bytes) -> None:
    with pytest.raises(ContractError) as refused:
        decode_json(text)
    assert refused.value.code is Code.MALFORMED


@pytest.mark.parametrize("kind", [int, float])
@pytest.mark.parametrize("number", [2**63, -(2**63), 2**64 - 1])
def test_a_number_that_sqlite_cannot_store_is_refused(kind: type, number: int) -> None:
    with pytest.raises(ContractError):
        parse(kind, number)


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:00:00-12:00"])
def test_a_time_out_of_the_range_of_some_offset_is_refused(text: str) -> None:
    with pytest.raises(ContractError):
        parse(datetime, text)


def test_the_id_of_a_refused_frame_can_be_read() -> None:
    deep: Json = nested(100)  # type: ignore[assignment]
    assert members(orjson.dumps({"id": "7", "data": deep}))["id"] == "7"
    assert members(b"{") == members(b"[]") == {}
