"""Monotonic ULIDs, notification keys, joined names, and pairing lines."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from process_cosmos_gateway.contract.identifiers import (
    NotificationKey,
    Ulid,
    UlidFactory,
    UlidRangeError,
    is_ulid,
    join_names,
    milliseconds_of,
    split_names,
)
from process_cosmos_gateway.contract.pairing import (
    LineError,
    OneTimeLine,
    PairingLine,
    parse_line,
    parse_pairing_line,
)

LINE = OneTimeLine(url="https://gateway.local:8735", secret="made-up-secret-0001", sha256="0a" * 32)


def test_a_ulid_begins_with_its_milliseconds() -> None:
    make = UlidFactory(lambda: 1_469_918_176_385, lambda count: b"\xff" * count)
    assert make() == "01ARYZ6S41ZZZZZZZZZZZZZZZZ"


def test_ulids_increase_even_when_the_clock_goes_back() -> None:
    clock = iter([1_000, 1_000, 5, 2_000, 0])
    make = UlidFactory(lambda: next(clock), bytes)
    made = [make() for _ in range(5)]
    assert made == sorted(set(made))
    assert all(map(is_ulid, made))


def test_after_a_restart_ulids_continue_above_the_last() -> None:
    last = Ulid("01ARYZ6S41ZZZZZZZZZZZZZZZZ")
    assert UlidFactory(lambda: 0, bytes, milliseconds_of(last))() == "01ARYZ6S420000000000000001"


def test_at_the_end_of_the_range_a_ulid_is_refused_not_repeated() -> None:
    make = UlidFactory(lambda: (1 << 48) - 1, lambda count: b"\xff" * count)
    assert make() == "7ZZZZZZZZZZZZZZZZZZZZZZZZZ"
    for _ in range(2):
        with pytest.raises(UlidRangeError):
            make()


def test_after_the_greatest_ulid_none_is_made() -> None:
    make = UlidFactory(lambda: 0, bytes, (1 << 48) - 1)
    with pytest.raises(UlidRangeError):
        make()


def test_a_clock_far_ahead_for_a_moment_leaves_room_for_later_ulids() -> None:
    clock = iter([253_402_300_799_000, *[1_790_000_000_000] * 1000])
    make = UlidFactory(lambda: next(clock), os.urandom)
    made = [make() for _ in range(1000)]
    assert made == sorted(set(made))


def test_a_notification_key_is_one_word() -> None:
    key = NotificationKey(alert=Ulid("01ARYZ6S41ZZZZZZZZZZZZZZZZ"), revision=2, level=1, round=0, recipient="phone:7")
    assert str(key) == "01ARYZ6S41ZZZZZZZZZZZZZZZZ/2/1/0/phone:7"


@pytest.mark.parametrize("url", ["https://gateway.local:8735", "https://192.0.2.7", "https://[2001:db8::7]:8735"])
def test_a_printed_line_is_parsed(url: str) -> None:
    line = OneTimeLine(url=url, secret=LINE.secret, sha256=LINE.sha256)
    assert parse_line(f"  {line}\n") == line


@pytest.mark.parametrize(
    "text",
    [
        "",
        str(LINE)[:-1],
        str(LINE).replace("https", "http"),
        str(LINE).replace("#", "/path#"),
        str(LINE).replace("#", "?x=1#"),
        str(LINE).replace("gateway", "me:secret@gateway"),
        str(LINE).replace("made-up-secret-0001", "short"),
        str(LINE).upper(),
        str(LINE).replace("8735", "99999"),
        str(LINE).replace("8735", "0"),
        str(LINE).replace("gateway.local", "gateway..local"),
    ],
)
def test_an_invalid_line_is_refused_without_showing_the_secret(text: str) -> None:
    with pytest.raises(LineError) as refused:
        parse_line(text)
    assert "secret-0001" not in str(refused.value)


PLAIN = PairingLine(url="http://a1b2c3d4-process-cosmos:8735", secret=LINE.secret)


def test_a_pairing_line_pins_a_certificate_unless_it_uses_no_tls() -> None:
    assert parse_pairing_line(f" {PLAIN}\n") == PLAIN
    assert parse_pairing_line(str(LINE)) == LINE
    with pytest.raises(LineError):
        parse_line(str(PLAIN))


@pytest.mark.parametrize(
    "text",
    [
        str(PLAIN).replace("http", "https"),
        str(LINE).replace("https", "http"),
        str(PLAIN).replace("8735", "99999"),
        str(PLAIN).replace("#", "/path#"),
        str(PLAIN).replace("http", "ftp"),
        f"{PLAIN}.",
    ],
)
def test_a_line_with_a_missing_or_useless_fingerprint_is_refused(text: str) -> None:
    with pytest.raises(LineError):
        parse_pairing_line(text)


@pytest.mark.parametrize("line", [LINE, PLAIN])
def test_the_secret_of_a_line_is_not_in_its_representation(line: PairingLine) -> None:
    assert LINE.secret not in repr(line)


def test_two_sides_that_continue_from_the_same_ulid_make_different_ones() -> None:
    ahead = UlidFactory(lambda: 1_900_000_000_000, os.urandom)()
    sides = [UlidFactory(lambda: 1_790_000_000_000, os.urandom, milliseconds_of(ahead)) for _ in range(2)]
    made = [make() for _ in range(100) for make in sides]
    assert len(set(made)) == len(made)
    assert min(made) > ahead


NAME = st.text(st.sampled_from("/%25Fa \x00\x1f\x7fé"), max_size=6)


@given(st.lists(NAME, min_size=1, max_size=3))
def test_joined_names_are_split_into_the_original_names(names: list[str]) -> None:
    assert split_names(join_names(*names)) == tuple(names)
    assert join_names(*names).count("/") == len(names) - 1


@pytest.mark.parametrize("name", ["leak-1", "Küche (links)", "urn:dev:mac:0024befffe804ff1", "a b"])
def test_an_ordinary_name_is_unchanged(name: str) -> None:
    assert join_names(name) == name


def test_names_that_look_alike_are_joined_differently() -> None:
    assert join_names("wot", "kitchen/leak") == "wot/kitchen%2Fleak"
    assert join_names("wot/kitchen", "leak") == "wot%2Fkitchen/leak"
    assert join_names("100%", "a\nb") == "100%25/a%0Ab"
    assert split_names("a%2fb%41/c") == ("a%2fb%41", "c"), (
        "escapes that join_names never writes are ordinary characters"
    )
