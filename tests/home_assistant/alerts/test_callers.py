"""Callers: direct calls of people, and calls of scripts and automations that run because of them."""

from collections.abc import Callable
from typing import Any

import pytest
from homeassistant.core import Context, HomeAssistant, ServiceCall
from homeassistant.setup import async_setup_component
from pytest_homeassistant_custom_component.common import MockUser

from custom_components.process_cosmos.actions import callers
from tests.home_assistant.alerts.site import Site


@pytest.fixture
def logged(hass: HomeAssistant) -> list[ServiceCall]:
    """Register an action and return the list of its calls."""
    calls: list[ServiceCall] = []
    hass.services.async_register("notify", "log", calls.append)
    return calls


@pytest.fixture
def person(hass: HomeAssistant) -> Callable[[str], Context]:
    """Return a function that creates a context of an administrator, or of a user who may control all entities."""

    def make(group: str) -> Context:
        user = MockUser(name=group, is_owner=group == "admin").add_to_hass(hass)
        user.mock_policy({"entities": True})
        return Context(user_id=user.id)

    return make


def alert(message: str, *actions: dict[str, Any]) -> dict[str, Any]:
    """Return a step that raises an alert with an answer that has these actions."""
    data = {"message": message, "answers": [{"name": "Go on", "actions": list(actions)}]}
    return {"action": "process_cosmos.alert", "data": data}


async def give_answer(site: Site) -> None:
    """Answer the only alert."""
    await site.call("answer", alert=site.alive.id, answer="Go on")


SAY = {"action": "notify.log", "data": {"message": "{{ states('sensor.device') }}"}}


@pytest.mark.parametrize("group", ["admin", "guest"])
async def test_an_alert_raised_by_an_answers_actions_is_no_direct_call(
    hass: HomeAssistant, site: Site, logged: list[ServiceCall], person: Callable[[str], Context], group: str
) -> None:
    hass.states.async_set("sensor.device", "{{ states('sensor.secret') }}")
    sequence = [alert("Water", alert("Still wet", SAY))]
    assert await async_setup_component(hass, "script", {"script": {"leak": {"sequence": sequence}}})
    await hass.services.async_call("script", "leak", blocking=True, context=person(group))
    await give_answer(site)
    await site.until(lambda: site.alerts.alive and site.alive.content.message == "Still wet")
    await give_answer(site)
    await site.until(lambda: logged)
    assert logged[0].data == {"message": "{{ states('sensor.secret') }}"}, "rendered once, by the script"


@pytest.mark.parametrize("group", ["admin", "guest"])
async def test_a_template_buttons_actions_are_no_direct_call(
    hass: HomeAssistant, site: Site, logged: list[ServiceCall], person: Callable[[str], Context], group: str
) -> None:
    hass.states.async_set("sensor.device", "{{ states('sensor.secret') }}")
    button = {"name": "Test", "press": [alert("Water", SAY)]}
    assert await async_setup_component(hass, "template", {"template": [{"button": button}]})
    await hass.async_block_till_done()
    data = {"entity_id": "button.test"}
    await hass.services.async_call("button", "press", data, blocking=True, context=person(group))
    await give_answer(site)
    await site.until(lambda: logged)
    assert logged[0].data == {"message": "{{ states('sensor.secret') }}"}


async def test_a_script_called_by_an_answer_is_the_group_of_its_alert(
    hass: HomeAssistant, site: Site, person: Callable[[str], Context]
) -> None:
    scripts = {"leak": {"sequence": [alert("Water", {"action": "script.next"})]}, "next": {"sequence": [alert("Next")]}}
    assert await async_setup_component(hass, "script", {"script": scripts})
    await hass.services.async_call("script", "leak", blocking=True, context=person("guest"))
    await give_answer(site)
    await site.until(lambda: site.alerts.alive)
    assert site.alive.group == "script.next"


@pytest.mark.usefixtures("site", "logged")
async def test_direct_calls_are_forgotten_oldest_first(
    hass: HomeAssistant, person: Callable[[str], Context], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callers, "REMEMBERED", 2)
    contexts = [person("guest") for _ in range(3)]
    for context in contexts:
        await hass.services.async_call("notify", "log", {}, context=context)
    known = hass.data[callers.CALLERS]
    assert [known.is_direct(context) for context in contexts] == [True, False, False]
