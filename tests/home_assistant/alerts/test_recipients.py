"""Recipients of a site: none is notified twice, and Home Assistant itself is preselected without phones."""

from collections.abc import Callable
from typing import Any

import pytest
from homeassistant.components import persistent_notification
from homeassistant.core import HomeAssistant
from homeassistant.helpers import entity_registry as er

from custom_components.process_cosmos.alerts.policy import PERSISTENT
from custom_components.process_cosmos.alerts.recipient_selection import policy_of
from tests.home_assistant.alerts.site import Phone, Site, add_phone
from tests.home_assistant.setting_up import answer, begin, filled, options, submit

NOBODY: dict[str, Any] = {"phones": [], "notify_entities": [], "persistent_notification": False}


def notify_entity_of(hass: HomeAssistant, phone: Phone) -> str:
    """Register the notify entity that Home Assistant creates for a phone in addition to its notify action."""
    entry = er.async_get(hass).async_get_or_create(
        "notify", "mobile_app", phone.app_id, config_entry=phone.entry, device_id=phone.device_id
    )
    hass.states.async_set(entry.entity_id, "unknown")
    return entry.entity_id


def notifications(hass: HomeAssistant) -> dict[str, str]:
    """Return the messages under *Notifications*, by id."""
    shown = persistent_notification._async_get_or_create_notifications(hass)  # type: ignore[attr-defined]  # there is no public list
    return {notification_id: notification["message"] for notification_id, notification in shown.items()}


async def test_an_alert_is_shown_in_home_assistant_in_each_round_until_it_is_resolved(
    hass: HomeAssistant, add_site: Callable[..., Site]
) -> None:
    site = add_site(persistent_notification=True)
    await site.set_up()
    alert = (await site.raise_alert("Water in the cellar"))["id"]
    [shown] = notifications(hass)
    assert notifications(hass) == {shown: "Water in the cellar"}
    persistent_notification.async_dismiss(hass, shown)
    await site.pass_time(minutes=6)
    assert notifications(hass) == {shown: "Water in the cellar"}
    await site.call("resolve", alert=alert)
    await site.settle()
    assert notifications(hass) == {}


async def test_a_phone_also_chosen_by_its_notify_entity_is_notified_once(
    hass: HomeAssistant, add_site: Callable[..., Site], anna: Phone, ben: Phone
) -> None:
    entities = [notify_entity_of(hass, phone) for phone in (anna, ben)]
    chosen = {"phones": [anna.app_id], "notify_entities": entities}
    assert policy_of(hass, chosen).people == (f"phone:{anna.app_id}", f"notify:{entities[1]}")
    assert policy_of(hass, chosen | {"persistent_notification": True}).people[-1] == PERSISTENT


async def test_the_form_offers_a_phone_once_and_replaces_its_notify_entity_by_the_phone(
    hass: HomeAssistant, add_site: Callable[..., Site], anna: Phone, ben: Phone
) -> None:
    hass.states.async_set("notify.hall", "unknown")
    entities = [notify_entity_of(hass, phone) for phone in (anna, ben)]
    site = add_site(phones=[anna.app_id], notify_entities=[*entities, "notify.hall"])
    await site.set_up()
    form = await options(hass, site.entry, "who")
    assert filled(form) == NOBODY | {"phones": [anna.device_id, ben.device_id], "notify_entities": ["notify.hall"]}
    assert form["data_schema"]
    offered = next(value for key, value in form["data_schema"].schema.items() if key == "notify_entities")
    assert sorted(offered.config["exclude_entities"]) == sorted(entities)
    await answer(hass, form, {"phones": [anna.device_id], "notify_entities": ["notify.hall"]})
    await site.settle()
    assert site.entry.options["notify_entities"] == ["notify.hall"]


@pytest.mark.parametrize(("owned", "others", "expected"), [(0, 0, True), (1, 0, False), (2, 0, False), (0, 1, False)])
async def test_without_a_phone_home_assistant_itself_is_preselected(
    hass: HomeAssistant, owned: int, others: int, *, expected: bool
) -> None:
    for number in range(owned):
        notify_entity_of(hass, add_phone(hass, f"Phone {number}"))
    if others:
        hass.states.async_set("notify.hall", "unknown")
    form = await begin(hass, "without_app")
    assert filled(form)["persistent_notification"] is expected
    assert (await submit(hass, form, NOBODY))["errors"] == {"base": "nobody"}
    done = await submit(hass, form, NOBODY | {"persistent_notification": True})
    assert done["step_id"] == "elsewhere_without_app"
