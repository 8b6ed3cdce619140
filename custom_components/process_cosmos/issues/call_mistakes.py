"""Repair issues of automations and scripts that call ``alert`` with mistakes."""

from collections.abc import Sequence
from typing import Final

import orjson
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers import issue_registry as ir
from homeassistant.helpers.json import json_dumps

from custom_components.process_cosmos.actions.alert_call import Problem
from custom_components.process_cosmos.const import DOMAIN
from custom_components.process_cosmos.texts import escaped, listed

from .site_issues import issues_with_prefix

CALL_PROBLEMS: Final = "call_problems"
"""The translation key, and the prefix of the issue ids."""

_LEARN_MORE = (
    "https://github.com/process-cosmos/process-cosmos/blob/main/docs/alert-protocol.md#when-a-call-has-mistakes"
)
_MAX_STORED = 100
"""Maximum number of mistakes stored to be shown together with those of later calls."""


@callback
def show_problems(
    hass: HomeAssistant, *, caller: str, name: str, run: str, group: str, problems: Sequence[Problem]
) -> None:
    """Create or update the issue with the mistakes of the newest calls of ``caller`` (an entity id) named ``name``.

    A call replaces mistakes of earlier runs (context ids) with the same group; those of the same run and of other
    groups stay, because one run may call twice and some calls are rare. The issue survives a restart, because a leak
    alarm may not call again for years.
    """
    issue_id = f"{CALL_PROBLEMS}_{caller}"
    issue = ir.async_get(hass).async_get_issue(DOMAIN, issue_id)
    stored: dict[str, list[str]] = orjson.loads(str(((issue and issue.data) or {}).get("said", "{}")))
    kept = {line: origin for line, origin in stored.items() if origin[0] == run or origin[1] != group}
    lines = kept | {" ".join(problem.message.split()): [run, group] for problem in problems}
    if not lines:
        ir.async_delete_issue(hass, DOMAIN, issue_id)
        return
    shown = listed([escaped(line) for line in lines])
    ir.async_create_issue(
        hass,
        DOMAIN,
        issue_id,
        # As JSON text, because the data of an issue can contain only texts and numbers.
        data={"caller": caller, "said": json_dumps(dict(list(lines.items())[:_MAX_STORED]))},
        is_fixable=False,
        is_persistent=True,
        learn_more_url=_LEARN_MORE,
        severity=ir.IssueSeverity.WARNING,
        translation_key=CALL_PROBLEMS,
        translation_placeholders={"name": name, "caller": caller, "problems": shown},
    )


@callback
def forget_problems_of_removed_callers(hass: HomeAssistant) -> None:
    """Delete the issues of callers that are not, or no longer, an entity; call this after the start."""
    for issue in issues_with_prefix(hass, CALL_PROBLEMS):
        if hass.states.get(str((issue.data or {}).get("caller"))) is None:
            ir.async_delete_issue(hass, DOMAIN, issue.issue_id)
