"""Hypothesis plays both shipped sides of the protocol, and looks whether the promises hold."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from itertools import count
from pathlib import Path
from random import Random
from types import SimpleNamespace

import orjson
import pytest
from homeassistant.core import HomeAssistant, ServiceCall
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from custom_components.process_cosmos.alerts.policy import Level, Policy
from custom_components.process_cosmos.contract.identifiers import DESTINATION, PHONE
from process_cosmos_gateway.alerts import replica as gateway_replica
from process_cosmos_gateway.contract import bounds as gateway_bounds
from process_cosmos_gateway.contract import codec as gateway_codec
from process_cosmos_gateway.contract import events as gateway_events
from tests.powercut.disk import Kept

from .both_sides import CLOUD
from .both_sides_game import ENOUGH, BothSides
from .site import Phone, Site

FIXED = Random(1600)  # noqa: S311 - which writes a power cut keeps


@pytest.fixture
def _played(
    hass: HomeAssistant,
    add_site: Callable[..., Site],
    anna: Phone,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A Home Assistant for many houses, each with a phone at once and the cloud five seconds later."""
    monkeypatch.setattr("custom_components.process_cosmos.CosmosCoordinator", lambda *_: None)
    levels = (
        Level(after=timedelta(), people=(f"{PHONE}{anna.app_id}",)),
        Level(after=timedelta(seconds=5), destinations=(f"{DESTINATION}{CLOUD}",)),
    )
    monkeypatch.setattr(
        "custom_components.process_cosmos.alerts.engine.policy_of", lambda _hass, _options: Policy(levels=levels)
    )
    # Orjson knows datetimes, but not the subclass of a frozen clock.
    frozen = SimpleNamespace(
        **{**vars(orjson), "dumps": partial(orjson.dumps, default=lambda moment: moment.isoformat())}
    )
    for module in (gateway_bounds, gateway_codec, gateway_events, gateway_replica):
        monkeypatch.setattr(module, "orjson", frozen, raising=False)
    runs: list[str] = []
    offered: list[int] = []
    late: list[str] = []

    def turn(call: ServiceCall) -> None:
        mark = call.data["mark"]
        runs.append(mark)
        if int(mark.split()[0]) != offered[-1]:
            late.append(mark)

    hass.services.async_register("valve", "turn", turn)
    BothSides.loop, BothSides.hass, BothSides.anna = hass.loop, hass, anna
    BothSides.add_site, BothSides.folders = staticmethod(add_site), tmp_path
    BothSides.numbers, BothSides.healed = count(), 0
    BothSides.runs, BothSides.offered, BothSides.late = runs, offered, late


def _play_by_hand() -> None:
    game = BothSides()
    game.a_house()
    game.answer_at_the_cloud_what_has_rung_anew("Close")
    game.resolve()
    game.answer_what_may_be_over("Close")
    game.teardown()


@pytest.mark.usefixtures("_played")
async def test_an_answer_to_an_older_ring_or_after_closing_does_not_count() -> None:
    await asyncio.to_thread(_play_by_hand)
    assert BothSides.healed == 1


def _restore_twice_around_a_merge_that_was_lost() -> None:
    """The gateway applies the first records of a restored Home Assistant and loses power before the merge."""
    game = BothSides()
    game.a_house()
    game.answer_and_crash("Close", where=0.8)
    game.answer_at_the_cloud_what_has_rung_anew("Close")
    game.restore_home_assistant()
    game.answer_here("Keep open")
    game.back_up()
    game.power_cut_at_the_gateway_while_it_applies(where=0.5241690461839169, kept=Kept.PREFIX, random=FIXED)
    game.restore_home_assistant()
    game.teardown()


def _restore_the_gateway_after_a_merge_closed_what_had_rung() -> None:
    """A restored Home Assistant rings what was closed, then the gateway is restored to before the closing."""
    game = BothSides()
    game.a_house()
    game.resolve()
    game.connect(ENOUGH)
    game.deliver(reply_lost=False)
    game.restore_home_assistant()
    game.raise_alert()
    game.connect(ENOUGH)
    game.deliver(reply_lost=False)
    game.restore_the_gateway()
    game.connect(ENOUGH)
    game.deliver(reply_lost=False)
    game.teardown()


def _restore_both_sides_after_a_closing(restorings: Sequence[str]) -> None:
    """The cloud hears that it is over, then nobody in the house remembers that."""
    game = BothSides()
    game.a_house()
    game.resolve()
    game.connect(ENOUGH)
    game.deliver(reply_lost=False)
    for restore in restorings:
        getattr(game, restore)()
    game.teardown()


@pytest.mark.parametrize(
    "restorings",
    [
        ("restore_home_assistant", "restore_the_gateway"),
        ("restore_the_gateway", "restore_home_assistant"),
        ("restore_home_assistant", "restore_the_gateway", "resolve", "raise_alert", "restore_home_assistant"),
        ("restore_home_assistant", "restore_the_gateway", "home_assistant_crashes"),
    ],
)
@pytest.mark.usefixtures("_played")
async def test_what_both_sides_forgot_the_closing_of_is_open_for_destinations_too(restorings: Sequence[str]) -> None:
    await asyncio.to_thread(_restore_both_sides_after_a_closing, restorings)
    assert BothSides.healed == 1


@pytest.mark.usefixtures("_played")
async def test_what_was_closed_stays_closed_for_destinations_when_both_sides_were_restored() -> None:
    await asyncio.to_thread(_restore_the_gateway_after_a_merge_closed_what_had_rung)
    assert BothSides.healed == 1


@pytest.mark.usefixtures("_played")
async def test_what_a_memory_lost_is_restored_also_when_the_session_ended_right_before_the_merge() -> None:
    await asyncio.to_thread(_restore_twice_around_a_merge_that_was_lost)
    assert BothSides.healed == 1


async def _play(games: int, steps: int) -> None:
    await asyncio.to_thread(
        run_state_machine_as_test,
        BothSides,
        settings=settings(
            max_examples=games,
            stateful_step_count=steps,
            deadline=None,
            phases=[Phase.generate],
            print_blob=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert BothSides.healed >= games


@pytest.mark.usefixtures("_played")
async def test_both_sides_keep_the_protocols_promises_through_anything() -> None:
    await _play(games=15, steps=20)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("_played")
async def test_both_sides_keep_the_protocols_promises_through_anything_for_long() -> None:
    await _play(games=100, steps=40)
