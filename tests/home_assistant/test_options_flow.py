"""The options flow: recipients and test notifications."""

import json
from pathlib import Path
from unittest.mock import patch

import pytest
from homeassistant.core import HomeAssistant, ServiceCall
from homeassistant.data_entry_flow import FlowResultType
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.process_cosmos.alerts.errors import NotOnDiskError
from custom_components.process_cosmos.flows import forms, options_flow
from tests.support.waiting import until

from .alerts.site import add_phone
from .links import load_texts
from .setting_up import answer, options


@pytest.fixture(autouse=True)
async def _texts(hass: HomeAssistant) -> None:
    await load_texts(hass)


async def test_the_recipients_can_be_changed(hass: HomeAssistant, people_only: MockConfigEntry) -> None:
    result = await options(hass, people_only, "who")
    result = await answer(hass, result, {"phones": [], "notify_entities": []})
    assert result["errors"] == {"base": "nobody"}
    result = await answer(hass, result, {"phones": ["a-phone"], "notify_entities": []})
    assert result["type"] is FlowResultType.CREATE_ENTRY
    assert people_only.options == {
        "phones": ["a-phone"],
        "notify_entities": [],
        "persistent_notification": False,
        "destinations": [],
    }
    await hass.async_block_till_done()


async def test_without_the_app_no_destination_is_offered(hass: HomeAssistant, people_only: MockConfigEntry) -> None:
    result = await hass.config_entries.options.async_init(people_only.entry_id)
    assert result["menu_options"] == ["who", "test_notification"]


async def test_a_test_notification_can_be_sent_at_any_time(hass: HomeAssistant, people_only: MockConfigEntry) -> None:
    result = await options(hass, people_only, "test_notification")
    assert result["type"] is FlowResultType.FORM
    result = await answer(hass, result, {"critical": False})
    assert result["step_id"] == "test_notification_result"
    assert result["description_placeholders"] == {"results": "- **notify.hall**: handed over"}
    (test,) = people_only.runtime_data.alerts.alive
    assert test.content.severity == "info"
    result = await answer(hass, result, {"next_step_id": "test_notification"})
    assert result["type"] is FlowResultType.FORM
    await answer(hass, result, {"critical": True})
    (_, test) = people_only.runtime_data.alerts.alive
    assert test.content.severity == "critical"


async def test_a_test_notification_shows_the_result_for_each_recipient(
    hass: HomeAssistant, people_only: MockConfigEntry
) -> None:
    anna, ben = add_phone(hass, "Anna"), add_phone(hass, "Ben")
    result = await options(hass, people_only, "who")
    await answer(hass, result, {"phones": [anna.device_id, ben.device_id], "notify_entities": ["notify.hall"]})
    await hass.async_block_till_done()
    ben.away = True
    cleo = add_phone(hass, "Cleo")
    hass.config_entries.async_update_entry(
        people_only, options={**people_only.options, "phones": [*people_only.options["phones"], cleo.app_id]}
    )
    assert await hass.config_entries.async_reload(people_only.entry_id)
    cleo.remove()
    hass.states.async_set("notify.hall", "unavailable")
    result = await answer(hass, await options(hass, people_only, "test_notification"), {"critical": False})
    assert (result["description_placeholders"] or {})["results"].splitlines() == [
        "- **Anna**: handed over",
        "- **Ben**: not delivered (notify_failed): The notify action failed: HomeAssistantError",
        "- **Cleo**: not delivered (phone_gone): The phone is no longer registered in Home Assistant or is disabled",
        "- **notify.hall**: not delivered (entity_unavailable): The notify entity is unavailable",
    ]


async def test_a_test_notification_ended_early_still_shows_the_results(
    hass: HomeAssistant, people_only: MockConfigEntry
) -> None:
    anna = add_phone(hass, "Anna")
    result = await options(hass, people_only, "who")
    await answer(hass, result, {"phones": [anna.device_id], "notify_entities": ["notify.hall"]})
    await hass.async_block_till_done()
    alerts = people_only.runtime_data.alerts

    async def press_done_before_it_is_sent(_: ServiceCall) -> None:
        await until(lambda: anna.notifications)
        anna.press(anna.button("Done"))
        await until(lambda: not alerts.alive)
        await until(lambda: anna.clearings)

    hass.services.async_register("notify", "send_message", press_done_before_it_is_sent)
    result = await answer(hass, await options(hass, people_only, "test_notification"), {"critical": False})
    assert (result["description_placeholders"] or {})["results"].splitlines() == [
        "- **Anna**: handed over",
        "- **notify.hall**: handed over",
    ]
    assert not alerts._scheduler._results


async def test_a_test_notification_without_existing_recipients_is_an_error(
    hass: HomeAssistant, people_only: MockConfigEntry
) -> None:
    hass.states.async_remove("notify.hall")
    result = await answer(hass, await options(hass, people_only, "test_notification"), {"critical": False})
    assert result["errors"] == {"base": "nobody_left"}


async def test_a_test_notification_that_was_not_saved_is_an_error(
    hass: HomeAssistant, people_only: MockConfigEntry
) -> None:
    result = await options(hass, people_only, "test_notification")
    with patch.object(options_flow, "async_test_notification", autospec=True, side_effect=NotOnDiskError("disk full")):
        result = await answer(hass, result, {"critical": False})
    assert result["errors"] == {"base": "memory_not_written"}


async def test_a_site_that_is_not_loaded_has_no_options(hass: HomeAssistant, people_only: MockConfigEntry) -> None:
    await hass.config_entries.async_unload(people_only.entry_id)
    result = await hass.config_entries.options.async_init(people_only.entry_id)
    assert result["reason"] == "not_loaded"


def test_every_error_of_a_form_has_a_translation() -> None:
    texts = json.loads(Path("custom_components/process_cosmos/translations/en.json").read_text(encoding="utf-8"))
    errors = forms._SHOWN | {"unknown", forms.LABEL_TAKEN, forms.URL_ENCODED}
    of_the_set_up = {"app_not_installed", "app_not_started", "app_silent", "pairing_refused"}
    assert errors - texts["config"]["error"].keys() == set()
    assert errors - of_the_set_up - texts["options"]["error"].keys() == set()
