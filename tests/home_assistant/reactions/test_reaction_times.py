"""Reaction times of automations made from our blueprints: measured by part, shown as sensors, an issue over budget."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from homeassistant.components.automation import EVENT_AUTOMATION_TRIGGERED
from homeassistant.core import HomeAssistant
from homeassistant.helpers import entity_registry as er
from homeassistant.helpers import issue_registry as ir
from homeassistant.util import dt as dt_util
from homeassistant.util.yaml import dump, parse_yaml
from pytest_homeassistant_custom_component.common import (
    MockConfigEntry,
    async_capture_events,
    async_fire_time_changed,
    async_mock_service,
)

from custom_components.process_cosmos.const import CONF_BUDGET, DOMAIN
from custom_components.process_cosmos.contract.devices import ValueChanged
from custom_components.process_cosmos.contract.session import Heartbeat
from custom_components.process_cosmos.diagnostics import async_get_config_entry_diagnostics
from custom_components.process_cosmos.issues.reaction_issue import show_reaction_issue
from custom_components.process_cosmos.reactions import reaction_times
from custom_components.process_cosmos.reactions.garbage_collection import FULL_COLLECTIONS, FullCollections
from custom_components.process_cosmos.reactions.reaction_times import LONGEST, Reaction, ReactionSummary
from custom_components.process_cosmos.reactions.references import RENEW_SECONDS
from tests.home_assistant.contract_gateway import ContractGateway
from tests.home_assistant.devices import HOUSE, LEAK
from tests.home_assistant.leak_guard.house import AUTOMATION, LeakGuardHome, Valve
from tests.support.waiting import until

WET, VALVE = "binary_sensor.kitchen_leak_wet", "valve.main_valve"
SENSOR = "sensor.process_cosmos_leaks_reaction_time"
WAITED = 0.004
"""Seconds the messages below waited in the gateway."""


class Site:
    """The site ``entry`` with an automation *Leaks* made from *Leak guard*, and the time."""

    def __init__(self, hass: HomeAssistant, gateway: ContractGateway, entry: MockConfigEntry) -> None:
        self.hass = hass
        self.entry = entry
        self.house = LeakGuardHome(hass, Valve())
        self._gateway = gateway
        self._sequence = 1000
        self._passed = 0.0

    async def report(self, *, wet: bool, waited: float = WAITED, delayed: float = 0.0, measured: bool = True) -> None:
        """Let the leak sensor report after ``waited`` seconds in the gateway and ``delayed`` seconds on the link."""
        self._sequence += 1
        coordinator = self.entry.runtime_data.coordinator
        now = monotonic()
        message = ValueChanged(sequence=self._sequence, device=LEAK.id, property="wet", value=wet, age=0)
        if measured:
            message = replace(message, received=now - delayed - waited, sent=now - delayed)
        await self._gateway.send(Heartbeat(sent=now), message)
        await until(lambda: coordinator.devices.sequence == self._sequence)
        await self.house.settle()

    async def leak(self, times: int = 1, *, delayed: float = 0.0) -> None:
        for _ in range(times):
            await self.report(wet=True, delayed=delayed)
            await self.report(wet=False)

    async def wait(self, seconds: float) -> None:
        self._passed += seconds
        async_fire_time_changed(self.hass, dt_util.utcnow() + timedelta(seconds=self._passed))
        await self.house.settle()

    @property
    def reactions(self) -> Sequence[Reaction]:
        found: Sequence[Reaction] = self.entry.runtime_data.coordinator.reaction_times.summary("leaks").reactions
        return found

    @property
    def issues(self) -> dict[str, Any]:
        found = ir.async_get(self.hass).issues.values()
        return {
            str(one.translation_key): one.translation_placeholders
            for one in found
            if one.domain == DOMAIN and str(one.translation_key).startswith("reactions_")
        }


@pytest.fixture
async def home(hass: HomeAssistant, gateway: ContractGateway, site: MockConfigEntry) -> Site:
    gateway.devices = HOUSE
    await load(hass, site)
    found = Site(hass, gateway, site)
    await found.house.automation(sensors=[WET], valve=VALVE, dry_for=1)
    await found.wait(RENEW_SECONDS)
    return found


async def load(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    if entry.entry_id not in hass.config_entries.async_entry_ids():
        entry.add_to_hass(hass)
    assert await hass.config_entries.async_setup(entry.entry_id)
    await until(lambda: entry.runtime_data.coordinator.status)


async def test_a_reaction_lasts_from_the_message_to_the_first_action(home: Site) -> None:
    begun = monotonic()
    await home.report(wet=True)
    [reaction] = home.reactions
    assert reaction.gateway == pytest.approx(WAITED)
    assert reaction.link < monotonic() - begun
    assert 0 < reaction.home_assistant < monotonic() - begun
    assert reaction.garbage_collection == 0
    assert reaction.seconds == pytest.approx(reaction.gateway + reaction.link + reaction.home_assistant)
    await home.leak()
    assert len(home.reactions) == 1, "the sensor was wet already; the second message was no change"
    await home.leak()
    assert len(home.reactions) == 2, "several actions of one run are one reaction"


async def test_a_message_that_was_long_on_its_way_is_known_by_the_heartbeats(home: Site) -> None:
    await home.report(wet=True, delayed=0.3)
    assert 0.3 <= home.reactions[0].link < 1


async def test_garbage_collections_are_a_part_of_their_own(home: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FullCollections, "seconds_between", lambda _, begin, end: (end - begin) / 2)
    await home.report(wet=True, delayed=0.3)
    [reaction] = home.reactions
    assert reaction.garbage_collection == pytest.approx(reaction.link + reaction.home_assistant)


def test_collections_count_as_far_as_they_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    collections = FullCollections()
    for begun, ended in ((10.0, 10.5), (12.0, 13.0)):
        for phase, now in (("start", begun), ("stop", ended)):
            monkeypatch.setattr("custom_components.process_cosmos.reactions.garbage_collection.monotonic", lambda: now)  # noqa: B023 - called at once
            collections.measure(phase, {"generation": 2})
    assert collections.seconds_between(0.0, 9.0) == 0
    assert collections.seconds_between(10.25, 12.25) == pytest.approx(0.5)
    assert collections.seconds_between(0.0, 20.0) == pytest.approx(1.5)


async def test_what_is_no_reaction_to_a_message_is_not_measured(home: Site, hass: HomeAssistant) -> None:
    ran = async_capture_events(hass, EVENT_AUTOMATION_TRIGGERED)
    await home.report(wet=True, measured=False)
    assert len(ran) == 1
    assert home.reactions == [], "the message has no times"
    await home.report(wet=False)
    await home.wait(2)
    assert len(ran) == 2
    assert home.reactions == [], "the trigger waited"
    await hass.services.async_call("automation", "trigger", {"entity_id": AUTOMATION}, blocking=False)
    await home.house.settle()
    assert len(ran) == 3
    assert home.reactions == [], "a person started it"


async def test_another_automation_is_not_measured_and_has_no_sensor(home: Site, hass: HomeAssistant) -> None:
    file = Path(hass.config.path("configuration.yaml"))
    trigger = {"trigger": "state", "entity_id": WET, "to": "on"}
    other = {"id": "other", "alias": "Other", "triggers": [trigger], "actions": [{"action": "test.act"}]}
    config: Any = parse_yaml(file.read_text())
    file.write_text(dump({"automation": [*config["automation"], other]}))
    await hass.services.async_call("automation", "reload", blocking=True)
    await home.wait(RENEW_SECONDS)
    acted = async_mock_service(hass, "test", "act")
    times = home.entry.runtime_data.coordinator.reaction_times
    await home.report(wet=True)
    assert len(acted) == 1
    assert len(home.reactions) == 1
    assert times.automations == {"leaks": "Leaks"}
    assert times.summary("other").reactions == []
    assert hass.states.get("sensor.process_cosmos_other_reaction_time") is None


async def test_a_change_replayed_after_a_disconnection_is_not_measured(home: Site) -> None:
    await home.report(wet=True, waited=LONGEST + 1)
    assert home.reactions == []


async def test_an_action_after_a_wait_is_not_measured(home: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    now = monotonic()
    moments = iter([now, now, now + LONGEST + 1])
    monkeypatch.setattr(reaction_times, "monotonic", lambda: next(moments, now + LONGEST + 1))
    await home.report(wet=True)
    assert home.reactions == []


async def test_reactions_are_counted_for_a_day(home: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    await home.leak()
    monkeypatch.setattr(reaction_times, "monotonic", lambda: monotonic() + 86_000)
    await home.leak()
    assert len(home.reactions) == 2
    monkeypatch.setattr(reaction_times, "monotonic", lambda: monotonic() + 86_500)
    assert len(home.reactions) == 1


async def test_the_sensor_of_an_automation_shows_percentiles_and_budget(home: Site, hass: HomeAssistant) -> None:
    before = hass.states.get(SENSOR)
    assert before
    assert (before.state, before.attributes["reactions"]) == ("unknown", 0)
    await home.leak(2)
    await home.leak(delayed=0.3)
    await home.wait(31)
    state = hass.states.get(SENSOR)
    assert state
    assert 300 <= float(state.state) < 2000
    assert state.attributes["unit_of_measurement"] == "ms"
    assert WAITED * 1000 <= state.attributes["median"] < float(state.state)
    assert {name: state.attributes[name] for name in ("budget", "reactions", "over_budget")} == {
        "budget": 100,
        "reactions": 3,
        "over_budget": 1,
    }
    assert home.issues == {}, "a single pause is no issue"


@pytest.mark.parametrize("loaded", [True, False])
async def test_the_sensor_disappears_with_its_automation(home: Site, hass: HomeAssistant, loaded: bool) -> None:  # noqa: FBT001
    registry = er.async_get(hass)
    assert registry.async_get(SENSOR)
    if not loaded:
        assert await hass.config_entries.async_unload(home.entry.entry_id)
    registry.async_remove(AUTOMATION)
    await hass.async_block_till_done()
    if not loaded:
        await load(hass, home.entry)
    await home.wait(RENEW_SECONDS)
    assert registry.async_get(SENSOR) is None
    assert hass.states.get(SENSOR) is None


async def test_slow_reactions_are_an_issue_that_tells_the_share_of_collections(
    home: Site, hass: HomeAssistant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FullCollections, "seconds_between", lambda _, begin, end: 0.5 * (end - begin))
    await home.leak(3, delayed=0.3)
    await home.wait(31)
    assert list(home.issues) == ["reactions_slow"]
    shown = home.issues["reactions_slow"]
    assert (shown["automation"], shown["budget"], shown["slow"], shown["reactions"]) == ("Leaks", "100 ms", "3", "3")
    assert 45 <= int(shown["collections"].removesuffix("%")) <= 50, "the wait in the gateway was no collection"
    assert await hass.config_entries.async_unload(home.entry.entry_id)
    assert home.issues == {}
    await load(hass, home.entry)
    await home.wait(31)
    assert list(home.issues) == ["reactions_slow"], "the reactions outlast a reload"
    assert await hass.config_entries.async_unload(home.entry.entry_id)
    hass.config_entries.async_update_entry(home.entry, options={**home.entry.options, CONF_BUDGET: 10_000})
    await load(hass, home.entry)
    await home.wait(31)
    assert len(home.reactions) == 3
    assert home.issues == {}


def test_the_issue_does_not_come_and_go_with_each_reaction(hass: HomeAssistant, without_app: MockConfigEntry) -> None:
    def issue_with(fast: int, slow: int) -> bool:
        times = [Reaction(at=0, gateway=each, link=0, home_assistant=0, garbage_collection=0) for each in (0.01, 0.2)]
        summary = ReactionSummary([times[0]] * fast + [times[1]] * slow, 0.1)
        show_reaction_issue(hass, without_app, ("leaks", "Leaks"), summary)
        return any(one.translation_key == "reactions_slow" for one in ir.async_get(hass).issues.values())

    assert not issue_with(fast=400, slow=3), "one in a hundred is allowed"
    assert not issue_with(fast=1, slow=2), "a pause is no issue"
    assert issue_with(fast=296, slow=3)
    assert issue_with(fast=500, slow=3), "until they have expired"
    assert not issue_with(fast=500, slow=2)


async def test_the_diagnostics_tell_what_took_the_time_and_no_name(home: Site, hass: HomeAssistant) -> None:
    hass.data[FULL_COLLECTIONS].without_freeze = 0.46
    await home.leak()
    await home.leak(delayed=0.3)
    found = await async_get_config_entry_diagnostics(hass, home.entry)
    [shown] = found["gateway"]["reactions"]
    assert (shown["reactions"], shown["over_budget"], shown["budget"]) == (2, 1, 0.1)
    assert shown["slowest"]["link"] >= 0.3
    assert 0.15 <= shown["mean"]["link"] < shown["slowest"]["link"]
    assert shown["p50"] < shown["p99"] == pytest.approx(sum(shown["slowest"].values()))
    assert found["full_collections"] == {"frozen": False, "without_freeze": 0.46, "with_freeze": None}
    assert "Leaks" not in json.dumps(found, default=str)
