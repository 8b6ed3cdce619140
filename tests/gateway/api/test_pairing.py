"""Who may open a session: pairing lines work once, for ten minutes, and guesses do not help."""

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
def access(tmp_path: Path, clock: HandClock) -> Pairing:
    return Pairing(tmp_path, clock, supervised=False)


def ask(secret: str, instance: str = "home") -> PairingRequest:
    return PairingRequest(secret=secret, instance=instance)


async def refusal(access: Pairing, secret: str) -> str:
    with pytest.raises(RequestRefusedError) as refused:
        await access.pair(ask(secret))
    return refused.value.code


async def test_a_pairing_line_gives_one_token_that_opens_sessions(
    access: Pairing, tmp_path: Path, clock: HandClock
) -> None:
    token = await access.pair(ask(offer_pairing(tmp_path, clock)))
    assert access.has_token(token)
    assert access.serves("home")
    assert not access.serves("another home")
    assert not access.has_token(token[:-1])


async def test_before_any_pairing_no_token_opens_a_session(access: Pairing) -> None:
    assert not access.has_token("")
    assert not access.serves("home")


async def test_a_used_pairing_line_is_refused(access: Pairing, tmp_path: Path, clock: HandClock) -> None:
    secret = offer_pairing(tmp_path, clock)
    await access.pair(ask(secret))
    assert await refusal(access, secret) == Code.PAIRING_REFUSED


async def test_of_two_that_use_a_line_at_the_same_time_one_is_paired(
    access: Pairing, tmp_path: Path, clock: HandClock
) -> None:
    secret = offer_pairing(tmp_path, clock)
    results = await asyncio.gather(*(access.pair(ask(secret)) for _ in range(5)), return_exceptions=True)
    assert [type(result) for result in results if not isinstance(result, str)] == [RequestRefusedError] * 4


async def test_a_pairing_line_is_refused_after_ten_minutes(access: Pairing, tmp_path: Path, clock: HandClock) -> None:
    secret = offer_pairing(tmp_path, clock)
    clock.wall += timedelta(minutes=10, seconds=1)
    assert await refusal(access, secret) == Code.PAIRING_REFUSED


async def test_a_newer_line_voids_the_older_one(access: Pairing, tmp_path: Path, clock: HandClock) -> None:
    older, newer = offer_pairing(tmp_path, clock), offer_pairing(tmp_path, clock)
    assert await refusal(access, older) == Code.PAIRING_REFUSED
    await access.pair(ask(newer))


async def test_wrong_guesses_neither_use_the_line_up_nor_lock_it_out(
    access: Pairing, tmp_path: Path, clock: HandClock
) -> None:
    secret = offer_pairing(tmp_path, clock)
    for number in range(200):
        assert await refusal(access, f"wrong {number}") == Code.PAIRING_REFUSED
    await access.pair(ask(secret))


async def test_a_new_pairing_ends_the_old_one(access: Pairing, tmp_path: Path, clock: HandClock) -> None:
    old = await access.pair(ask(offer_pairing(tmp_path, clock)))
    new = await access.pair(ask(offer_pairing(tmp_path, clock), "another home"))
    assert not access.has_token(old)
    assert access.has_token(new)
    assert not access.serves("home")


async def test_a_pairing_survives_a_restart_and_only_its_hash_is_kept(
    access: Pairing, tmp_path: Path, clock: HandClock
) -> None:
    secret = offer_pairing(tmp_path, clock)
    assert secret not in (tmp_path / "pairing.json").read_text()
    token = await access.pair(ask(secret))
    assert [path.name for path in tmp_path.iterdir()] == ["home_assistant.json"]
    assert token not in (tmp_path / "home_assistant.json").read_text()
    assert stat.S_IMODE((tmp_path / "home_assistant.json").stat().st_mode) == 0o600
    assert Pairing(tmp_path, clock, supervised=False).has_token(token)


async def test_a_broken_offer_is_no_offer(access: Pairing, tmp_path: Path) -> None:
    (tmp_path / "pairing.json").write_text("{}")
    assert await refusal(access, "anything") == Code.PAIRING_REFUSED


def test_a_broken_file_of_who_was_paired_is_said_and_nobody_is(
    tmp_path: Path, clock: HandClock, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "home_assistant.json").write_text("half")
    assert not Pairing(tmp_path, clock, supervised=False).serves("home")
    assert "pair again" in caplog.text


def test_the_supervisors_home_assistant_is_served_whatever_its_id(tmp_path: Path, clock: HandClock) -> None:
    access = Pairing(tmp_path, clock, supervised=True)
    token = discovery_token(tmp_path)
    assert access.has_token(token)
    assert access.serves("home")
    assert access.serves("the same home, installed anew")
    assert discovery_token(tmp_path) == token


async def test_a_line_that_cannot_be_read_is_no_wrong_line(access: Pairing, tmp_path: Path, clock: HandClock) -> None:
    secret = offer_pairing(tmp_path, clock)
    line = tmp_path / "pairing.json"
    aside = line.rename(tmp_path / "aside")
    line.symlink_to(line)  # it leads nowhere but to itself
    with pytest.raises(StoreError, match="did not let the pairing line be used"):
        await access.pair(ask(secret))
    aside.rename(line)
    assert access.has_token(await access.pair(ask(secret)))
