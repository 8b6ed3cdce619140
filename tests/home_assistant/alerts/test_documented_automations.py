"""The automations of docs/alerts.md, run as they stand there in Home Assistant."""

from typing import Any

import pytest
import yaml
from homeassistant.core import HomeAssistant, ServiceCall
from homeassistant.setup import async_setup_component
from pytest_homeassistant_custom_component.common import async_mock_service

from custom_components.process_cosmos.contract.alerts import AlertState
from tests.home_assistant.alerts.site import Phone, Site
from tests.support.documents import blocks


@pytest.fixture
async def automations(hass: HomeAssistant, site: Site) -> None:
    """Set up every automation of the page."""
    found: list[dict[str, Any]] = [yaml.safe_load(text) for text in blocks("docs/alerts.md", "yaml")]
    assert [each["alias"] for each in found] == ["Freezer", "Boiler", "Garage door", "Alerts to Pushover"]
    assert await async_setup_component(hass, "automation", {"automation": found})
    await hass.async_block_till_done()
    assert len(hass.states.async_entity_ids("automation")) == len(found)


def buttons(phone: Phone) -> list[str]:
    """Return the titles of the buttons of the newest notification."""
    return [each["title"] for each in phone.notifications[-1]["data"]["actions"]]


@pytest.fixture
def pushover(hass: HomeAssistant) -> list[ServiceCall]:
    """Return the calls of a notify action that has no entity."""
    return async_mock_service(hass, "notify", "pushover")


@pytest.mark.usefixtures("automations")
async def test_a_message_is_shown_with_done_and_seen(
    hass: HomeAssistant, site: Site, anna: Phone, pushover: list[ServiceCall]
) -> None:
    hass.states.async_set("sensor.freezer_temperature", "-20")
    hass.states.async_set("sensor.freezer_temperature", "-11")
    await site.pass_time(minutes=11)
    assert (site.alive.group, site.alive.content.severity) == ("automation.freezer", "critical")
    [shown] = anna.notifications
    assert shown["message"] == "Freezer: -11 °C"
    assert buttons(anna) == ["Done", "Seen"]
    assert [call.data["message"] for call in pushover] == ["Freezer: -11 °C"]


@pytest.mark.usefixtures("automations", "pushover")
async def test_an_answer_runs_its_actions(hass: HomeAssistant, site: Site, anna: Phone) -> None:
    async_mock_service(hass, "switch", "turn_off")
    turned_on = async_mock_service(hass, "switch", "turn_on")
    hass.states.async_set("binary_sensor.boiler_fault", "off")
    hass.states.async_set("binary_sensor.boiler_fault", "on")
    await site.settle()
    assert site.alive.content.give_up_after == 2 * 3600
    assert buttons(anna) == [
        "Restart it",
        "Leave it off",
        "Seen",
    ]
    anna.press(anna.button("Restart it"))
    await site.until(lambda: turned_on)
    assert turned_on[0].data["entity_id"] == ["switch.boiler"]


@pytest.mark.usefixtures("automations", "pushover")
async def test_nobody_answers_and_the_answer_that_is_named_runs(hass: HomeAssistant, site: Site) -> None:
    turned_off = async_mock_service(hass, "switch", "turn_off")
    turned_on = async_mock_service(hass, "switch", "turn_on")
    hass.states.async_set("binary_sensor.boiler_fault", "off")
    hass.states.async_set("binary_sensor.boiler_fault", "on")
    await site.settle()
    await site.pass_time(hours=2, minutes=1)
    await site.until(lambda: turned_off)
    assert not turned_on


@pytest.mark.usefixtures("automations", "pushover")
async def test_an_alert_ends_by_itself(hass: HomeAssistant, site: Site, anna: Phone) -> None:
    hass.states.async_set("cover.garage", "closed")
    hass.states.async_set("cover.garage", "open")
    await site.pass_time(minutes=16)
    alert = site.alive.id
    assert buttons(anna) == [
        "Close it",
        "Leave it open",
        "Seen",
    ]
    hass.states.async_set("cover.garage", "closed")
    await site.until(lambda: not site.alerts.alive)
    assert (site.known(alert).state, site.known(alert).note) == (AlertState.RESOLVED, "Closed")
    await site.until(lambda: anna.clearings)
