"""Peers of two schemas: what the newer one writes for the older one, and how each reads the other."""

import pytest

from process_cosmos_gateway.contract import codec
from process_cosmos_gateway.contract.codec import decode, encode
from process_cosmos_gateway.contract.versions import SCHEMA, schema_of, schema_of_type

from .growth import GOLDEN
from .schemas import MESSAGES
from .second_schema import Conduct, Loudness, OldLoudness, OldRing, OldTone, Play, Ring, Sing, Tone

NEW = Ring(tones=(Tone(loudness=Loudness.DEAFENING, color="red"), Tone()), urgent=True)


@pytest.mark.parametrize("name", [name for name in GOLDEN if name.partition(".")[0] in MESSAGES])
def test_every_message_of_this_schema_is_sent_to_a_peer_of_this_schema(name: str) -> None:
    message: object = decode(GOLDEN[name], MESSAGES)
    assert schema_of_type(message) <= schema_of(message) <= SCHEMA


@pytest.fixture(autouse=True)
def _second_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "SCHEMA", 2)


def test_the_newer_side_leaves_out_what_the_older_one_does_not_know() -> None:
    unknown: list[str] = []
    old = decode(encode(NEW, 1), {"ring": OldRing}, note_fn=lambda path, _reason: unknown.append(path))
    assert old == OldRing(tones=(OldTone(loudness=OldLoudness.UNKNOWN), OldTone()))
    assert unknown == ["ring.tones[0].loudness"]
    assert encode(NEW, 1) == b'{"type":"ring","tones":[{"loudness":"deafening"},{"loudness":"soft"}]}'


def test_nothing_is_left_out_for_a_peer_of_the_same_or_a_newer_schema() -> None:
    for schema in (2, 3):
        assert decode(encode(NEW, schema), {"ring": Ring}) == NEW


def test_the_newer_side_reads_the_older_one_with_defaults() -> None:
    old = OldRing(tones=(OldTone(),))
    assert decode(encode(old), {"ring": Ring}) == Ring(tones=(Tone(),))


@pytest.mark.parametrize(
    ("message", "schema"),
    [(Play(name="a"), 1), (Play(name="a", repeat=True), 2), (Conduct(), 2), (Sing(), 2), (Ring(tones=()), 1)],
)
def test_a_message_needs_the_schema_of_its_type_and_of_the_members_it_uses(message: object, schema: int) -> None:
    assert schema_of(message) == schema
