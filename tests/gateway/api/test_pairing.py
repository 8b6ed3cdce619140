"""Pairing: lines work once and for ten minutes, and wrong secrets have no effect."""

import asyncio
import stat
from datetime import timedelta
from pathlib import Path

import pytest

from process_cosmos_gateway.api.pairing import Pairing, discovery_token, offer_pairing
from process_cosmos_gateway.contract.errors import Code
from process_cosmos_gateway.contract.pairing import PairingRequest
from process_cosmos_gateway.errors import RequestRefusedError, StoreError

from .test_change_feed import HandClock


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def pairing(tmp_path: Path, clock: HandClock) -> Pairing:
    return Pairing(tmp_path, clock, supervised=False)


def request(secret: str, instance: str = "home") -> PairingRequest:
    return PairingRequest(secret=secret, instance=instance)


async def refusal(pairing: Pairing, secret: str) -> str:
    with pytest.raises(RequestRefusedError) as refused:
        await pairing.pair(request(secret))
    return refused.value.code


async def test_a_pairing_line_gives_one_token_that_opens_sessions(
    pairing: Pairing, tmp_path: Path, clock: HandClock
) -> None:
    token = await pairing.pair(request(offer_pairing(tmp_path, clock)))
    assert pairing.has_token(token)
    assert pairing.serves("home")
    assert not pairing.serves("another home")
    assert not pairing.has_token(token[:-1])


async def test_before_any_pairing_no_token_opens_a_session(pairing: Pairing) -> None:
    assert not pairing.has_token("")
    assert not pairing.serves("home")


async def test_a_used_pairing_line_is_refused(pairing: Pairing, tmp_path: Path, clock: HandClock) -> None:
    secret = offer_pairing(tmp_path, clock)
    await pairing.pair(request(secret))
    assert await refusal(pairing, secret) == Code.PAIRING_REFUSED


async def test_only_one_of_several_simultaneous_uses_of_a_line_is_paired(
    pairing: Pairing, tmp_path: Path, clock: HandClock
) -> None:
    secret = offer_pairing(tmp_path, clock)
    results = await asyncio.gather(*(pairing.pair(request(secret)) for _ in range(5)), return_exceptions=True)
    assert [type(result) for result in results if not isinstance(result, str)] == [RequestRefusedError] * 4


async def test_a_pairing_line_is_refused_after_ten_minutes(pairing: Pairing, tmp_path: Path, clock: HandClock) -> None:
    secret = offer_pairing(tmp_path, clock)
    clock.wall += timedelta(minutes=10, seconds=1)
    assert await refusal(pairing, secret) == Code.PAIRING_REFUSED


async def test_a_newer_line_revokes_the_older_one(pairing: Pairing, tmp_path: Path, clock: HandClock) -> None:
    older, newer = offer_pairing(tmp_path, clock), offer_pairing(tmp_path, clock)
    assert await refusal(pairing, older) == Code.PAIRING_REFUSED
    await pairing.pair(request(newer))


async def test_wrong_secrets_neither_use_up_nor_block_the_line(
    pairing: Pairing, tmp_path: Path, clock: HandClock
) -> None:
    secret = offer_pairing(tmp_path, clock)
    for number in range(200):
        assert await refusal(pairing, f"wrong {number}") == Code.PAIRING_REFUSED
    await pairing.pair(request(secret))


async def test_a_new_pairing_ends_the_old_one(pairing: Pairing, tmp_path: Path, clock: HandClock) -> None:
    old = await pairing.pair(request(offer_pairing(tmp_path, clock)))
    new = await pairing.pair(request(offer_pairing(tmp_path, clock), "another home"))
    assert not pairing.has_token(old)
    assert pairing.has_token(new)
    assert not pairing.serves("home")


async def test_a_pairing_survives_a_restart_and_only_hashes_are_stored(
    pairing: Pairing, tmp_path: Path, clock: HandClock
) -> None:
    secret = offer_pairing(tmp_path, clock)
    assert secret not in (tmp_path / "pairing.json").read_text()
    token = await pairing.pair(request(secret))
    assert [path.name for path in tmp_path.iterdir()] == ["home_assistant.json"]
    assert token not in (tmp_path / "home_assistant.json").read_text()
    assert stat.S_IMODE((tmp_path / "home_assistant.json").stat().st_mode) == 0o600
    assert Pairing(tmp_path, clock, supervised=False).has_token(token)


async def test_a_broken_pairing_file_is_refused(pairing: Pairing, tmp_path: Path) -> None:
    (tmp_path / "pairing.json").write_text("{}")
    assert await refusal(pairing, "anything") == Code.PAIRING_REFUSED


def test_a_broken_client_file_is_logged_and_nothing_is_paired(
    tmp_path: Path, clock: HandClock, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "home_assistant.json").write_text("half")
    assert not Pairing(tmp_path, clock, supervised=False).serves("home")
    assert "pair again" in caplog.text


def test_the_supervisors_home_assistant_is_accepted_with_any_id(tmp_path: Path, clock: HandClock) -> None:
    pairing = Pairing(tmp_path, clock, supervised=True)
    token = discovery_token(tmp_path)
    assert pairing.has_token(token)
    assert pairing.serves("home")
    assert pairing.serves("the same home, installed anew")
    assert discovery_token(tmp_path) == token


async def test_an_unreadable_pairing_file_is_a_disk_error_and_not_a_wrong_line(
    pairing: Pairing, tmp_path: Path, clock: HandClock
) -> None:
    secret = offer_pairing(tmp_path, clock)
    line = tmp_path / "pairing.json"
    aside = line.rename(tmp_path / "aside")
    line.symlink_to(line)  # a link to itself cannot be read
    with pytest.raises(StoreError, match="could not be checked because of a disk error"):
        await pairing.pair(request(secret))
    aside.rename(line)
    assert pairing.has_token(await pairing.pair(request(secret)))
