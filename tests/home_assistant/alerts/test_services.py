"""Actions of the integration: their responses, the group of a call, and refusals with their codes."""

import asyncio
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest
from homeassistant.auth.models import User
from homeassistant.auth.permissions.const import POLICY_CONTROL
from homeassistant.config_entries import ConfigEntryState
from homeassistant.core import Context, HomeAssistant
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers import issue_registry as ir
from homeassistant.setup import async_setup_component
from pytest_homeassistant_custom_component.common import MockUser

from custom_components.process_cosmos.alerts.errors import MEMORY_NOT_WRITTEN, NO_GROUP
from custom_components.process_cosmos.alerts.push import push_payload
from custom_components.process_cosmos.contract.errors import Code
from tests.home_assistant.alerts.site import Phone, Site

ANSWERS = [{"name": "Keep off"}]


async def refused(at: Site, action: str, context: Context | None = None, /, **data: object) -> str | None:
    """Call an action that must be refused and return the code."""
    with pytest.raises(HomeAssistantError) as raised:
        await at.call(action, context, **data)
    await at.settle()
    return raised.value.translation_key


def add_user(hass: HomeAssistant, entity: str | None = None) -> User:
    """Add a user who may control only ``entity``."""
    user = MockUser(name="Guest").add_to_hass(hass)
    allowed = {entity: {"read": True, POLICY_CONTROL: True}} if entity else {}
    user.mock_policy({"entities": {"entity_ids": allowed}})
    return user


async def test_the_action_returns_id_state_new_and_revision(site: Site) -> None:
    first = await site.raise_alert()
    said: dict[str, Any] = {"ignored": (), "problems": []}
    assert first == {"id": site.alive.id, "state": "open", "new": True, "revision": 1, **said}
    assert await site.raise_alert("More water") == {**first, "new": False, "revision": 2}


async def test_the_calling_automation_is_the_group_and_can_resolve_without_naming_it(
    hass: HomeAssistant, site: Site
) -> None:
    call = {"action": "process_cosmos.alert", "data": {"message": "Water"}}
    automation = {
        "alias": "Leak",
        "triggers": [{"trigger": "event", "event_type": ["wet", "dry"]}],
        "actions": [
            {
                "if": "{{ trigger.event.event_type == 'wet' }}",
                "then": {"parallel": [call]},
                "else": {"action": "process_cosmos.resolve"},
            }
        ],
    }
    assert await async_setup_component(hass, "automation", {"automation": [automation]})
    hass.bus.async_fire("wet")
    await site.settle()
    hass.bus.async_fire("wet")
    await site.settle()
    assert (site.alive.group, site.alive.count) == ("automation.leak", 2)
    hass.bus.async_fire("dry")
    await site.settle()
    assert site.alerts.alive == ()
    hass.bus.async_fire("dry")  # nothing is alive: the automation ends without an error
    await site.settle()


async def test_the_calling_script_is_the_group(hass: HomeAssistant, site: Site) -> None:
    sequence = [{"action": "process_cosmos.alert", "data": {"message": "Water"}}]
    assert await async_setup_component(hass, "script", {"script": {"leak": {"sequence": sequence}}})
    await hass.services.async_call("script", "leak", blocking=True)
    await site.settle()
    assert site.alive.group == "script.leak"


@pytest.mark.parametrize("group", ["Kitchen\n", "\ud83d", "x" * 5000], ids=["line break", "half a character", "long"])
async def test_a_group_is_the_same_in_every_action(site: Site, group: str) -> None:
    await site.raise_alert(group=group)
    await site.call("acknowledge", group=group)
    assert site.alive.state == "acknowledged"
    await site.call("resolve", group=group)
    assert site.alerts.alive == ()


@pytest.mark.parametrize("name", ["Close " * 12, " Close "], ids=["long", "blanks"])
async def test_the_name_of_an_answer_is_normalised_in_every_field(site: Site, name: str) -> None:
    first = await site.raise_alert(answers=[name], if_unanswered=name)
    assert site.alive.content.if_unanswered == site.alive.answers[0].name
    await site.call("answer", alert=f" {first['id']}\n", answer=name)
    assert site.known(first["id"]).state == "answered"


async def test_a_call_without_group_and_caller_is_always_a_new_alert(site: Site) -> None:
    first = await site.call("alert", message="Water")
    second = await site.call("alert", message="Water")
    assert first["id"] != second["id"]
    await site.settle()


async def test_templates_in_actions_are_rendered_at_the_call(hass: HomeAssistant, site: Site) -> None:
    calls: list[Any] = []
    hass.services.async_register("valve", "open_valve", calls.append)
    answer = {
        "name": "Open",
        "actions": [{"action": "valve.{{ 'open' }}_valve", "data": {"level": "{{ states('sensor.level') }}"}}],
    }
    script = {"leak": {"sequence": [{"action": "process_cosmos.alert", "data": {"message": "W", "answers": [answer]}}]}}
    hass.states.async_set("sensor.level", "3")
    assert await async_setup_component(hass, "script", {"script": script})
    await hass.services.async_call("script", "leak", blocking=True)
    hass.states.async_set("sensor.level", "9")
    await site.call("answer", alert=site.alive.id, answer="Open")
    await site.until(lambda: calls)
    assert calls[0].data == {"level": 3}


async def test_an_answers_actions_run_with_the_callers_rights(hass: HomeAssistant, site: Site) -> None:
    calls: list[Any] = []
    hass.services.async_register("valve", "open_valve", calls.append)
    user = add_user(hass, "script.leak")
    data = {"message": "Water", "answers": [{"name": "Open", "actions": [{"action": "valve.open_valve"}]}]}
    script = {"leak": {"sequence": [{"action": "process_cosmos.alert", "data": data}]}}
    assert await async_setup_component(hass, "script", {"script": script})
    await hass.services.async_call("script", "leak", blocking=True, context=Context(user_id=user.id))
    await site.call("answer", alert=site.alive.id, answer="Open")
    await site.until(lambda: calls)
    assert calls[0].context.user_id == user.id


async def test_each_invalid_answer_is_refused_with_its_code(site: Site, anna: Phone) -> None:
    unknown = "01JD0000000000000000000001"
    assert await refused(site, "answer", alert=unknown, answer="Keep off") == "unknown_alert"
    first = (await site.raise_alert(answers=ANSWERS))["id"]
    assert await refused(site, "answer", alert=first, answer="Blow up") == "not_offered"
    await site.raise_alert("More water", answers=ANSWERS)
    assert await refused(site, "answer", alert=first, answer="Keep off", revision=1) == "answer_too_late"
    assert await refused(site, "acknowledge", alert=first, revision=1) == "answer_too_late"
    await site.call("answer", alert=first, answer="Keep off", revision=2, note="by hand")
    assert await refused(site, "answer", alert=first, answer="Keep off") == "already_answered"
    second = (await site.raise_alert(answers=ANSWERS))["id"]
    await site.call("resolve", alert=second)
    await site.call("resolve", alert=second)  # a closed alert is unchanged
    assert await refused(site, "answer", alert=second, answer="Keep off") == "answer_too_late"
    assert await refused(site, "acknowledge", alert=second) == "answer_too_late"
    assert await refused(site, "resolve", alert=unknown) == "unknown_alert"
    assert await refused(site, "acknowledge", group="leak") == "unknown_alert"
    assert await refused(site, "resolve") == "no_group"


async def test_answering_needs_the_right_to_control_all_entities(
    hass: HomeAssistant, site: Site, anna: Phone, hass_admin_user: User
) -> None:
    guest = Context(user_id=add_user(hass, "valve.main").id)
    gone = Context(user_id="nobody")
    only_ours = await site.raise_alert(entities=["valve.main"], answers=ANSWERS)
    both = await site.raise_alert(group="b", entities=["valve.main", "valve.other"], answers=ANSWERS)
    for action, data in (("answer", {"answer": "Keep off"}), ("acknowledge", {}), ("resolve", {})):
        assert await refused(site, action, guest, alert=both["id"], **data) == "not_allowed"
        assert await refused(site, action, gone, alert=both["id"], **data) == "not_allowed"
    anna.press(anna.button("Keep off"), guest)
    await site.settle()
    assert anna.refusals == ["not_allowed"]
    await site.call("answer", guest, alert=only_ours["id"], answer="Keep off")
    closed = site.alerts.get(only_ours["id"])
    assert closed
    assert closed.by == "Guest"
    await site.call("answer", Context(user_id=hass_admin_user.id), alert=both["id"], answer="Keep off")
    await site.settle()


async def test_with_several_sites_the_oldest_alerts_by_default_and_a_group_covers_all_sites(
    site: Site, add_site: Callable[..., Site], anna: Phone
) -> None:
    other = add_site()
    await other.set_up()
    await site.raise_alert()
    assert site.alive.group == "leak"
    assert len(anna.notifications) == 1
    assert other.alerts.alive == ()
    await site.raise_alert(site=other.entry.entry_id)
    await site.call("acknowledge", group="leak")
    assert [at.alive.state for at in (site, other)] == ["acknowledged"] * 2
    await site.call("resolve", group="leak")
    assert (*site.alerts.alive, *other.alerts.alive) == ()


async def test_a_call_during_a_reload_waits_for_its_end(hass: HomeAssistant, site: Site, anna: Phone) -> None:
    first = await site.raise_alert(answers=ANSWERS)
    for call in (
        partial(site.call, "alert", message="Water in the bath", group="bath"),
        partial(site.call, "acknowledge", group="bath"),
        partial(site.call, "answer", alert=first["id"], answer="Keep off"),
        partial(site.call, "resolve", group="bath"),
    ):
        reload = hass.async_create_task(hass.config_entries.async_reload(site.entry.entry_id))
        await asyncio.sleep(0)
        assert site.entry.state is not ConfigEntryState.LOADED
        await call()
        await reload
        await site.settle()
    assert "Water in the bath" in [notification["message"] for notification in anna.notifications]
    assert site.known(first["id"]).state == "answered"
    assert site.alerts.alive == ()


async def test_a_button_pressed_during_a_reload_is_processed(hass: HomeAssistant, site: Site, anna: Phone) -> None:
    first = await site.raise_alert(answers=ANSWERS)
    reload = hass.async_create_task(hass.config_entries.async_reload(site.entry.entry_id))
    await asyncio.sleep(0)
    anna.press(anna.button("Keep off"))
    await reload
    await site.settle()
    assert site.known(first["id"]).state == "answered"


async def test_a_site_that_is_not_loaded_is_named(
    hass: HomeAssistant, site: Site, add_site: Callable[..., Site]
) -> None:
    add_site()
    assert await hass.config_entries.async_unload(site.entry.entry_id)
    assert await refused(site, "alert", message="m") == "service_config_entry_not_loaded"
    await site.set_up()


async def test_integers_beyond_64_bits_become_texts(site: Site, anna: Phone) -> None:
    iccid = 89014103211118510720
    actions = [{"action": "sim.block", "data": {"iccid": [iccid, -iccid, 7]}}]
    await site.raise_alert(data={"iccid": iccid}, answers=[{"name": "Block", "actions": actions}])
    assert site.alive.content.data == '{"iccid":"89014103211118510720"}'
    assert '["89014103211118510720","-89014103211118510720",7]' in site.alive.content.answers[0].actions
    assert len(anna.notifications) == 1


async def test_a_long_message_is_shortened_to_the_limit_of_the_push_service(site: Site, anna: Phone) -> None:
    await site.raise_alert("Water: " + "kitchen, " * 1000)
    assert len(site.alive.content.message) == 4096
    (notification,) = anna.notifications
    assert notification["message"][-1] == "…"
    assert 3490 < len(orjson.dumps(push_payload(anna.entry, notification))) <= 3500
    assert len(json.dumps(notification)) < 4000


async def test_a_record_log_of_a_newer_version_fails_the_set_up(
    hass: HomeAssistant, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_path = Path(hass.config.path(".storage", f"process_cosmos.{site.entry.entry_id}.memory"))
    with monkeypatch.context() as patch:
        patch.setattr("custom_components.process_cosmos.alerts.record_log.VERSION", 0)
        before: bytes | None = None
        for _ in range(2):
            await hass.config_entries.async_reload(site.entry.entry_id)
            assert site.entry.error_reason_translation_key == "memory_too_new"
            before = before or log_path.read_bytes()
        assert log_path.read_bytes() == before
        [issue] = issues(hass)
        assert (issue.translation_key, issue.translation_placeholders) == ("memory_too_new", {"site": site.entry.title})
        assert (issue.learn_more_url or "").endswith("docs/install.md#update")
    await site.reload()
    assert issues(hass) == []


def issues(hass: HomeAssistant) -> list[ir.IssueEntry]:
    """Return the repair issues that are shown."""
    return [issue for issue in ir.async_get(hass).issues.values() if issue.active]


def test_every_code_has_a_sentence_for_people() -> None:
    translations = json.loads(Path("custom_components/process_cosmos/translations/en.json").read_text())
    codes = {
        *(Code.UNKNOWN_ALERT, Code.NOT_OFFERED, Code.NOT_ALLOWED, Code.ALREADY_ANSWERED, Code.ANSWER_TOO_LATE),
        *(MEMORY_NOT_WRITTEN, NO_GROUP, "memory_too_new", "memory_not_read"),
    }
    assert codes <= set(translations["exceptions"])
    assert all(translations["exceptions"][code]["message"] for code in codes)
