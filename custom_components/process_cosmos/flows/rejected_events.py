"""Repair flow of rejected events: list them, send them again and show the outcome, or discard them."""

import asyncio
import contextlib
from collections.abc import Iterable
from itertools import groupby
from typing import Any

from homeassistant.components.repairs import RepairsFlow, RepairsFlowResult
from homeassistant.util import dt as dt_util

from custom_components.process_cosmos.contract.destinations import (
    DiscardRejected,
    ListRejected,
    RejectedEvent,
    RejectedEvents,
    SendAgain,
    Status,
)
from custom_components.process_cosmos.contract.events import TYPE_PREFIX
from custom_components.process_cosmos.contract.identifiers import Ulid
from custom_components.process_cosmos.contract.messages import Request
from custom_components.process_cosmos.data import CosmosConfigEntry, CosmosRuntime, loaded_runtime
from custom_components.process_cosmos.gateway.client import GATEWAY_AWAY, GatewayAwayError, GatewayError, Reply
from custom_components.process_cosmos.gateway.destination_texts import label_of
from custom_components.process_cosmos.selector_texts import selector_text
from custom_components.process_cosmos.texts import escaped, quoted

OUTCOME_WITHIN = 8.0
"""Seconds that the dialog waits for the outcome of sending again; most receivers reply within one second."""

_SHOWN = 5
"""Maximum number of different rejections in the dialog; the action lists all events."""

_LOOK_EVERY = 1.0
"""Seconds between checks, as between two statuses."""

_ALERT = f"{TYPE_PREFIX}alert."
_WHAT = {
    _ALERT: "alert",
    f"{TYPE_PREFIX}device.changed.": "device_changed",
    f"{TYPE_PREFIX}device.event.": "device_event",
    f"{TYPE_PREFIX}readings.": "readings",
    f"{TYPE_PREFIX}gap.": "gap",
}
"""The translation key of a kind of event, by prefix of its type."""


class RejectedEventsFlow(RepairsFlow):
    """Shows the rejected events with their reasons, and asks what to do with them."""

    def __init__(self, entry: CosmosConfigEntry | None) -> None:
        """List the events of the site ``entry``; None: it was removed meanwhile."""
        self._entry = entry

    async def async_step_init(self, _: dict[str, Any] | None = None) -> RepairsFlowResult:
        """List the rejected events with their reasons, and offer to send or discard them."""
        try:
            events = await self._listed()
        except GatewayError as error:
            return self._give_up(error)
        status = self._status
        return self.async_show_menu(
            step_id="init",
            menu_options=["send_again", "discard"],
            description_placeholders={
                "count": str(status.rejected if status else len(events)),
                "events": "\n".join(self._lines(events)),
            },
        )

    async def async_step_send_again(self, _: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Send the events again, marked ``replayed``, and show the outcome as far as it is known within seconds.

        The issue is removed only if all events were delivered; otherwise the flow is aborted, which keeps the issue.
        """
        try:
            sent = {event.event for event in await self._listed()}
            back, is_settled = await self._send_again(sent)
        except GatewayError as error:
            return self._give_up(error)
        if not back and is_settled:
            return self.async_create_entry(data={})
        placeholders = {"count": str(len(sent)), "back": str(len(back)), "events": "\n".join(self._lines(back))}
        return self.async_abort(
            reason="refused_again" if back else "on_their_way", description_placeholders=placeholders
        )

    async def async_step_discard(self, user_input: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Discard the events after confirmation, because they are lost then."""
        if user_input is None:
            status = self._status
            count = str(status.rejected) if status else "?"
            return self.async_show_form(step_id="discard", description_placeholders={"count": count})
        try:
            await self._send_request(DiscardRejected())
        except GatewayError as error:
            return self._give_up(error)
        return self.async_create_entry(data={})

    async def _send_again(self, sent: set[Ulid]) -> tuple[list[RejectedEvent], bool]:
        """Send the events again; return those rejected again, and whether the outcome of all others is known."""
        before = self._status
        back: list[RejectedEvent] = []
        is_settled = False
        await self._send_request(SendAgain())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(OUTCOME_WITHIN):
                while not is_settled:
                    await asyncio.sleep(_LOOK_EVERY)
                    listed = await self._listed()
                    back = [event for event in listed if event.event in sent]
                    is_settled = len(back) == len(sent) or _is_settled(self._status, before, len(listed))
        return back, is_settled

    async def _listed(self) -> list[RejectedEvent]:
        reply = await self._send_request(ListRejected())
        return [*reply.events] if isinstance(reply, RejectedEvents) else []

    async def _send_request(self, request: Request) -> Reply:
        if self._runtime is None or self._runtime.coordinator is None:
            raise GatewayAwayError(GATEWAY_AWAY, "The site is not loaded")
        return await self._runtime.coordinator.connection.async_send_request(request)

    def _give_up(self, error: GatewayError) -> RepairsFlowResult:
        reason = "gateway_away" if isinstance(error, GatewayAwayError) else "refused"
        return self.async_abort(reason=reason, description_placeholders={"code": error.code})

    def _lines(self, events: Iterable[RejectedEvent]) -> list[str]:
        """Describe rejected events in one line each; events that differ only in time share a line."""
        lines = {event.number: self._line(event) for event in events}
        in_order = sorted(events, key=lambda event: (lines[event.number], event.number))
        groups = [[*group] for _, group in groupby(in_order, lambda event: lines[event.number])]
        groups.sort(key=lambda group: group[0].number)
        return [f"- {lines[group[0].number]}{self._times(group)}" for group in groups[:_SHOWN]]

    def _line(self, event: RejectedEvent) -> str:
        labels = {link.name: label_of(link) for link in self._status.links} if self._status else {}
        destination = labels.get(event.destination, event.destination)
        return f"{self._what(event)} → {destination}: {escaped(event.message)} {quoted(event.reply)}".strip()

    def _what(self, event: RejectedEvent) -> str:
        """Return the kind of the event with the message of its alert or the title of its device."""
        known = next((key for start, key in _WHAT.items() if event.type.startswith(start)), "")
        what = selector_text(self.hass, "event_type", known) or escaped(event.type)
        about = None
        if (runtime := self._runtime) and event.type.startswith(_ALERT):
            alert = runtime.alerts.get(event.subject)
            about = alert.content.message if alert else None
        elif runtime and runtime.coordinator:
            device_state = runtime.coordinator.devices.by_id.get(event.subject)
            about = device_state.device.title if device_state else None
        return f"{what} {quoted(about)}".strip()

    def _times(self, group: list[RejectedEvent]) -> str:
        """Return the number of events, the number of attempts, and the time of the last rejection, in parentheses."""
        attempts = max(event.attempts for event in group)
        tried = "tried_once" if attempts == 1 else "tried"
        moments = [event.rejected_at for event in group]
        parts = (
            selector_text(self.hass, "rejected_times", "events", count=len(group)) if len(group) > 1 else "",
            selector_text(self.hass, "rejected_times", tried, count=attempts),
            dt_util.as_local(max(moments)).strftime("%Y-%m-%d %H:%M"),
        )
        return f" ({', '.join(part for part in parts if part)})"

    @property
    def _runtime(self) -> CosmosRuntime | None:
        return loaded_runtime(self._entry)

    @property
    def _status(self) -> Status | None:
        return self._runtime.status if self._runtime else None


def _is_settled(status: Status | None, before: Status | None, listed: int) -> bool:
    """Return whether no events wait, judged by a status newer than the request that includes all listed events."""
    if status is None or status is before or status.rejected != listed:
        return False
    return status.waiting.urgent + status.waiting.change + status.waiting.reading == 0
