"""Scheduler of alerts: sends due notifications, reschedules requests, ends acknowledgements, gives up."""

import asyncio
import contextlib
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import datetime

from homeassistant.config_entries import ConfigEntry
from homeassistant.core import CALLBACK_TYPE, HomeAssistant, callback
from homeassistant.helpers.event import async_call_later

from custom_components.process_cosmos.alerts.record_log import RecordLogWriteError
from custom_components.process_cosmos.contract.alerts import AlertState
from custom_components.process_cosmos.contract.identifiers import NotificationKey, Ulid
from custom_components.process_cosmos.issues.recipient_issues import RecipientIssues

from .gateway_presence import GatewayPresence
from .journal import Journal
from .model import Alert, alerts_after
from .notification_results import NotificationResult
from .notification_sender import NotificationSender
from .policy import Policy
from .records import (
    Acknowledged,
    AcknowledgementExpired,
    NotifiedRecord,
    Opened,
    PlannedRequests,
    Rescheduled,
    Unanswered,
    Updated,
)
from .timetable import NotificationOutcomes, Timetable, is_earlier, timetable


@dataclass(eq=False, repr=False)
class Scheduler:
    """Processes each open alert whenever its timetable may have changed; sends nothing before ``start``."""

    hass: HomeAssistant
    entry: ConfigEntry
    journal: Journal
    policy: Policy
    sender: NotificationSender
    recipient_issues: RecipientIssues
    gateway: GatewayPresence
    _timers: dict[Ulid, CALLBACK_TYPE] = field(init=False, default_factory=dict)
    _sending: dict[NotificationKey, asyncio.Future[None]] = field(init=False, default_factory=dict)
    _results: dict[Ulid, dict[str, NotificationResult]] = field(init=False, default_factory=dict)
    """Newest result of each recipient, for alerts that are open or have notifications being sent."""
    _shown_revisions: dict[Ulid, int] = field(init=False, default_factory=dict)
    """Newest revision shown in Home Assistant, by open alert."""
    _started: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        """Process all alerts whenever the gateway leaves or returns."""
        self.gateway.listen(self.process_all)

    @callback
    def start(self, _: object = None) -> None:
        """Begin to send notifications. Before Home Assistant has started, notify actions may still be missing."""
        self._started = True
        self.recipient_issues.start()
        self.process_all()

    @callback
    def stop(self, _: object = None) -> None:
        """Cancel all timers and start no further notification; notifications being sent are not interrupted."""
        self._started = False
        self.recipient_issues.stop()
        for cancel in self._timers.values():
            cancel()
        self._timers.clear()

    def with_requests[R: (Opened, Updated, Acknowledged)](self, record: R) -> R:
        """Return ``record`` with the notification requests that apply after it."""
        (alert,) = alerts_after(record, self.journal.state.alerts)
        return replace(record, requests=self.planned_requests(alert))

    def next_notification_at(self, alert: Alert, now: datetime) -> datetime:
        """Return when a revision created now is notified.

        It is not delayed by a previous revision that nobody was notified of because Home Assistant is still starting.
        """
        is_unsent = not self._started and not self.journal.outcomes[alert.id].attempts
        return now if is_unsent else alert.next_notification_at(now)

    def planned_requests(self, alert: Alert) -> PlannedRequests:
        """Return the notification requests for the gateway in the current state of ``alert``."""
        # A copy, because ``alert`` may be a state that is not recorded yet.
        outcomes = deepcopy(self.journal.outcomes.get(alert.id, NotificationOutcomes()))
        outcomes.reset_for(alert.revision, alert.cycle_revision)
        return self._timetable(alert, outcomes).requests

    @callback
    def process_all(self) -> None:
        """Process all open and acknowledged alerts."""
        for alert in tuple(self.journal.state.alive.values()):
            self.process(alert)

    @callback
    def process(self, alert_id: Ulid) -> None:
        """Record and send what is due for one alert, and set the timer for its next check."""
        if cancel := self._timers.pop(alert_id, None):
            cancel()
        now = self.journal.now()
        alert = self._alive(alert_id, now)
        # Giving up is recorded before the start too: an expired alert must not absorb a new call.
        if alert is None or not self._started:
            return
        if alert.state is AlertState.ACKNOWLEDGED and now >= alert.notify_at:
            (alert,) = self.journal.record(AcknowledgementExpired(alert=alert.id, event=self.journal.new_id(), at=now))
        table = self._timetable(alert, self.journal.outcomes[alert.id])
        if is_earlier(table.requests, alert.requests):
            self.journal.record(
                Rescheduled(alert=alert.id, event=self.journal.new_id(), at=now, requests=table.requests)
            )
        if table.next_check_at:
            self._timers[alert.id] = async_call_later(
                self.hass, table.next_check_at - now, callback(lambda _now: self.process(alert_id))
            )
        if alert.state is AlertState.OPEN and now >= alert.notify_at:
            self._show_if_no_recipient_is_left(alert)
        # All are marked before the first one starts: tasks start eagerly and process the alert again when they end.
        due = [key for key in table.notifications if key not in self._sending]
        self._results.setdefault(alert_id, {})
        self._sending.update({key: self.hass.loop.create_future() for key in due})
        for key in due:
            self.entry.async_create_background_task(
                self.hass, self._async_notify_recipient(key), f"process_cosmos notify {key}"
            )

    def _alive(self, alert_id: Ulid, now: datetime) -> Alert | None:
        """Return the alert if it is still alive; record it as unanswered if its give-up time has passed.

        Discards the results of a closed alert.
        """
        alert = self.journal.state.alerts.get(alert_id)
        if alert and alert.alive and now >= alert.until:
            unanswered = Unanswered(alert=alert.id, event=self.journal.new_id(), at=now)
            (alert,) = self.journal.record(unanswered)
        if alert and alert.alive:
            return alert
        if not self._pending(alert_id):
            self._results.pop(alert_id, None)
        self._shown_revisions.pop(alert_id, None)
        return None

    def _timetable(self, alert: Alert, outcomes: NotificationOutcomes) -> Timetable:
        return timetable(self.policy, alert, outcomes, self.journal.now(), self.gateway.away_since)

    async def _async_notify_recipient(self, key: NotificationKey) -> None:
        """Notify one recipient, after the revision is on disk or has failed to be: a full disk prevents no alert."""
        try:
            with contextlib.suppress(RecordLogWriteError):
                await self.journal.async_flush()
            alert = self.journal.state.alerts[key.alert]
            # Decided after the flush, during which the alert may have been closed or updated.
            if alert.alive and (alert.revision == key.revision or self._is_postponed(alert, key)):
                result = await self.sender.async_notify(key.recipient, alert)
                self._results[key.alert][key.recipient] = result
                self.record_outcome(key, reached=result.handed_over, at=self.journal.now())
                await self._clear_if_closed(key)
        finally:
            self._sending.pop(key).set_result(None)
        self.process(key.alert)

    async def async_results(self, alert_id: Ulid) -> Mapping[str, NotificationResult]:
        """Wait for the notifications being sent and return the newest result by recipient."""
        results = self._results.get(alert_id, {})  # fetched first: ``process`` may discard it after the last one
        if pending := self._pending(alert_id):
            await asyncio.wait(pending)
        return results

    def _pending(self, alert_id: Ulid) -> list[asyncio.Future[None]]:
        return [ended for key, ended in self._sending.items() if key.alert == alert_id]

    def _show_if_no_recipient_is_left(self, alert: Alert) -> None:
        """Show the alert in Home Assistant if no recipient can be found; once per revision, so it can be dismissed."""
        if self._shown_revisions.get(alert.id) != alert.revision and self.recipient_issues.nobody_left:
            self._shown_revisions[alert.id] = alert.revision
            self.sender.show_in_home_assistant(alert.content.message, alert.id)

    def _is_postponed(self, alert: Alert, key: NotificationKey) -> bool:
        """Return whether a newer revision was created after ``key`` was due and is itself postponed.

        The notification ``key`` is then sent with the new content.
        """
        return (
            alert.state is AlertState.OPEN
            and alert.cycle_revision <= key.revision
            and alert.notify_at > self.journal.now()
        )

    async def _clear_if_closed(self, key: NotificationKey) -> None:
        """Remove a notification that was sent while the alert was being closed."""
        alert = self.journal.state.alerts[key.alert]
        if not alert.alive and alert.state is not AlertState.UNANSWERED:
            await self.sender.async_clear([key.recipient], alert.id)

    @callback
    def record_outcome(self, key: NotificationKey, *, reached: bool, at: datetime) -> None:
        """Record the outcome of a notification, unless it is already recorded.

        A repeated failure is not recorded: it only postpones the next attempt.
        """
        outcomes = self.journal.outcomes.get(key.alert)
        if outcomes is None:
            return
        if outcomes.includes(key, reached=reached):
            outcomes.add(key, reached=reached, at=at)
        else:
            self.journal.record(NotifiedRecord(key=key, reached=reached, at=at))
