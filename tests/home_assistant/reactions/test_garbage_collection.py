"""Steady reaction times: full garbage collections are measured, and made shorter once after the start."""

import gc
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from homeassistant.const import EVENT_HOMEASSISTANT_STARTED
from homeassistant.core import CoreState, HomeAssistant
from homeassistant.helpers import entity_registry as er
from homeassistant.util import dt as dt_util
from pytest_homeassistant_custom_component.common import MockConfigEntry, async_fire_time_changed

from custom_components.process_cosmos.const import CONF_AT_ONCE, CONF_BUDGET, CONF_STEADY
from custom_components.process_cosmos.reactions.garbage_collection import (
    FREEZE_AFTER,
    FULL_COLLECTIONS,
    FullCollections,
    async_apply_option,
)
from tests.home_assistant.conftest import set_up
from tests.home_assistant.contract_gateway import ContractGateway
from tests.home_assistant.devices import HOUSE


@pytest.fixture(autouse=True)
def _thawed() -> Iterator[None]:
    """Begin with nothing frozen (the test plugin freezes), and leave nothing frozen."""
    gc.unfreeze()
    yield
    gc.unfreeze()


@pytest.fixture
async def gateway(gateway: ContractGateway) -> ContractGateway:
    gateway.devices = HOUSE
    return gateway


async def pass_time(hass: HomeAssistant, seconds: float) -> None:
    async_fire_time_changed(hass, dt_util.utcnow() + timedelta(seconds=seconds))
    await hass.async_block_till_done()


def steady(hass: HomeAssistant, entry: MockConfigEntry, *, on: bool) -> None:
    hass.config_entries.async_update_entry(entry, options={**entry.options, CONF_STEADY: on})


async def test_a_full_collection_is_measured_without_the_option(hass: HomeAssistant, linked: MockConfigEntry) -> None:
    collections = hass.data[FULL_COLLECTIONS]
    collections.without_freeze = None
    gc.collect(0)
    assert collections.without_freeze is None, "a collection of the young is short"
    gc.collect()
    assert collections.without_freeze is not None
    assert collections.without_freeze > 0
    assert collections.with_freeze is None
    assert gc.get_freeze_count() == 0


async def test_the_option_freezes_once_after_the_start_and_measures_its_effect(
    hass: HomeAssistant, site: MockConfigEntry, caplog: pytest.LogCaptureFixture
) -> None:
    hass.set_state(CoreState.starting)
    site.add_to_hass(hass)
    steady(hass, site, on=True)
    await set_up(hass, site)
    await pass_time(hass, FREEZE_AFTER + 1)
    assert gc.get_freeze_count() == 0, "Home Assistant has not started"
    hass.set_state(CoreState.running)
    hass.bus.async_fire(EVENT_HOMEASSISTANT_STARTED)
    await hass.async_block_till_done()
    assert gc.get_freeze_count() == 0
    await pass_time(hass, FREEZE_AFTER + 1)
    frozen, collections = gc.get_freeze_count(), hass.data[FULL_COLLECTIONS]
    assert frozen > 100_000
    assert collections.without_freeze is not None
    assert collections.with_freeze is None, "right after the freeze there is nothing to walk: no measurement"
    assert f"a full garbage collection took {collections.without_freeze:.3f} s before" in caplog.text
    gc.collect()
    assert collections.with_freeze is not None
    assert collections.with_freeze < collections.without_freeze
    assert await hass.config_entries.async_reload(site.entry_id)
    await pass_time(hass, FREEZE_AFTER + 1)
    assert gc.get_freeze_count() <= frozen, "only once for each start"
    steady(hass, site, on=False)
    assert await hass.config_entries.async_reload(site.entry_id)
    await hass.async_block_till_done()
    assert gc.get_freeze_count() == 0


async def test_an_entry_that_is_unloaded_before_it_is_time_freezes_nothing(
    hass: HomeAssistant, linked: MockConfigEntry
) -> None:
    steady(hass, linked, on=True)
    stop = async_apply_option(hass)
    await hass.async_block_till_done()
    stop()
    await pass_time(hass, FREEZE_AFTER + 1)
    assert gc.get_freeze_count() == 0


async def test_the_dialog_shows_the_effect_and_saves_what_is_shown_at_once(
    hass: HomeAssistant, linked: MockConfigEntry
) -> None:
    hass.data[FULL_COLLECTIONS] = FullCollections(without_freeze=0.4567, with_freeze=None)
    shown: Any = await hass.config_entries.options.async_init(linked.entry_id)
    shown = await hass.config_entries.options.async_configure(shown["flow_id"], {"next_step_id": "reactions"})
    placeholders = shown["description_placeholders"]
    assert (placeholders["without"], placeholders["with"]) == ("0.46 s", "?")
    temperature = "sensor.cellar_temperature"
    await hass.config_entries.options.async_configure(
        shown["flow_id"], {CONF_AT_ONCE: [temperature, "sensor.unknown"], CONF_BUDGET: 50, CONF_STEADY: True}
    )
    await hass.async_block_till_done()
    entry = er.async_get(hass).async_get(temperature)
    assert entry
    assert linked.options[CONF_AT_ONCE] == [entry.id]
    assert (linked.options[CONF_BUDGET], linked.options[CONF_STEADY]) == (50, True)
    shown = await hass.config_entries.options.async_init(linked.entry_id)
    shown = await hass.config_entries.options.async_configure(shown["flow_id"], {"next_step_id": "reactions"})
    suggested = {str(key): key.description["suggested_value"] for key in shown["data_schema"].schema}
    assert suggested == {CONF_AT_ONCE: [temperature], CONF_BUDGET: 50, CONF_STEADY: True}


async def test_a_site_without_the_app_has_no_reaction_times(hass: HomeAssistant, people_only: MockConfigEntry) -> None:
    shown: Any = await hass.config_entries.options.async_init(people_only.entry_id)
    assert "reactions" not in shown["menu_options"]
