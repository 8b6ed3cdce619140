"""The repair issues of automations that call ``escalate`` with mistakes: the alert went out, its author should know."""

from collections.abc import Sequence
from typing import Final

from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers import issue_registry as ir

from .alert_call import Problem
from .const import DOMAIN, LOGGER

CALL_PROBLEMS: Final = "call_problems"
"""The translation key, and how the ids of these issues begin."""

_LEARN_MORE = "https://github.com/process-cosmos/process-cosmos/blob/main/docs/escalation.md#when-a-call-has-mistakes"
_SHOWN = 10


@callback
def show_problems(hass: HomeAssistant, caller: str, name: str, problems: Sequence[Problem]) -> None:
    """Name ``caller`` (an entity id or a user) and what was wrong with its newest call; nothing: the issue is over.

    The issue survives a restart: an automation that guards against leaks may not call again for years.
    """
    issue_id = f"{CALL_PROBLEMS}_{caller}"
    if not problems:
        ir.async_delete_issue(hass, DOMAIN, issue_id)
        return
    lines = [f"- {problem.message}" for problem in problems[:_SHOWN]]
    if more := len(problems) - _SHOWN:
        lines += [f"- … {more} more"] if more > 0 else []
    for code in sorted({problem.code for problem in problems}):
        LOGGER.warning("%s: the alert of %s went out, but its call has mistakes; Repairs lists them", code, caller)
    ir.async_create_issue(
        hass,
        DOMAIN,
        issue_id,
        data={"caller": caller},
        is_fixable=False,
        is_persistent=True,
        learn_more_url=_LEARN_MORE,
        severity=ir.IssueSeverity.WARNING,
        translation_key=CALL_PROBLEMS,
        translation_placeholders={"name": name, "caller": caller, "problems": "\n".join(lines)},
    )


@callback
def forget_problems_of_removed_callers(hass: HomeAssistant) -> None:
    """Delete the issues of automations and scripts that are there no more, once Home Assistant has started."""
    for (domain, issue_id), issue in tuple(ir.async_get(hass).issues.items()):
        caller = (issue.data or {}).get("caller")
        if domain == DOMAIN and isinstance(caller, str) and "." in caller and hass.states.get(caller) is None:
            ir.async_delete_issue(hass, DOMAIN, issue_id)
