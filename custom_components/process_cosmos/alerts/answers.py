"""Runs the actions of the answer that was given: once, after it is on disk, also after a restart."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import datetime
from typing import Any

import orjson
from homeassistant.config_entries import ConfigEntry
from homeassistant.const import EVENT_SERVICE_REGISTERED
from homeassistant.core import Context, HassJob, HomeAssistant, callback
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers import config_validation as cv
from homeassistant.helpers.event import async_call_later
from homeassistant.helpers.script import Script, async_validate_actions_config
from homeassistant.helpers.start import async_at_started
from homeassistant.helpers.trace import script_execution_get, trace_clear, trace_get

from custom_components.process_cosmos.actions.callers import CALLERS
from custom_components.process_cosmos.alerts.plain_text import as_text
from custom_components.process_cosmos.const import DOMAIN, LOGGER
from custom_components.process_cosmos.contract.alerts import Outcome
from custom_components.process_cosmos.contract.identifiers import Ulid

from .decisions import TOO_OLD
from .journal import Journal
from .model import Alert
from .records import Answer, Ended, IfInterrupted, Noticed, Running
from .service_failures import async_reason_of_failure
from .timetable import TRY_AGAIN_AFTER

ACTION_MISSING_FOR = 300.0
"""Seconds an action may be missing, e.g. because its integration starts late, until the answer has failed."""

_STEPS = {"choose", "default", "else", "parallel", "repeat", "sequence", "then"}
"""Where a step keeps further steps."""

_SENTENCES = {
    Outcome.FAILED: "“{answer}” ({message}) could not be carried out: {reason}.",
    Outcome.UNKNOWN: "“{answer}” ({message}) was interrupted; whether it was carried out is unknown.",
    Outcome.SUPERSEDED: (
        "“{answer}” ({message}) was not carried out, or not to its end: a newer alarm overtook it, or it is too old."
    ),
}


class Answers:
    """At most one run per alert.

    ``async_tell_people`` says what did not go well, and returns whether anybody was reached.
    """

    def __init__(
        self,
        hass: HomeAssistant,
        entry: ConfigEntry,
        journal: Journal,
        async_tell_people: Callable[[Alert, str], Awaitable[bool]],
    ) -> None:
        """``journal`` records each step; nothing runs before ``run`` or ``resume``."""
        self._hass = hass
        self._entry = entry
        self._journal = journal
        self._async_notify_people = async_tell_people
        self._scripts: dict[Ulid, Script] = {}
        self._stopped: set[Ulid] = set()
        self._taken_on: set[Ulid] = set()
        """What was closed before a restart may reach the disk only after it: it is run once."""

    @callback
    def resume(self) -> None:
        """Go on with what a restart interrupted: actions, and people who have not heard how they ended."""
        for alert in self._journal.state.alerts.values():
            if alert.closed_at is not None and alert.outcome is None:
                self.run(alert)
            elif alert.outcome in _SENTENCES and not alert.noticed:
                self._entry.async_create_background_task(
                    self._hass, self._async_notice(alert), f"process_cosmos notice {alert.id}"
                )

    @callback
    def run(self, alert: Alert) -> None:
        """Run the actions of the answer ``alert`` was closed with, if it has any."""
        answer = alert.offered(alert.answer)
        if answer and answer.has_actions and alert.id not in self._taken_on:
            self._taken_on.add(alert.id)
            self._entry.async_create_background_task(
                self._hass, self._async_run(alert, answer), f"process_cosmos answer {alert.id}"
            )

    @callback
    def overtake(self, newest: Alert) -> None:
        """Stop before their next effect the runs of older alerts of the group."""
        for alert_id, script in tuple(self._scripts.items()):
            if self._journal.state.alerts[alert_id].group == newest.group:
                self._stopped.add(alert_id)
                # Started eagerly: the script is told to stop before anything else happens.
                self._hass.async_create_task(script.async_stop(), f"process_cosmos overtaken {alert_id}")

    async def _async_run(self, alert: Alert, answer: Answer) -> None:
        await self._async_started()  # before that, people's phones may be missing too
        if alert.running and answer.if_interrupted is IfInterrupted.SKIP:
            await self._async_end(alert, Outcome.UNKNOWN)
            return
        sequence: list[dict[str, Any]] = orjson.loads(answer.actions)
        if missing := await self._async_missing(sequence):
            await self._async_end(alert, Outcome.FAILED, f"the action {missing} is missing")
            return
        if self._is_superseded(alert):
            await self._async_end(alert, Outcome.SUPERSEDED)
            return
        self._journal.record(Running(alert=alert.id, at=self._journal.now()))
        await self._journal.async_until_on_disk()
        trace_clear()  # of our own: else the automation's that happened to write the answer's record
        reason = await async_reason_of_failure(self._async_effects(alert, sequence)) or _reason_of_abort()
        if self._hass.is_stopping:
            return  # Home Assistant stopped the script: the next run finds it interrupted
        if alert.id in self._stopped:
            await self._async_end(alert, Outcome.SUPERSEDED)
        elif reason:
            await self._async_end(alert, Outcome.FAILED, reason)
        else:
            await self._async_end(alert, Outcome.DONE)

    async def _async_effects(self, alert: Alert, sequence: list[dict[str, Any]]) -> None:
        actions = await async_validate_actions_config(self._hass, cv.SCRIPT_SCHEMA(sequence))
        script = Script(self._hass, as_text(actions), f"Answer {alert.answer}", DOMAIN)
        self._scripts[alert.id] = script
        assert alert.closed_at  # noqa: S101 - it has an answer
        left = (alert.closed_at + TOO_OLD - self._journal.now()).total_seconds()

        async def too_old(_now: datetime) -> None:
            self._stopped.add(alert.id)
            await script.async_stop()

        cancel = async_call_later(self._hass, left, HassJob(too_old, cancel_on_shutdown=True))
        try:
            if self._is_superseded(alert):
                self._stopped.add(alert.id)
            else:
                context = Context(user_id=alert.content.user)
                self._hass.data[CALLERS].note_answer(context)
                await script.async_run(context=context)
        except asyncio.CancelledError as error:
            # A script stopped within an effect raises this too; only a cancelled task may pass it on.
            task = asyncio.current_task()
            if self._hass.is_stopping or (task and task.cancelling()):
                raise
            if alert.id not in self._stopped:
                raise HomeAssistantError("it was cancelled") from error
        finally:
            cancel()
            del self._scripts[alert.id]
            await script.async_unload()

    async def _async_end(self, alert: Alert, outcome: Outcome, reason: str = "") -> None:
        """Record it, so that nothing runs again; then tell people of what went wrong."""
        event, now = self._journal.new_id(), self._journal.now()
        ended = Ended(alert=alert.id, event=event, at=now, outcome=outcome, reason=reason)
        [alert] = self._journal.record(ended)
        if outcome in _SENTENCES:
            LOGGER.warning("answer_%s: %s %s", outcome, alert.id, reason)
            await self._async_notice(alert)

    async def _async_notice(self, alert: Alert) -> None:
        """Tell people how it ended, each minute until somebody is reached, at most for a day; then record that."""
        await self._async_started()
        assert alert.outcome  # noqa: S101 - it has ended
        message = alert.content.message
        sentence = _SENTENCES[alert.outcome].format(answer=alert.answer, message=message, reason=alert.reason)
        given_up = (alert.closed_at or self._journal.now()) + 2 * TOO_OLD
        while not await self._async_notify_people(alert, sentence) and self._journal.now() < given_up:
            await self._async_a_minute()
        self._journal.record(Noticed(alert=alert.id, at=self._journal.now()))

    async def _async_a_minute(self) -> None:
        over = asyncio.Event()

        @callback
        def end(_now: datetime) -> None:
            over.set()

        cancel = async_call_later(self._hass, TRY_AGAIN_AFTER, HassJob(end, cancel_on_shutdown=True))
        try:
            await over.wait()
        finally:
            cancel()

    def _is_superseded(self, alert: Alert) -> bool:
        """Say whether a newer alert of the group exists, or the answer is too old to be carried out."""
        newest = self._journal.state.newest.get(alert.group, alert.id)
        return newest != alert.id or self._journal.now() - (alert.closed_at or self._journal.now()) >= TOO_OLD

    async def _async_started(self) -> None:
        started = asyncio.Event()

        @callback
        def set_started(_hass: HomeAssistant) -> None:
            started.set()

        cancel = async_at_started(self._hass, set_started)
        try:
            await started.wait()
        finally:
            cancel()

    async def _async_missing(self, sequence: Sequence[Any]) -> str | None:
        """Wait until every action of ``sequence`` is there; return the first that is still missing after 5 minutes."""
        names = sorted(set(_actions_in(sequence)))
        given_up = False
        changed = asyncio.Event()

        @callback
        def look_again(_event: object) -> None:
            changed.set()

        @callback
        def give_up(_now: datetime) -> None:
            nonlocal given_up
            given_up = True
            changed.set()

        cancels = [
            self._hass.bus.async_listen(EVENT_SERVICE_REGISTERED, look_again),
            async_call_later(self._hass, ACTION_MISSING_FOR, HassJob(give_up, cancel_on_shutdown=True)),
        ]
        try:
            while missing := next((name for name in names if not self._is_there(name)), None):
                if given_up:
                    return missing
                changed.clear()
                await changed.wait()
        finally:
            for cancel in cancels:
                cancel()
        return None

    def _is_there(self, name: str) -> bool:
        domain, _, service = name.partition(".")
        return self._hass.services.has_service(domain, service)


def _actions_in(part: object) -> Iterator[str]:
    """Yield the names of all actions in a script sequence, however deep, without steps that are disabled."""
    if isinstance(part, list):
        for one in part:
            yield from _actions_in(one)
    elif isinstance(part, dict) and part.get("enabled", True) is True:
        name = part.get("action", part.get("service"))
        if isinstance(name, str) and "{" not in name and "." in name:
            yield name
        for key in _STEPS & part.keys():
            yield from _actions_in(part[key])


def _reason_of_abort() -> str | None:
    """Return why the script that just ended in this context was aborted, None if it was not.

    A false condition ends a script by the same word, but leaves no error at the step it ended with.
    """
    if script_execution_get() != "aborted":
        return None
    steps = {int(path): elements for path, elements in (trace_get(clear=False) or {}).items() if path.isdecimal()}
    error: str | None = steps[max(steps)][-1].as_dict().get("error")
    return error
