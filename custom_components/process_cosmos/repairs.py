"""Fix flows of the repair issues."""

from typing import override

from homeassistant.components.repairs import ConfirmRepairFlow, RepairsFlow, RepairsFlowResult
from homeassistant.core import HomeAssistant

from .data import CosmosConfigEntry, loaded_runtime
from .flows.other_gateway import OtherGatewayFlow
from .flows.rejected_events import RejectedEventsFlow
from .issues.site_issues import Issue
from .issues.status_issues import OCCURRENCES, note_read
from .workflows.workflow_update import WORKFLOW_BEHIND, WorkflowUpdateFlow


async def async_create_fix_flow(
    hass: HomeAssistant,
    issue_id: str,  # noqa: ARG001 - its data names the issue and the site
    data: dict[str, str | int | float | None] | None,
) -> RepairsFlow:
    """Return the fix flow of an issue."""
    named = data or {}
    entry: CosmosConfigEntry | None = hass.config_entries.async_get_entry(str(named.get("entry_id")))
    issue = str(named.get("issue"))
    if issue == WORKFLOW_BEHIND:
        return WorkflowUpdateFlow(str(named.get("path")))
    if issue == Issue.OTHER_GATEWAY:
        return OtherGatewayFlow(entry)
    if issue in OCCURRENCES:
        return AcknowledgeOccurrenceFlow(entry, Issue(issue))
    # Only fixable issues have a flow, and this is the only one left of them.
    return RejectedEventsFlow(entry)


class AcknowledgeOccurrenceFlow(ConfirmRepairFlow):
    """Reports an occurrence; the issue is removed once it was read, until it occurs again."""

    def __init__(self, entry: CosmosConfigEntry | None, issue: Issue) -> None:
        """Report the occurrence of ``issue`` at the site ``entry``; None: the site was removed."""
        self._entry = entry
        self._issue = issue
        self._occurrence = OCCURRENCES[issue]
        self._mark = ""

    @override
    async def async_step_confirm(self, user_input: dict[str, str] | None = None) -> RepairsFlowResult:
        """Show the occurrence; on submit, store the mark that was shown, not one that is newer."""
        runtime = loaded_runtime(self._entry)
        status = runtime.status if runtime else None
        if self._entry is None or status is None:
            return self.async_abort(reason="gateway_away")
        if user_input is not None:
            note_read(self.hass, self._entry, self._issue, self._mark)
            return self.async_create_entry(data={})
        self._mark = self._occurrence.mark_fn(status)
        if not self._mark:  # a new store, or a restart, no longer reports it
            return self.async_create_entry(data={})
        return self.async_show_form(
            step_id="confirm",
            description_placeholders=dict(self._occurrence.placeholders_fn(status)),
        )
