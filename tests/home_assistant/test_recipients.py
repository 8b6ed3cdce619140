"""Recipients: options store ids that survive a new registration; forms show devices and entities."""

import pytest
from homeassistant.config_entries import ConfigEntryDisabler, ConfigEntryState
from homeassistant.core import HomeAssistant
from homeassistant.helpers import entity_registry as er
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.process_cosmos.alerts.phones import Button, parse_button
from custom_components.process_cosmos.alerts.recipients import as_form_values, as_options
from custom_components.process_cosmos.const import DOMAIN

from .alerts.site import add_phone

DATA = {"site": None, "url": None, "token": None, "sha256": None}


@pytest.fixture
def siren(hass: HomeAssistant, notify_entity: str) -> er.RegistryEntry:
    """Add a notify entity to the registry; ``notify.hall`` is not in it."""
    return er.async_get(hass).async_get_or_create("notify", "siren", "1", suggested_object_id="siren")


async def test_the_options_of_a_newer_version_are_refused(hass: HomeAssistant, notify_entity: str) -> None:
    entry = MockConfigEntry(domain=DOMAIN, data=DATA, options={}, version=2)
    entry.add_to_hass(hass)
    assert not await hass.config_entries.async_setup(entry.entry_id)
    assert entry.state is ConfigEntryState.MIGRATION_ERROR


async def test_forms_show_the_stored_options(hass: HomeAssistant, siren: er.RegistryEntry) -> None:
    anna = add_phone(hass, "Anna")
    answer = {
        "phones": [anna.device_id, anna.device_id, "a-phone-that-is-gone"],
        "notify_entities": ["notify.siren", "notify.gone"],
    }
    options = as_options(hass, answer)
    assert options == {
        "phones": ["id of Anna", "a-phone-that-is-gone"],
        "notify_entities": [siren.id, "notify.gone"],
    }
    assert as_options(hass, options) == options
    assert as_form_values(hass, options) == {**answer, "phones": [anna.device_id, "a-phone-that-is-gone"]}


async def test_a_disabled_registration_is_ignored(hass: HomeAssistant, people_only: MockConfigEntry) -> None:
    anna = add_phone(hass, "Anna")
    assert as_form_values(hass, {"phones": [anna.app_id]})["phones"] == [anna.device_id]
    await hass.config_entries.async_set_disabled_by(anna.entry.entry_id, ConfigEntryDisabler.USER)
    assert as_form_values(hass, {"phones": [anna.app_id]})["phones"] == [anna.app_id]


@pytest.mark.parametrize("phone", ["a/b%c", "Größe / 📱", "0123456789abcdef0123456789abcdef"])
@pytest.mark.parametrize("answer", ["Close / now", None])
def test_a_button_id_is_parsed_to_the_same_button(phone: str, answer: str | None) -> None:
    button = Button(alert="01J0000000000000000000000A", revision=7, phone=phone, answer=answer)  # type: ignore[arg-type]
    assert parse_button(str(button)) == button
