"""Stateful tests of the protocol between integration and gateway, with fixed and random histories."""

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
from tests.gateway.powercut.disk import Kept

from .both_sides import CLOUD
from .both_sides_game import ENOUGH, ProtocolMachine
from .site import Phone, Site

FIXED = Random(1600)  # noqa: S311 - selects the writes that survive a power cut


@pytest.fixture
def protocol(
    hass: HomeAssistant,
    add_site: Callable[..., Site],
    anna: Phone,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Prepare Home Assistant for many sites, each of which notifies a phone at once and the cloud 5 s later."""
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
    ProtocolMachine.loop, ProtocolMachine.hass, ProtocolMachine.anna = hass.loop, hass, anna
    ProtocolMachine.add_site, ProtocolMachine.folders = staticmethod(add_site), tmp_path
    ProtocolMachine.numbers, ProtocolMachine.recovered = count(), 0
    ProtocolMachine.runs, ProtocolMachine.offered, ProtocolMachine.late = runs, offered, late


def _answer_outdated_and_closed_alerts() -> None:
    machine = ProtocolMachine()
    machine.set_up_site()
    machine.answer_an_outdated_revision_at_the_cloud("Close")
    machine.resolve()
    machine.answer_a_possibly_closed_alert("Close")
    machine.teardown()


@pytest.mark.usefixtures("protocol")
async def test_an_answer_to_an_older_revision_or_after_closing_is_refused() -> None:
    await asyncio.to_thread(_answer_outdated_and_closed_alerts)
    assert ProtocolMachine.recovered == 1


def _restore_twice_around_a_merge_that_was_lost() -> None:
    """Let the gateway lose power between the first records of a restored Home Assistant and the merge."""
    machine = ProtocolMachine()
    machine.set_up_site()
    machine.answer_and_crash("Close", fraction=0.8)
    machine.answer_an_outdated_revision_at_the_cloud("Close")
    machine.restore_home_assistant()
    machine.answer_here("Keep open")
    machine.back_up()
    machine.power_cut_at_the_gateway_while_it_applies(fraction=0.5241690461839169, kept=Kept.PREFIX, random=FIXED)
    machine.restore_home_assistant()
    machine.teardown()


def _restore_the_gateway_after_a_merge_closed_an_updated_alert() -> None:
    """Let a restored Home Assistant update a closed alert, then restore the gateway to before the closing."""
    machine = ProtocolMachine()
    machine.set_up_site()
    machine.resolve()
    machine.connect(ENOUGH)
    machine.deliver(reply_lost=False)
    machine.restore_home_assistant()
    machine.raise_alert()
    machine.connect(ENOUGH)
    machine.deliver(reply_lost=False)
    machine.restore_the_gateway()
    machine.connect(ENOUGH)
    machine.deliver(reply_lost=False)
    machine.teardown()


def _restore_both_sides_after_a_closing(restores: Sequence[str]) -> None:
    """Notify the cloud of a closed alert, then restore both sides to before the closing."""
    machine = ProtocolMachine()
    machine.set_up_site()
    machine.resolve()
    machine.connect(ENOUGH)
    machine.deliver(reply_lost=False)
    for restore in restores:
        getattr(machine, restore)()
    machine.teardown()


@pytest.mark.parametrize(
    "restores",
    [
        ("restore_home_assistant", "restore_the_gateway"),
        ("restore_the_gateway", "restore_home_assistant"),
        ("restore_home_assistant", "restore_the_gateway", "resolve", "raise_alert", "restore_home_assistant"),
        ("restore_home_assistant", "restore_the_gateway", "home_assistant_crashes"),
    ],
)
@pytest.mark.usefixtures("protocol")
async def test_an_alert_whose_closing_both_sides_lost_is_open_for_destinations_too(restores: Sequence[str]) -> None:
    await asyncio.to_thread(_restore_both_sides_after_a_closing, restores)
    assert ProtocolMachine.recovered == 1


@pytest.mark.usefixtures("protocol")
async def test_a_closed_alert_stays_closed_for_destinations_when_both_sides_were_restored() -> None:
    await asyncio.to_thread(_restore_the_gateway_after_a_merge_closed_an_updated_alert)
    assert ProtocolMachine.recovered == 1


@pytest.mark.usefixtures("protocol")
async def test_lost_records_are_restored_even_if_the_session_ended_right_before_the_merge() -> None:
    await asyncio.to_thread(_restore_twice_around_a_merge_that_was_lost)
    assert ProtocolMachine.recovered == 1


async def _run_machine(examples: int, steps: int) -> None:
    await asyncio.to_thread(
        run_state_machine_as_test,
        ProtocolMachine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            phases=[Phase.generate],
            print_blob=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert ProtocolMachine.recovered >= examples


@pytest.mark.usefixtures("protocol")
async def test_the_protocol_keeps_its_invariants_in_random_histories() -> None:
    await _run_machine(examples=15, steps=20)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("protocol")
async def test_the_protocol_keeps_its_invariants_in_long_random_histories() -> None:
    await _run_machine(examples=100, steps=40)
