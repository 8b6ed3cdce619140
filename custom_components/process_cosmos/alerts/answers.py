"""Execution of the actions of the chosen answer: once, after the answer is on disk, even across restarts."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import orjson
from homeassistant.config_entries import ConfigEntry
from homeassistant.const import EVENT_SERVICE_REGISTERED
from homeassistant.core import CALLBACK_TYPE, Context, HassJob, HomeAssistant, callback
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers import config_validation as cv
from homeassistant.helpers.event import async_call_later
from homeassistant.helpers.script import Script, async_validate_actions_config
from homeassistant.helpers.start import async_at_started
from homeassistant.helpers.trace import script_execution_get, trace_clear, trace_get

from custom_components.process_cosmos.actions.callers import CALLERS
from custom_components.process_cosmos.alerts.plain_text import unescape_templates
from custom_components.process_cosmos.const import DOMAIN, LOGGER
from custom_components.process_cosmos.contract.alerts import Outcome
from custom_components.process_cosmos.contract.identifiers import Ulid

from .decisions import MAX_ANSWER_AGE
from .journal import Journal
from .model import Alert
from .records import Answer, Ended, IfInterrupted, OutcomeReported, Running
from .service_failures import async_reason_of_failure
from .timetable import TRY_AGAIN_AFTER

ACTION_MISSING_FOR = 300.0
"""Seconds to wait for a missing action, e.g. of an integration that starts late, before the answer fails."""

_NESTED_STEPS = {"choose", "default", "else", "parallel", "repeat", "sequence", "then"}
"""Keys of a script step that contain nested steps."""

_SENTENCES = {
    Outcome.FAILED: "“{answer}” ({message}) could not be carried out: {reason}.",
    Outcome.UNKNOWN: "“{answer}” ({message}) was interrupted; whether it was carried out is unknown.",
    Outcome.SUPERSEDED: (
        "“{answer}” ({message}) was not carried out, or not completely: a newer alert of the same group replaced it, or"
        " the answer is more than 24 hours old."
    ),
}


type _Subscribe = Callable[[Callable[[Any], None]], CALLBACK_TYPE]
"""Subscribes a callback and returns a function that cancels it."""


@dataclass(eq=False, repr=False)
class AnswerRunner:
    """Runs the actions of answers, at most once per alert, and reports failures to people.

    Nothing runs before ``run`` or ``resume``. ``async_notify_people`` sends a failure report and returns whether at
    least one recipient was reached.
    """

    hass: HomeAssistant
    entry: ConfigEntry
    journal: Journal
    async_notify_people: Callable[[Alert, str], Awaitable[bool]]
    _scripts: dict[Ulid, Script] = field(init=False, default_factory=dict)
    _stopped: set[Ulid] = field(init=False, default_factory=set)
    _begun: set[Ulid] = field(init=False, default_factory=set)
    """Alerts whose answer was started. A record from before a restart may only become durable after it, so both
    ``resume`` and the durable record can request the same run."""

    @callback
    def resume(self) -> None:
        """Continue what a restart interrupted: pending actions, and outcome reports that reached nobody."""
        for alert in self.journal.state.alerts.values():
            if alert.closed_at is not None and alert.outcome is None:
                self.run(alert)
            elif alert.outcome in _SENTENCES and not alert.outcome_reported:
                self.entry.async_create_background_task(
                    self.hass, self._async_report_outcome(alert), f"process_cosmos outcome {alert.id}"
                )

    @callback
    def run(self, alert: Alert) -> None:
        """Run the actions of the answer that closed ``alert``, if it has any."""
        answer = alert.find_answer(alert.answer)
        if answer and answer.has_actions and alert.id not in self._begun:
            self._begun.add(alert.id)
            self.entry.async_create_background_task(
                self.hass, self._async_run(alert, answer), f"process_cosmos answer {alert.id}"
            )

    @callback
    def stop_superseded(self, newest: Alert) -> None:
        """Stop the running answers of older alerts in the same group before their next action."""
        for alert_id, script in tuple(self._scripts.items()):
            if self.journal.state.alerts[alert_id].group == newest.group:
                self._stopped.add(alert_id)
                # The task starts eagerly, so the script is stopped before any other code runs.
                self.hass.async_create_task(script.async_stop(), f"process_cosmos superseded {alert_id}")

    async def _async_run(self, alert: Alert, answer: Answer) -> None:
        await self._async_wait_until_started()  # the phones' integration may not be loaded earlier
        # Some actions may have run before the restart; only the author knows whether they can be repeated safely.
        if alert.running and answer.if_interrupted is IfInterrupted.SKIP:
            await self._async_end(alert, Outcome.UNKNOWN)
            return
        sequence: list[dict[str, Any]] = orjson.loads(answer.actions)
        if missing := await self._async_wait_for_actions(sequence):
            await self._async_end(alert, Outcome.FAILED, f"the action {missing} is missing")
            return
        # Checked after the waits, which may take minutes, in which a newer alert may have been opened.
        if self._is_superseded(alert):
            await self._async_end(alert, Outcome.SUPERSEDED)
            return
        # On disk before the first action: otherwise a crash during the actions would run them a second time.
        self.journal.record(Running(alert=alert.id, at=self.journal.now()))
        await self.journal.async_flush_with_retries()
        trace_clear()  # otherwise this context may hold the trace of the automation that recorded the answer
        reason = await async_reason_of_failure(self._async_run_script(alert, sequence)) or _reason_of_abort()
        if self.hass.is_stopping:
            return  # Home Assistant stopped the script; ``resume`` handles it as interrupted
        if alert.id in self._stopped:
            await self._async_end(alert, Outcome.SUPERSEDED)
        elif reason:
            await self._async_end(alert, Outcome.FAILED, reason)
        else:
            await self._async_end(alert, Outcome.DONE)

    async def _async_run_script(self, alert: Alert, sequence: list[dict[str, Any]]) -> None:
        actions = await async_validate_actions_config(self.hass, cv.SCRIPT_SCHEMA(sequence))
        script = Script(self.hass, unescape_templates(actions), f"Answer {alert.answer}", DOMAIN)
        self._scripts[alert.id] = script
        assert alert.closed_at  # noqa: S101 - it has an answer
        left = (alert.closed_at + MAX_ANSWER_AGE - self.journal.now()).total_seconds()

        async def too_old(_now: datetime) -> None:
            self._stopped.add(alert.id)
            await script.async_stop()

        cancel = async_call_later(self.hass, left, HassJob(too_old, cancel_on_shutdown=True))
        try:
            # Checked again: until the script was in ``_scripts``, ``stop_superseded`` could not stop it.
            if self._is_superseded(alert):
                self._stopped.add(alert.id)
            else:
                context = Context(user_id=alert.content.user)
                # An alert that the actions raise must not count as a person's direct call.
                self.hass.data[CALLERS].note_answer(context)
                await script.async_run(context=context)
        except asyncio.CancelledError as error:
            # A script that is stopped during an action raises this too; re-raise only if this task was cancelled.
            task = asyncio.current_task()
            if self.hass.is_stopping or (task and task.cancelling()):
                raise
            if alert.id not in self._stopped:
                raise HomeAssistantError(translation_domain=DOMAIN, translation_key="action_cancelled") from error
        finally:
            cancel()
            del self._scripts[alert.id]
            await script.async_unload()

    async def _async_end(self, alert: Alert, outcome: Outcome, reason: str = "") -> None:
        """Record the outcome, so that the actions never run again, then report a failure to people."""
        event, now = self.journal.new_id(), self.journal.now()
        ended = Ended(alert=alert.id, event=event, at=now, outcome=outcome, reason=reason)
        [alert] = self.journal.record(ended)
        if outcome in _SENTENCES:
            LOGGER.warning(
                "answer_%s: the answer to alert %s did not complete: %s", outcome, alert.id, reason or outcome
            )
            await self._async_report_outcome(alert)

    async def _async_report_outcome(self, alert: Alert) -> None:
        """Report the outcome to people, each minute until one is reached or the answer is 48 hours old; record that."""
        await self._async_wait_until_started()
        assert alert.outcome  # noqa: S101 - it has ended
        message = alert.content.message
        sentence = _SENTENCES[alert.outcome].format(answer=alert.answer, message=message, reason=alert.reason)
        given_up = (alert.closed_at or self.journal.now()) + 2 * MAX_ANSWER_AGE
        while not await self.async_notify_people(alert, sentence) and self.journal.now() < given_up:
            with _woken_by(self._after(TRY_AGAIN_AFTER)) as elapsed:
                await elapsed.wait()
        self.journal.record(OutcomeReported(alert=alert.id, at=self.journal.now()))

    def _is_superseded(self, alert: Alert) -> bool:
        """Return whether the group has a newer alert, or the answer is too old to run."""
        newest = self.journal.state.newest.get(alert.group, alert.id)
        return newest != alert.id or self.journal.now() - (alert.closed_at or self.journal.now()) >= MAX_ANSWER_AGE

    async def _async_wait_until_started(self) -> None:
        with _woken_by(lambda wake: async_at_started(self.hass, wake)) as started:
            await started.wait()

    async def _async_wait_for_actions(self, sequence: Sequence[Any]) -> str | None:
        """Wait until all actions of ``sequence`` are registered; after 5 minutes return the first missing one."""
        names = sorted(set(_actions_in(sequence)))
        later = self._after(ACTION_MISSING_FOR)
        with (
            _woken_by(later) as given_up,
            _woken_by(later, partial(self.hass.bus.async_listen, EVENT_SERVICE_REGISTERED)) as changed,
        ):
            while missing := next((name for name in names if not self._has_action(name)), None):
                if given_up.is_set():
                    return missing
                changed.clear()
                await changed.wait()
        return None

    def _after(self, delay: float | timedelta) -> _Subscribe:
        return lambda wake: async_call_later(self.hass, delay, HassJob(wake, cancel_on_shutdown=True))

    def _has_action(self, name: str) -> bool:
        domain, _, service = name.partition(".")
        return self.hass.services.has_service(domain, service)


@contextlib.contextmanager
def _woken_by(*subscriptions: _Subscribe) -> Iterator[asyncio.Event]:
    """Yield an event that is set whenever one of ``subscriptions`` calls its callback."""
    event = asyncio.Event()

    @callback
    def wake(_: object) -> None:
        event.set()

    cancels = [subscribe(wake) for subscribe in subscriptions]
    try:
        yield event
    finally:
        for cancel in cancels:
            cancel()


def _actions_in(part: object) -> Iterator[str]:
    """Yield the names of all actions in a script sequence, at any depth, skipping disabled steps."""
    if isinstance(part, list):
        for one in part:
            yield from _actions_in(one)
    elif isinstance(part, dict) and part.get("enabled", True) is True:
        name = part.get("action", part.get("service"))
        # A templated name is known only when its step runs, so it cannot be waited for.
        if isinstance(name, str) and "{" not in name and "." in name:
            yield name
        for key in _NESTED_STEPS & part.keys():
            yield from _actions_in(part[key])


def _reason_of_abort() -> str | None:
    """Return why the script that just ended in this context was aborted; None if it was not.

    A false condition also ends a script as ``aborted``, but its last step has no error.
    """
    if script_execution_get() != "aborted":
        return None
    steps = {int(path): elements for path, elements in (trace_get(clear=False) or {}).items() if path.isdecimal()}
    error: str | None = steps[max(steps)][-1].as_dict().get("error")
    return error
