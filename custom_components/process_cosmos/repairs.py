"""The repair a person can do from here: send rejected events again, or discard them."""

import uuid
from typing import Any

from homeassistant.components.repairs import RepairsFlow, RepairsFlowResult
from homeassistant.config_entries import ConfigEntryState
from homeassistant.core import HomeAssistant

from .client import GATEWAY_AWAY, GatewayAwayError, GatewayError
from .contract.destinations import DiscardRejected, ListRejected, RejectedEvents, SendAgain
from .contract.messages import Request
from .contract.session import Result
from .data import CosmosConfigEntry

_SHOWN = 5
"""Rejected events named in the dialog; the gateway lists up to 500."""


async def async_create_fix_flow(
    hass: HomeAssistant,
    issue_id: str,  # noqa: ARG001 - there is one fixable issue
    data: dict[str, str | int | float | None] | None,
) -> RepairsFlow:
    """Return the flow of the one fixable issue."""
    return RejectedEventsFlow(hass, str((data or {}).get("entry_id")))


class RejectedEventsFlow(RepairsFlow):
    """Shows what was rejected and why, and asks what to do with it."""

    def __init__(self, hass: HomeAssistant, entry_id: str) -> None:
        """Take whose events these are."""
        self._entry: CosmosConfigEntry | None = hass.config_entries.async_get_entry(entry_id)

    async def async_step_init(self, _: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Show them."""
        try:
            listed = await self._ask(ListRejected(id=uuid.uuid4().hex))
        except GatewayError as error:
            return self._give_up(error)
        events = listed.events if isinstance(listed, RejectedEvents) else ()
        lines = [f"- {event.type} → {event.destination}: {event.code}: {event.message}" for event in events[:_SHOWN]]
        return self.async_show_menu(
            step_id="init",
            menu_options=["send_again", "discard"],
            description_placeholders={"count": str(len(events)), "events": "\n".join(lines)},
        )

    async def async_step_send_again(self, _: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Send them again, marked ``replayed``."""
        return await self._settle(SendAgain(id=uuid.uuid4().hex))

    async def async_step_discard(self, _: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Forget them."""
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
        entry = self._entry
        coordinator = entry.runtime_data.coordinator if entry and entry.state is ConfigEntryState.LOADED else None
        if coordinator is None:
            raise GatewayAwayError(GATEWAY_AWAY, "The site is not loaded")
        return await coordinator.async_ask(request)
