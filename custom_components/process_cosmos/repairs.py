"""The repairs a person can do from here: settle rejected events, read of what was lost."""

import uuid
from typing import Any

from homeassistant.components.repairs import RepairsFlow, RepairsFlowResult
from homeassistant.config_entries import ConfigEntryState
from homeassistant.core import HomeAssistant

from .client import GATEWAY_AWAY, GatewayAwayError, GatewayError
from .contract.destinations import (
    DiscardRejected,
    ListRejected,
    RejectedEvent,
    RejectedEvents,
    SendAgain,
    Status,
)
from .contract.events import TYPE_PREFIX
from .contract.messages import Request
from .contract.session import Result
from .coordinator import CosmosCoordinator
from .data import CosmosConfigEntry
from .flow_other_gateway import OtherGatewayFlow
from .issues import Issue
from .status_issues import OCCURRENCES, Occurrence, note_read
from .texts import shortened
from .workflow_update import WORKFLOW_BEHIND, WorkflowUpdateFlow

_SHOWN = 5
"""Different refusals named in the dialog; the action lists all events."""

_LONGEST_REPLY = 200

_WHAT = {
    f"{TYPE_PREFIX}escalation.": "Escalation",
    f"{TYPE_PREFIX}device.changed.": "Change of a device",
    f"{TYPE_PREFIX}device.event.": "Event of a device",
    f"{TYPE_PREFIX}readings.": "Readings",
    f"{TYPE_PREFIX}gap.": "Gap in what devices said",
}
"""What a person calls an event, by how its type begins."""


async def async_create_fix_flow(
    hass: HomeAssistant,
    issue_id: str,  # noqa: ARG001 - its data names the issue and the site
    data: dict[str, str | int | float | None] | None,
) -> RepairsFlow:
    """Return the flow of a fixable issue."""
    named = data or {}
    entry: CosmosConfigEntry | None = hass.config_entries.async_get_entry(str(named.get("entry_id")))
    issue = str(named.get("issue"))
    if issue == WORKFLOW_BEHIND:
        return WorkflowUpdateFlow(str(named.get("path")))
    if issue == Issue.OTHER_GATEWAY:
        return OtherGatewayFlow(entry)
    if issue in OCCURRENCES:
        return ReadFlow(entry, OCCURRENCES[Issue(issue)])
    return RejectedEventsFlow(entry)


class ReadFlow(RepairsFlow):
    """Says what has happened; it is over when a person has read it, until it happens again."""

    def __init__(self, entry: CosmosConfigEntry | None, occurrence: Occurrence) -> None:
        """Take the site, and what has happened there."""
        self._entry = entry
        self._occurrence = occurrence
        self._mark = ""

    async def async_step_init(self, _: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Begin."""
        return await self.async_step_confirm()

    async def async_step_confirm(self, user_input: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Say it, and remember that it was read: what was said, not what has happened meanwhile."""
        status = _status(self._entry)
        if self._entry is None or status is None:
            return self.async_abort(reason="gateway_away")
        if user_input is not None:
            note_read(self.hass, self._entry, self._occurrence.issue, self._mark)
            return self.async_create_entry(data={})
        self._mark = self._occurrence.mark_fn(status)
        if not self._mark:  # another store, or a restart, knows nothing of it any more
            return self.async_create_entry(data={})
        return self.async_show_form(
            step_id="confirm",
            description_placeholders=dict(self._occurrence.says_fn(status)),
        )


class RejectedEventsFlow(RepairsFlow):
    """Shows what was rejected and why, and asks what to do with it."""

    def __init__(self, entry: CosmosConfigEntry | None) -> None:
        """Take whose events these are."""
        self._entry = entry

    async def async_step_init(self, _: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Show them."""
        try:
            listed = await self._ask(ListRejected(id=uuid.uuid4().hex))
        except GatewayError as error:
            return self._give_up(error)
        events = listed.events if isinstance(listed, RejectedEvents) else ()
        lines = list(dict.fromkeys(map(_line, events)))[:_SHOWN]
        status = _status(self._entry)
        return self.async_show_menu(
            step_id="init",
            menu_options=["send_again", "discard"],
            description_placeholders={
                "count": str(status.rejected if status else len(events)),
                "events": "\n".join(lines),
            },
        )

    async def async_step_send_again(self, _: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Send them again, marked ``replayed``."""
        return await self._settle(SendAgain(id=uuid.uuid4().hex))

    async def async_step_discard(self, user_input: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Forget them, once asked again: this is the one step that loses something."""
        if user_input is None:
            status = _status(self._entry)
            count = str(status.rejected) if status else "?"
            return self.async_show_form(step_id="discard", description_placeholders={"count": count})
        return await self._settle(DiscardRejected(id=uuid.uuid4().hex))

    async def _settle(self, request: Request) -> RepairsFlowResult:
        try:
            await self._ask(request)
        except GatewayError as error:
            return self._give_up(error)
        return self.async_create_entry(data={})

    def _give_up(self, error: GatewayError) -> RepairsFlowResult:
        reason = "gateway_away" if isinstance(error, GatewayAwayError) else "refused"
        return self.async_abort(reason=reason, description_placeholders={"code": error.code})

    async def _ask(self, request: Request) -> Result | RejectedEvents:
        coordinator = _coordinator(self._entry)
        if coordinator is None:
            raise GatewayAwayError(GATEWAY_AWAY, "The site is not loaded")
        return await coordinator.async_ask(request)


def _line(event: RejectedEvent) -> str:
    """Say of what kind it is, who refused it and why; the reply is others' text, so it is shown as it is."""
    what = next((name for start, name in _WHAT.items() if event.type.startswith(start)), event.type)
    line = f"- {what} → {event.destination}: {event.message}"
    reply = " ".join((event.reply or "").replace("`", "'").split())
    return f"{line} `{shortened(reply, _LONGEST_REPLY)}`" if reply else line


def _coordinator(entry: CosmosConfigEntry | None) -> CosmosCoordinator | None:
    return entry.runtime_data.coordinator if entry and entry.state is ConfigEntryState.LOADED else None


def _status(entry: CosmosConfigEntry | None) -> Status | None:
    coordinator = _coordinator(entry)
    return coordinator.status.status if coordinator and coordinator.status else None
