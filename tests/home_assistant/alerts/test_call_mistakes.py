"""Calls of the action with mistakes: people are notified anyway, and the mistakes are reported afterwards."""

from collections.abc import Callable
from typing import Any

import orjson
import pytest
from homeassistant.auth.models import User
from homeassistant.core import Context, HomeAssistant, ServiceCall
from homeassistant.helpers import issue_registry as ir
from homeassistant.setup import async_setup_component
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from custom_components.process_cosmos.actions.alert_call import parse_alert_call
from custom_components.process_cosmos.issues.call_mistakes import forget_problems_of_removed_callers
from tests.home_assistant.alerts.site import Phone, Site

HALF = "a\ud83d"
"""Half a surrogate pair, as the template `"a\\ud83d"` gives it."""

DEEP: dict[str, Any] = {}
for _ in range(250):
    DEEP = {"deeper": DEEP}

BROKEN = [{"action": "valve.open_valve", "data": {"position": "{{ broken"}}]


async def run_script(hass: HomeAssistant, data: dict[str, Any]) -> None:
    """Call the action from a script, whose templates Home Assistant renders."""
    sequence = [{"action": "process_cosmos.alert", "data": data}]
    # Home Assistant cannot read a trace again that holds half a surrogate pair.
    script = {"alias": "Leak", "sequence": sequence, "trace": {"stored_traces": 0}}
    assert await async_setup_component(hass, "script", {"script": {"leak": script}})
    await hass.services.async_call("script", "leak", blocking=True)


def problems(hass: HomeAssistant) -> dict[str, str]:
    """Return the problems in the repair issues about calls, by caller."""
    return {
        str(issue.data["caller"]): str((issue.translation_placeholders or {})["problems"])
        for issue in ir.async_get(hass).issues.values()
        if issue.translation_key == "call_problems" and issue.data
    }


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ({"answers": ["Restart it", "Leave it"]}, None),
        ({"answers": "Restart it"}, None),
        ({"answers": [{"name": "A"}, {"name": "A"}]}, "duplicate_answer"),
        ({"answers": [{"actions": []}]}, "invalid_field"),
        ({"answers": [{"name": "x" * 65}]}, "invalid_field"),
        ({"answers": [f"A{number}" for number in range(11)]}, "too_many_answers"),
        ({"answers": [None, 7, ["x"]]}, "invalid_field"),
        ({"answers": [{"name": "A", "actions": BROKEN}]}, None),
        ({"answers": [{"name": "A", "actions": [{"nonsense": 1}]}]}, "invalid_actions"),
        ({"answers": [{"name": "A", "actions": DEEP}]}, "too_deep"),
        ({"answers": [{"name": "A", "actions": [{"action": "a.b", "data": {"text": "x" * 70_000}}]}]}, "too_large"),
        ({"answers": [{"name": "A", "if_interrupted": "cry"}]}, "invalid_field"),
        ({"answers": [{"name": "A", "title": "B"}]}, "unknown_field"),
        ({"answers": ["A"], "if_unanswered": "Nope"}, "not_offered"),
        ({"if_unanswered": ["A"]}, "invalid_field"),
        ({"policy": "night"}, "unknown_policy"),
        ({"severity": "terrible"}, "invalid_field"),
        ({"entities": "no entity"}, "invalid_field"),
        ({"entities": {"entity_id": "valve.main"}}, "invalid_field"),
        ({"entities": [f"sensor.a{number}" for number in range(501)]}, "too_large"),
        ({"give_up_after": 0}, "invalid_field"),
        ({"give_up_after": "soon"}, "invalid_field"),
        ({"give_up_after": 1e300}, "invalid_field"),
        ({"data": ["a"]}, "invalid_field"),
        ({"data": DEEP}, "invalid_field"),
        ({"data": {"text": "x" * 70_000}}, "too_large"),
        ({"data": {HALF: HALF}}, "invalid_field"),
        ({"attach": [HALF, 5]}, "invalid_field"),
        ({"group": {"a": 1}}, "invalid_field"),
        ({"site": "gone"}, "unknown_site"),
        ({"sound": "loud"}, "unknown_field"),
        ({"message": ""}, "invalid_field"),
        ({"message": None}, "invalid_field"),
        ({"message": {"a": HALF}}, "invalid_field"),
        ({"message": HALF, "answers": [{"name": HALF}], "group": HALF}, None),
    ],
)
async def test_no_mistake_in_a_call_prevents_its_notification(
    hass: HomeAssistant, site: Site, anna: Phone, data: dict[str, Any], code: str | None
) -> None:
    response = await site.call("alert", **{"message": "Water", **data})
    await site.settle()
    assert len(anna.notifications) == 1
    orjson.dumps(anna.notifications)  # a push service takes it
    found = [problem["code"] for problem in response["problems"]]
    assert found == [code] * len(found)
    assert bool(found) == (code is not None)
    assert bool(problems(hass)) == bool(found)
    await site.reload()
    assert site.alive.id == response["id"], "the alert is on disk"


async def test_an_unknown_severity_becomes_critical(site: Site) -> None:
    await site.raise_alert(severity="citical")
    assert site.alive.content.severity == "critical"
    await site.raise_alert(group="other", severity=" Info ")
    assert site.alerts.alive[-1].content.severity == "info"


@pytest.mark.parametrize("template", ["{{ 'a\\ud83d' }}", "{{ ['Restart it', 'Leave it'] }}"], ids=["half", "list"])
async def test_rendered_templates_of_answers_are_offered(
    hass: HomeAssistant, site: Site, anna: Phone, template: str
) -> None:
    await run_script(hass, {"message": "Water", "answers": template})
    await site.settle()
    assert anna.button("Restart it" if "Restart" in template else "a�")


async def test_the_repair_issue_names_the_automation_until_a_later_run_without_mistakes(
    hass: HomeAssistant, site: Site
) -> None:
    data = {"message": "{{ states('sensor.text') }}", "answers": ["A"], "if_unanswered": "{{ states('sensor.then') }}"}
    hass.states.async_set("sensor.text", "Water")
    hass.states.async_set("sensor.then", "Nope")
    await run_script(hass, data)
    assert problems(hass) == {"script.leak": "- if\\_unanswered: “Nope” is not one of the answers (A)."}
    [issue] = ir.async_get(hass).issues.values()
    assert (issue.translation_placeholders or {})["name"] == "Leak"
    assert issue.is_persistent
    hass.states.async_set("sensor.then", "A")
    await hass.services.async_call("script", "leak", blocking=True)
    assert problems(hass) == {}
    await site.settle()


async def test_a_correct_call_of_the_same_run_leaves_the_mistakes_of_the_others_shown(
    hass: HomeAssistant, site: Site
) -> None:
    hass.states.async_set("input_text.more", "sound")
    more = {"message": "m", "data": "{{ {'a': 1} if is_state('input_text.more', 'right') else 1 }}"}
    calls = [{"message": "m", "severity": "{{ states('input_text.more') }}"}, {"message": "m"}, more, {"message": "m"}]
    sequence = [{"action": "process_cosmos.alert", "data": data} for data in calls]
    assert await async_setup_component(hass, "script", {"script": {"leak": {"sequence": sequence}}})
    for _ in range(2):
        await hass.services.async_call("script", "leak", blocking=True)
        [severity, data] = problems(hass)["script.leak"].split("\n")
        assert severity.startswith("- severity: ")
        assert data == "- data: it must be a mapping; it was ignored."
    hass.states.async_set("input_text.more", "info")
    await hass.services.async_call("script", "leak", blocking=True)
    assert problems(hass) == {"script.leak": data}
    await site.settle()


async def test_a_correct_call_for_another_group_leaves_the_mistakes_shown(hass: HomeAssistant, site: Site) -> None:
    """Use two steps as in the leak guard: one is rare, the other may run again in the next second."""
    rare = {"message": "stuck", "group": "valve", "severity": "{{ states('input_text.severity') }}"}
    steps = [{"action": "process_cosmos.alert", "data": data} for data in (rare, {"message": "wet"})]
    sequence = [{"if": "{{ rare | default(false) }}", "then": steps[:1], "else": steps[1:]}]
    assert await async_setup_component(hass, "script", {"script": {"leak": {"sequence": sequence}}})
    hass.states.async_set("input_text.severity", "loud")
    for data in ({"rare": True}, {}):
        await hass.services.async_call("script", "leak", data, blocking=True)
        assert problems(hass)["script.leak"].startswith("- severity: ")
    hass.states.async_set("input_text.severity", "info")
    await hass.services.async_call("script", "leak", {"rare": True}, blocking=True)
    assert problems(hass) == {}
    await site.settle()


async def test_mistakes_in_a_direct_call_are_in_the_response_and_the_log_only(
    hass: HomeAssistant, site: Site, hass_admin_user: User, caplog: pytest.LogCaptureFixture
) -> None:
    response = await site.call("alert", Context(user_id=hass_admin_user.id), message="m", sound="loud")
    assert [problem["code"] for problem in response["problems"]] == ["unknown_field"]
    assert "unknown_field: the alert of Mock User was raised" in caplog.text
    assert problems(hass) == {}
    await site.settle()


async def test_an_answer_with_invalid_actions_can_be_given_and_its_failure_is_reported(
    site: Site, anna: Phone, hass_admin_user: User
) -> None:
    context = Context(user_id=hass_admin_user.id)
    raised = await site.call("alert", context, message="m", answers=[{"name": "Open", "actions": BROKEN}])
    assert [problem["code"] for problem in raised["problems"]] == ["invalid_actions"]
    await site.call("answer", alert=raised["id"], answer="Open")
    await site.until(lambda: anna.notices)
    assert "could not be carried out" in anna.notices[0]


async def test_text_that_was_rendered_once_is_never_rendered_again(hass: HomeAssistant, site: Site) -> None:
    calls: list[ServiceCall] = []
    hass.services.async_register("notify", "log", calls.append)
    hass.states.async_set("sensor.secret", "4711")
    hass.states.async_set("sensor.device", "{{ states('sensor.secret') }}")
    says = {"action": "notify.log", "data": {"message": "{{ states('sensor.device') }}", "title": "{{ 1 + 1 }}"}}
    await run_script(hass, {"message": "W", "answers": [{"name": "Say", "actions": [says]}]})
    await site.call("answer", alert=site.alive.id, answer="Say")
    await site.until(lambda: calls)
    assert calls[0].data == {"message": "{{ states('sensor.secret') }}", "title": 2}


async def test_templates_of_an_administrators_direct_call_are_rendered_when_the_answer_runs(
    hass: HomeAssistant, site: Site, hass_admin_user: User
) -> None:
    calls: list[ServiceCall] = []
    hass.services.async_register("notify", "log", calls.append)
    says = {"action": "notify.log", "data": {"message": "{{ states('sensor.level') }}"}}
    answers = [{"name": "Say", "actions": [says]}]
    await site.call("alert", Context(user_id=hass_admin_user.id), message="W", answers=answers)
    hass.states.async_set("sensor.level", "9")
    await site.call("answer", alert=site.alive.id, answer="Say")
    await site.until(lambda: calls)
    assert calls[0].data == {"message": 9}


async def test_only_actions_that_would_run_are_waited_for(
    hass: HomeAssistant, site: Site, hass_admin_user: User
) -> None:
    calls: list[ServiceCall] = []
    hass.services.async_register("valve", "open_valve", calls.append)
    steps = [
        {"action": "gone.away", "enabled": False},
        {"event": "door", "event_data": {"action": "lock.opened"}},
        {"if": "{{ true }}", "then": {"action": "valve.open_valve"}, "else": {"stop": "it is dry"}},
    ]
    context = Context(user_id=hass_admin_user.id)
    await site.call("alert", context, message="m", answers=[{"name": "Open", "actions": steps}])
    await site.call("answer", alert=site.alive.id, answer="Open")
    await site.until(lambda: calls)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(HALF) | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text() | st.integers(), inner, max_size=4),
    max_leaves=12,
)
FIELDS = (
    *("message", "severity", "entities", "policy", "answers", "if_unanswered"),
    *("give_up_after", "group", "data", "attach", "site", "other"),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=300)
@given(data=st.dictionaries(st.sampled_from(FIELDS), JSON))
async def test_any_call_gives_an_alert_that_can_be_written(hass: HomeAssistant, data: dict[str, Any]) -> None:
    alert = parse_alert_call(hass, data, caller="Somebody", user=None, trusted=True, rendered=True)
    assert alert.content.message
    orjson.dumps((alert.content, alert.group, alert.site, alert.problems))


async def test_a_repair_issue_lists_its_mistakes_and_is_removed_with_its_automation(
    hass: HomeAssistant, site: Site
) -> None:
    await run_script(hass, {"message": "Water", **{f"unknown_{number:02}": 1 for number in range(23)}})
    lines = problems(hass)["script.leak"].split("\n")
    assert lines[0] == "- unknown\\_00: unknown field; it was ignored."
    assert lines[20:] == ["- … (+3)"]
    forget_problems_of_removed_callers(hass)
    assert set(problems(hass)) == {"script.leak"}
    await site.raise_alert(sound="loud")  # without a caller that could be found after a restart
    assert set(problems(hass)) == {"script.leak", "process_cosmos"}
    forget_problems_of_removed_callers(hass)
    assert set(problems(hass)) == {"script.leak"}
    hass.states.async_remove("script.leak")
    forget_problems_of_removed_callers(hass)
    assert problems(hass) == {}


async def test_the_repair_issues_are_removed_with_the_last_site(
    hass: HomeAssistant, site: Site, add_site: Callable[..., Site]
) -> None:
    await run_script(hass, {"message": "Water", "sound": "loud"})
    await site.settle()
    other = add_site()
    await hass.config_entries.async_remove(site.entry.entry_id)
    assert set(problems(hass)) == {"script.leak"}
    await hass.config_entries.async_remove(other.entry.entry_id)
    assert problems(hass) == {}
