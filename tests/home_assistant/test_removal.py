"""Removal of the integration: Home Assistant is as before, and automations made by people keep working."""

from pathlib import Path

import pytest
from homeassistant.core import HomeAssistant
from homeassistant.helpers import device_registry as dr
from homeassistant.helpers import entity_registry as er
from homeassistant.helpers import issue_registry as ir
from homeassistant.util.yaml import dump
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.process_cosmos.const import DOMAIN
from custom_components.process_cosmos.workflows.workflows import async_install

from .conftest import set_up
from .leak_guard.house import AUTOMATION, BLUEPRINT, KITCHEN

BLUEPRINT_FILE = f"blueprints/automation/{BLUEPRINT}"

pytestmark = pytest.mark.usefixtures("automations")


def snapshot(hass: HomeAssistant) -> dict[str, object]:
    """Return everything that a removal might leave: files, devices, entities, issues, states."""
    folder = Path(hass.config.config_dir)
    return {
        "files": {str(path.relative_to(folder)): path.is_dir() or path.read_bytes() for path in folder.rglob("*")},
        "devices": {device.id for device in dr.async_get(hass).devices},
        "entities": set(er.async_get(hass).entities),
        "issues": set(ir.async_get(hass).issues),
        "states": set(hass.states.async_entity_ids()),
    }


async def make_automation(hass: HomeAssistant) -> None:
    """Create an automation from the installed blueprint in the same way as a person."""
    inputs = {"sensors": [KITCHEN]}
    instance = {"id": "leaks", "alias": "Leaks", "use_blueprint": {"path": BLUEPRINT, "input": inputs}}
    Path(hass.config.path("configuration.yaml")).write_text(dump({"automation": [instance]}))
    await hass.services.async_call("automation", "reload", blocking=True)


async def remove(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    assert await hass.config_entries.async_remove(entry.entry_id)
    await hass.async_block_till_done()


async def test_files_registries_and_states_are_restored(hass: HomeAssistant, without_app: MockConfigEntry) -> None:
    before = snapshot(hass)
    await set_up(hass, without_app)
    await async_install(hass)
    await hass.services.async_call(DOMAIN, "alert", {"message": "Wet"}, blocking=True)
    await hass.async_block_till_done()
    during = snapshot(hass)
    assert all(during[kind] != before[kind] for kind in ("files", "devices", "entities", "states"))
    await remove(hass, without_app)
    assert snapshot(hass) == before


async def test_a_blueprint_that_is_in_use_or_was_edited_is_kept(
    hass: HomeAssistant, without_app: MockConfigEntry
) -> None:
    await set_up(hass, without_app)
    await async_install(hass)
    await make_automation(hass)
    await remove(hass, without_app)
    state = hass.states.get(AUTOMATION)
    assert state is not None
    assert state.state == "on"
    blueprint_file = Path(hass.config.path(BLUEPRINT_FILE))
    assert blueprint_file.exists()

    Path(hass.config.path("configuration.yaml")).write_text("automation: []\n")
    await hass.services.async_call("automation", "reload", blocking=True)
    blueprint_file.write_text(blueprint_file.read_text() + "# mine\n")
    await set_up(hass, again := MockConfigEntry(domain=DOMAIN, data=without_app.data, options=without_app.options))
    await remove(hass, again)
    assert blueprint_file.exists()


async def test_the_blueprint_of_a_disabled_automation_is_kept(
    hass: HomeAssistant, without_app: MockConfigEntry
) -> None:
    await set_up(hass, without_app)
    await async_install(hass)
    await make_automation(hass)
    er.async_get(hass).async_update_entity(AUTOMATION, disabled_by=er.RegistryEntryDisabler.USER)
    await hass.services.async_call("automation", "reload", blocking=True)
    await hass.async_block_till_done()
    assert hass.states.get(AUTOMATION) is None
    await remove(hass, without_app)
    assert Path(hass.config.path(BLUEPRINT_FILE)).exists()


async def test_blueprints_are_removed_with_the_last_site(hass: HomeAssistant, without_app: MockConfigEntry) -> None:
    await set_up(hass, without_app)
    await set_up(hass, other := MockConfigEntry(domain=DOMAIN, data=without_app.data, options=without_app.options))
    await async_install(hass)
    await remove(hass, other)
    assert Path(hass.config.path(BLUEPRINT_FILE)).exists()
    await remove(hass, without_app)
    assert not Path(hass.config.path(BLUEPRINT_FILE)).exists()
