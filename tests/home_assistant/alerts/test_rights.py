"""Permissions: a caller who may not answer an open alert cannot weaken it by calling ``alert`` with its group."""

from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest
from homeassistant.auth.models import User
from homeassistant.auth.permissions.const import POLICY_CONTROL
from homeassistant.core import Context, HomeAssistant, ServiceCall
from homeassistant.setup import async_setup_component
from pytest_homeassistant_custom_component.common import MockUser

from custom_components.process_cosmos.alerts.transitions import replica
from tests.home_assistant.alerts.site import Phone, Site
from tests.home_assistant.alerts.test_services import refused

GROUP = "script.leak"
OPEN = {"name": "Open", "actions": [{"action": "valve.open_valve"}]}


@pytest.fixture
def guest(hass: HomeAssistant) -> Context:
    """Return the context of a user who may control one light."""
    user = MockUser(name="Guest").add_to_hass(hass)
    user.mock_policy({"entities": {"entity_ids": {"light.guest": {"read": True, POLICY_CONTROL: True}}}})
    return Context(user_id=user.id)


@pytest.fixture
async def leak(hass: HomeAssistant) -> Callable[[], Awaitable[None]]:
    """Return a function that calls the script that detects water."""
    data = {"message": "Water", "severity": "critical", "entities": ["binary_sensor.wet"], "answers": [OPEN]}
    sequence = [{"action": "process_cosmos.alert", "data": data}]
    assert await async_setup_component(hass, "script", {"script": {"leak": {"sequence": sequence}}})

    async def run() -> None:
        await hass.services.async_call("script", "leak", blocking=True)

    return run


async def test_a_caller_without_the_right_to_answer_adds_only_a_message_and_mentioned_entities(
    site: Site, anna: Phone, guest: Context, leak: Callable[[], Awaitable[None]]
) -> None:
    await leak()
    await site.settle()
    before = site.alive
    data = {
        "message": "Never mind",
        "severity": "info",
        "entities": ["light.guest"],
        "answers": [{"name": "Open"}],
        "if_unanswered": "Open",
        "give_up_after": {"seconds": 1},
        "policy": "nobody",
        "data": {"a": 1},
        "attach": ["light.guest"],
    }
    response = await site.call("alert", guest, group=GROUP, **data)
    assert set(response["ignored"]) == data.keys() - {"message", "severity", "entities"}
    content = site.alive.content
    assert (content.message, content.severity) == ("Water\nNever mind", "critical")
    assert (content.entities, content.mentioned) == (("binary_sensor.wet",), ("light.guest",))
    assert content.answers == before.content.answers
    assert (content.if_unanswered, content.data, content.attached) == (None, None, ())
    assert site.alive.until == before.until
    await site.pass_time(minutes=2)
    assert anna.notifications[-1]["message"].startswith("Water\nNever mind")
    assert anna.button("Open")
    await site.call("alert", guest, group=GROUP, message="Go away")
    assert site.alive.content.message == "Water\nGo away", "the newest addition only"
    await site.reload()
    assert site.alive.content.message == "Water\nGo away"
    await leak()
    assert site.alive.content.message == "Water"
    await site.settle()


async def test_a_caller_without_the_right_to_answer_cannot_postpone_the_give_up_time(
    hass: HomeAssistant, site: Site, guest: Context
) -> None:
    closed: list[ServiceCall] = []
    hass.services.async_register("valve", "close_valve", closed.append)
    close = {"name": "Close", "actions": [{"action": "valve.close_valve"}]}
    data = {"entities": ["binary_sensor.wet"], "answers": [close], "if_unanswered": "Close", "give_up_after": 300}
    raised = await site.raise_alert(**data)
    for number in range(2):
        await site.pass_time(minutes=2)
        await site.call("alert", guest, group="leak", message=f"Never mind {number}")
    await site.reload()
    await site.pass_time(minutes=1)
    assert site.known(raised["id"]).state == "unanswered"
    await site.until(lambda: closed)


async def test_a_caller_without_the_right_to_answer_cannot_outdate_the_buttons_on_phones(
    site: Site, anna: Phone, guest: Context, leak: Callable[[], Awaitable[None]]
) -> None:
    await leak()
    await site.settle()
    for number in range(3):
        await site.call("alert", guest, group=GROUP, message=f"Never mind {number}")
    assert site.alive.revision == 4
    anna.press(anna.button("Seen"))
    await site.settle()
    assert (site.alive.state, anna.refusals) == ("acknowledged", [])
    await site.call("alert", guest, group=GROUP, message="Never mind")
    anna.press(anna.button("Open", 0))
    await site.settle()
    assert (site.alerts.alive, anna.refusals) == ((), [])


async def test_entities_of_a_caller_without_rights_restrict_nobody(
    hass: HomeAssistant, site: Site, guest: Context, leak: Callable[[], Awaitable[None]]
) -> None:
    owner = MockUser(name="Owner").add_to_hass(hass)
    owner.mock_policy({"entities": {"entity_ids": {"binary_sensor.wet": {POLICY_CONTROL: True}}}})
    await leak()
    await site.call("alert", guest, group=GROUP, message="Me too", entities=["light.guest"])
    await site.call("answer", Context(user_id=owner.id), alert=site.alive.id, answer="Open")
    await site.settle()
    assert site.alerts.alive == ()


async def test_a_trusted_call_notifies_although_a_guest_opened_and_acknowledged_the_alert(
    site: Site, anna: Phone, guest: Context, leak: Callable[[], Awaitable[None]]
) -> None:
    await site.call("alert", guest, group=GROUP, message="Water", severity="critical", entities=[])
    await site.call("acknowledge", guest, group=GROUP, **{"for": {"hours": 20}})
    await site.pass_time(minutes=2)
    notifications = len(anna.notifications)
    await leak()
    await site.pass_time(seconds=30)
    assert len(anna.notifications) == notifications + 1
    assert anna.button("Open")
    assert site.alive.content.entities == ("binary_sensor.wet",)


@pytest.mark.parametrize("is_first", [True, False], ids=["guest first", "automation first"])
async def test_a_guest_who_names_many_entities_cannot_answer_for_those_of_the_automation(
    hass: HomeAssistant, site: Site, leak: Callable[[], Awaitable[None]], *, is_first: bool
) -> None:
    """Use a policy for a domain, which also covers entities that do not exist."""
    lights = MockUser(name="Lights").add_to_hass(hass)
    lights.mock_policy({"domains": {"light": True}})
    owner = MockUser(name="Owner").add_to_hass(hass)
    owner.mock_policy({"entities": {"entity_ids": {"binary_sensor.wet": {POLICY_CONTROL: True}}}})
    guest = Context(user_id=lights.id)
    if not is_first:
        await leak()
    await site.call("alert", guest, group=GROUP, message="Me", entities=[f"light.a{n}" for n in range(500)])
    await leak()
    assert site.alive.content.entities == ("binary_sensor.wet",)
    assert "light.a0" in site.alive.content.mentioned
    for action, data in (("answer", {"answer": "Open"}), ("acknowledge", {}), ("resolve", {})):
        assert await refused(site, action, guest, alert=site.alive.id, **data) == "not_allowed"
    await site.call("answer", Context(user_id=owner.id), alert=site.alive.id, answer="Open")
    await site.settle()
    assert site.alerts.alive == ()


async def test_all_entities_of_two_automations_are_required_to_answer(site: Site) -> None:
    await site.raise_alert(entities=["valve.main"], answers=[OPEN])
    await site.raise_alert(entities=[f"light.a{n}" for n in range(500)])
    assert {"valve.main", "light.a499"} <= set(site.alive.content.entities)
    assert len(replica(site.alive, site.alive.opened_at).entities) == 500


async def test_an_entity_mentioned_by_a_guest_notifies_when_the_automation_names_it(site: Site, guest: Context) -> None:
    await site.raise_alert(entities=["binary_sensor.wet"])
    await site.call("alert", guest, group="leak", message="Me", entities=["valve.main"])
    await site.raise_alert(entities=["binary_sensor.wet"])
    before = site.alive
    assert before.content.mentioned == ("valve.main",)
    await site.raise_alert(entities=["valve.main"], answers=[OPEN])
    assert site.alive.revision == before.revision + 1
    assert (site.alive.content.entities, site.alive.content.mentioned) == (("binary_sensor.wet", "valve.main"), ())


async def test_an_untrusted_caller_with_the_right_to_answer_adds_only_mentioned_entities(
    hass: HomeAssistant, site: Site, leak: Callable[[], Awaitable[None]]
) -> None:
    family = MockUser(name="Family").add_to_hass(hass)
    family.mock_policy({"entities": True})
    await leak()
    for _ in range(2):
        await site.call("alert", Context(user_id=family.id), group=GROUP, message="Hall", entities=["light.hall"])
    content = site.alive.content
    assert (content.entities, content.mentioned, site.alive.revision) == (("binary_sensor.wet",), ("light.hall",), 2)
    await site.settle()


async def test_a_trusted_call_replaces_the_answers_of_a_guest(site: Site, guest: Context) -> None:
    await site.call("alert", guest, group="leak", message="Water", answers=["Nobody cares"])
    await site.raise_alert()
    assert [answer.name for answer in site.alive.answers] == ["Done"]


async def test_an_automation_started_by_a_guest_is_trusted(
    hass: HomeAssistant, site: Site, guest: Context, leak: Callable[[], Awaitable[None]]
) -> None:
    await leak()
    user = await hass.auth.async_get_user(str(guest.user_id))
    assert isinstance(user, User)
    user.mock_policy({"entities": {"entity_ids": {"script.leak": {POLICY_CONTROL: True}}}})  # type: ignore[attr-defined] # a MockUser
    await hass.services.async_call("script", "leak", blocking=True, context=guest)
    assert site.alive.count == 2
    assert site.alive.content.trusted
    await site.settle()


async def test_actions_of_a_caller_who_may_not_write_automations_are_dropped_and_the_alert_is_sent(
    hass: HomeAssistant, site: Site, anna: Phone, guest: Context, hass_admin_user: User
) -> None:
    for caller in (guest, Context(user_id="nobody")):
        response = await site.call("alert", caller, message="m", answers=[OPEN, "Keep off"], if_unanswered="Open")
        assert [problem["code"] for problem in response["problems"]] == ["not_allowed", "not_offered"]
        assert [answer.name for answer in site.known(response["id"]).answers] == ["Keep off"]
    await site.settle()
    assert len(anna.notifications) == 2
    response = await site.call("alert", Context(user_id=hass_admin_user.id), message="m", answers=[OPEN])
    assert response["problems"] == []
    await site.settle()


async def test_an_alert_without_answers_can_be_closed_by_every_recipient(
    hass: HomeAssistant, site: Site, anna: Phone, ben: Phone
) -> None:
    await site.raise_alert()
    anna.press(anna.button("Done"))
    await site.settle()
    assert site.alerts.alive == ()
    assert ben.clearings
    calls: list[ServiceCall] = []
    hass.services.async_register("valve", "open_valve", calls.append)
    await site.raise_alert(answers=[OPEN])
    await site.raise_alert("More water")
    assert [answer.name for answer in site.alive.answers] == ["Open"], "the earlier answers stay valid"
    await site.pass_time(timedelta(seconds=30), minutes=2)
    assert anna.button("Open")
