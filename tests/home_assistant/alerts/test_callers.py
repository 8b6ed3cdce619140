"""Whose call it is: what a person calls himself, and what runs because of what he did."""

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
    """The calls of an action that an answer runs."""
    calls: list[ServiceCall] = []
    hass.services.async_register("notify", "log", calls.append)
    return calls


@pytest.fixture
def person(hass: HomeAssistant) -> Callable[[str], Context]:
    """Return what makes the context of a new action of an administrator or another user who may control everything."""

    def make(group: str) -> Context:
        user = MockUser(name=group, is_owner=group == "admin").add_to_hass(hass)
        user.mock_policy({"entities": True})
        return Context(user_id=user.id)

    return make


def alert(message: str, *actions: dict[str, Any]) -> dict[str, Any]:
    """A step that alerts people, with an answer that has these actions."""
    data = {"message": message, "answers": [{"name": "Go on", "actions": list(actions)}]}
    return {"action": "process_cosmos.alert", "data": data}


async def go_on(site: Site) -> None:
    """Give the answer of the one alert."""
    await site.call("answer", alert=site.alive.id, answer="Go on")


SAY = {"action": "notify.log", "data": {"message": "{{ states('sensor.device') }}"}}


@pytest.mark.parametrize("group", ["admin", "guest"])
async def test_what_an_answers_actions_escalate_is_no_direct_call_of_who_started_the_script(
    hass: HomeAssistant, site: Site, logged: list[ServiceCall], person: Callable[[str], Context], group: str
) -> None:
    hass.states.async_set("sensor.device", "{{ states('sensor.secret') }}")
    sequence = [alert("Water", alert("Still wet", SAY))]
    assert await async_setup_component(hass, "script", {"script": {"leak": {"sequence": sequence}}})
    await hass.services.async_call("script", "leak", blocking=True, context=person(group))
    await go_on(site)
    await site.until(lambda: site.alerts.alive and site.alive.content.message == "Still wet")
    await go_on(site)
    await site.until(lambda: logged)
    assert logged[0].data == {"message": "{{ states('sensor.secret') }}"}, "rendered once, by the script"


@pytest.mark.parametrize("group", ["admin", "guest"])
async def test_what_a_template_button_does_is_its_authors(
    hass: HomeAssistant, site: Site, logged: list[ServiceCall], person: Callable[[str], Context], group: str
) -> None:
    hass.states.async_set("sensor.device", "{{ states('sensor.secret') }}")
    button = {"name": "Test", "press": [alert("Water", SAY)]}
    assert await async_setup_component(hass, "template", {"template": [{"button": button}]})
    await hass.async_block_till_done()
    data = {"entity_id": "button.test"}
    await hass.services.async_call("button", "press", data, blocking=True, context=person(group))
    await go_on(site)
    await site.until(lambda: logged)
    assert logged[0].data == {"message": "{{ states('sensor.secret') }}"}


async def test_a_script_that_an_answer_calls_is_the_group_of_its_alert(
    hass: HomeAssistant, site: Site, person: Callable[[str], Context]
) -> None:
    scripts = {"leak": {"sequence": [alert("Water", {"action": "script.next"})]}, "next": {"sequence": [alert("Next")]}}
    assert await async_setup_component(hass, "script", {"script": scripts})
    await hass.services.async_call("script", "leak", blocking=True, context=person("guest"))
    await go_on(site)
    await site.until(lambda: site.alerts.alive)
    assert site.alive.group == "script.next"


@pytest.mark.usefixtures("site", "logged")
async def test_what_people_do_is_forgotten_oldest_first(
    hass: HomeAssistant, person: Callable[[str], Context], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callers, "REMEMBERED", 2)
    contexts = [person("guest") for _ in range(3)]
    for context in contexts:
        await hass.services.async_call("notify", "log", {}, context=context)
    known = hass.data[callers.CALLERS]
    assert [known.is_direct(context) for context in contexts] == [True, False, False]
