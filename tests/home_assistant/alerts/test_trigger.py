"""Triggers for the five states of alerts, filtered by entities."""

import pytest
from homeassistant.core import HomeAssistant
from homeassistant.setup import async_setup_component

from tests.home_assistant.alerts.site import Site

FIRED = "{{ trigger.alert }} {{ trigger.answer }} {{ trigger.by }}"


async def add_automation(hass: HomeAssistant, trigger: str, **options: str) -> list[str]:
    """Add an automation with one trigger and return the list of its firings."""
    fired: list[str] = []
    hass.bus.async_listen("fired", lambda event: fired.append(event.data["what"]))
    config = {
        "alias": "a",
        "triggers": [{"trigger": f"process_cosmos.alert_{trigger}", "options": options}],
        "actions": [{"event": "fired", "event_data": {"what": FIRED}}],
    }
    assert await async_setup_component(hass, "automation", {"automation": [config]})
    await hass.async_block_till_done()
    return fired


@pytest.mark.parametrize(
    ("state", "action", "data"),
    [("acknowledged", "acknowledge", {}), ("answered", "answer", {"answer": "Keep off"}), ("resolved", "resolve", {})],
)
async def test_a_trigger_fires_when_its_state_is_on_disk(
    hass: HomeAssistant, site: Site, state: str, action: str, data: dict[str, str]
) -> None:
    fired = await add_automation(hass, state)
    raised = await site.raise_alert(answers=[{"name": "Keep off"}])
    await site.call(action, alert=raised["id"], **data)
    await site.until(lambda: fired)
    assert fired == [f"{raised['id']} {data.get('answer')} Home Assistant"]


async def test_the_unanswered_trigger_fires_at_the_give_up_time(hass: HomeAssistant, site: Site) -> None:
    fired = await add_automation(hass, "unanswered")
    await site.raise_alert(give_up_after=30)
    assert fired == []
    await site.pass_time(seconds=40)
    await site.until(lambda: fired)
    assert len(fired) == 1


async def test_a_trigger_for_an_entity_ignores_alerts_of_others(hass: HomeAssistant, site: Site) -> None:
    fired = await add_automation(hass, "opened", entity_id="valve.main")
    await site.raise_alert(group="a", entities=["valve.other"])
    await site.raise_alert(group="b")
    assert fired == []
    await site.raise_alert(group="c", entities=["valve.other", "valve.main"])
    await site.until(lambda: fired)
    assert len(fired) == 1


async def test_a_trigger_survives_a_reload_of_the_site_and_can_be_removed(hass: HomeAssistant, site: Site) -> None:
    fired = await add_automation(hass, "opened")
    await site.reload()
    await site.raise_alert()
    await site.until(lambda: fired)
    await hass.services.async_call("automation", "turn_off", {"entity_id": "automation.a"}, blocking=True)
    await site.raise_alert(group="other")
    await site.settle()
    assert len(fired) == 1
