"""Text from a device is never rendered in an answer's actions, even if it looks like a template."""

from typing import Any

import orjson
import pytest
from homeassistant.core import HomeAssistant, ServiceCall
from homeassistant.helpers import config_validation as cv
from homeassistant.helpers.template import render_complex
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from custom_components.process_cosmos.actions.alert_call import parse_alert_call
from custom_components.process_cosmos.alerts.plain_text import escape_templates, unescape_templates
from tests.home_assistant.alerts.site import Phone, Site

LIST = "['{{ a }}', 1]"

TEMPLATE_LIKE = st.lists(
    st.one_of(
        st.sampled_from(["{{", "}}", "{%", "%}", "{#", '"', "\\", "\\u007b", "'", "\n", " ", "1", "raw", "[", "#"]),
        st.text(),
    ),
    max_size=6,
).map("".join)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=300)
@given(text=TEMPLATE_LIKE)
@example(text="{{ '}}' }} \\ \" 😀")
@example(text="{% raw %}{% endraw %}")
@example(text=LIST)
@example(text="None # {{")
@example(text=" {{ \n")
async def test_any_text_is_rendered_to_itself(hass: HomeAssistant, text: str) -> None:
    made = unescape_templates(cv.template_complex(escape_templates({text: [text]})))
    if text in made:
        return  # Home Assistant does not treat it as a template
    assert render_complex(made) == {text: [text]}


async def run_answer(site: Site, steps: list[dict[str, Any]]) -> str:
    """Raise an alert with texts that are already rendered, run its answer and return the alert's id."""
    raised = await site.raise_alert(answers=[{"name": "Go", "actions": steps}])
    assert raised["problems"] == []
    await site.call("answer", alert=raised["id"], answer="Go")
    await site.until(lambda: site.known(raised["id"]).outcome)
    return str(raised["id"])


@pytest.mark.parametrize("text", [LIST, " {{ 1 + 1 }} ", "{# x #}", "{{ broken", "None # {{"])
async def test_a_devices_text_reaches_an_action_unchanged(hass: HomeAssistant, site: Site, text: str) -> None:
    calls: list[ServiceCall] = []
    hass.services.async_register("notify", "log", calls.append)
    steps: list[dict[str, Any]] = [
        {"variables": {"before": {"said": [text]}}},
        {"choose": {"conditions": [], "sequence": {"action": "notify.log", "data": {"message": text, text: [text]}}}},
    ]
    await run_answer(site, steps)
    assert calls[0].data == {"message": text, text: [text]}


async def test_a_devices_text_is_not_evaluated_in_a_condition_or_an_error(
    hass: HomeAssistant, site: Site, anna: Phone
) -> None:
    calls: list[ServiceCall] = []
    hass.services.async_register("notify", "log", calls.append)
    condition = {"condition": "template", "value_template": "{{ true }}"}
    alert_id = await run_answer(site, [{"if": condition, "then": {"action": "notify.log"}}])
    assert (site.known(alert_id).outcome, calls) == ("done", [])
    await run_answer(site, [{"stop": "{{ stuck }}", "error": True}])
    await site.until(lambda: anna.notices)
    assert "{{ stuck }}" in anna.notices[0]


async def test_a_lone_surrogate_in_template_like_text_is_replaced(hass: HomeAssistant) -> None:
    answers = [{"name": "A", "actions": [{"action": "notify.log", "data": {"message": "{{ a\ud83d"}}]}]
    alert = parse_alert_call(hass, {"answers": answers}, caller="", user=None, trusted=True, rendered=True)
    [step] = cv.SCRIPT_SCHEMA(orjson.loads(alert.content.answers[0].actions))
    assert render_complex(unescape_templates(step)["data"]) == {"message": "{{ a�"}
