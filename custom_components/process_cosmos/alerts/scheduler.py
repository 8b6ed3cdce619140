"""Keeps the timetable: tells people when due, moves asks, wakes acknowledgements, gives up."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import replace
from datetime import datetime
from functools import partial

from homeassistant.config_entries import ConfigEntry
from homeassistant.core import CALLBACK_TYPE, HomeAssistant, callback
from homeassistant.helpers.event import async_call_later

from custom_components.process_cosmos.alerts.record_log import RecordLogWriteError
from custom_components.process_cosmos.contract.alerts import AlertState
from custom_components.process_cosmos.contract.identifiers import NotificationKey, Ulid
from custom_components.process_cosmos.issues.recipient_issues import RecipientIssues

from .journal import Journal
from .model import Alert, after
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
from .timetable import Outcomes, Timetable, is_earlier, timetable


class Scheduler:
    """Looks at an alert whenever its timetable may say something new."""

    def __init__(
        self,
        hass: HomeAssistant,
        entry: ConfigEntry,
        journal: Journal,
        *,
        policy: Policy,
        sender: NotificationSender,
        recipient_issues: RecipientIssues,
        gateway_away_since: Callable[[], datetime | None],
    ) -> None:
        """Take the parts; nothing is told before ``start``."""
        self._hass = hass
        self._entry = entry
        self._journal = journal
        self._policy = policy
        self._sender = sender
        self._recipient_issues = recipient_issues
        self._gateway_away_since = gateway_away_since
        self._timers: dict[Ulid, CALLBACK_TYPE] = {}
        self._telling_now: dict[NotificationKey, asyncio.Future[None]] = {}
        self._results: dict[Ulid, dict[str, NotificationResult]] = {}
        """How the newest notification of each recipient went, of what is alive or has notifications on their way."""
        self._shown_here: dict[Ulid, int] = {}
        """The newest ring shown in Home Assistant, of what is alive."""
        self._started = False

    @callback
    def start(self) -> None:
        """Begin to tell: before Home Assistant has started, notify actions may still be missing."""
        self._started = True
        self._recipient_issues.start()
        self.look_at_all()

    @callback
    def stop(self) -> None:
        """Start no notification any more, and forget what was due; notifications on their way end by themselves."""
        self._started = False
        self._recipient_issues.stop()
        for cancel in self._timers.values():
            cancel()
        self._timers.clear()

    def with_requests[R: (Opened, Updated, Acknowledged)](self, record: R) -> R:
        """Return ``record`` with the asks that hold after it."""
        (alert,) = after(record, self._journal.state.alerts)
        return replace(record, requests=self.requests(alert))

    def next_notification_at(self, alert: Alert, now: datetime) -> datetime:
        """Return when a ring called now is told; behind one that waits for Home Assistant's start it need not wait."""
        is_untold = not self._started and not self._journal.outcomes[alert.id].tries
        return now if is_untold else alert.next_notification_at(now)

    def requests(self, alert: Alert) -> PlannedRequests:
        """Return what the gateway is to do for ``alert`` as it stands."""
        outcomes = deepcopy(self._journal.outcomes.get(alert.id, Outcomes()))
        outcomes.follow(alert.revision, alert.cycle_revision)
        return self._timetable(alert, outcomes).requests

    @callback
    def look_at_all(self) -> None:
        """Look at everything alive."""
        for alert in tuple(self._journal.state.alive.values()):
            self.look(alert)

    @callback
    def look(self, alert_id: Ulid) -> None:
        """Do what is due and set the timer for what comes next."""
        if cancel := self._timers.pop(alert_id, None):
            cancel()
        now = self._journal.now()
        alert = self._alive(alert_id, now)
        if alert is None or not self._started:
            return
        if alert.state is AlertState.ACKNOWLEDGED and now >= alert.notify_at:
            (alert,) = self._journal.record(
                AcknowledgementExpired(alert=alert.id, event=self._journal.new_id(), at=now)
            )
        table = self._timetable(alert, self._journal.outcomes[alert.id])
        if is_earlier(table.requests, alert.requests):
            self._journal.record(
                Rescheduled(alert=alert.id, event=self._journal.new_id(), at=now, requests=table.requests)
            )
        if table.look_at:
            self._timers[alert.id] = async_call_later(
                self._hass, table.look_at - now, partial(self._look_when_due, alert_id)
            )
        if alert.state is AlertState.OPEN and now >= alert.notify_at:
            self._show_if_nobody_is_left(alert)
        # Marked before the first one starts: a tell starts eagerly, and looks again when it ends.
        due = [key for key in table.tells if key not in self._telling_now]
        self._results.setdefault(alert_id, {})
        self._telling_now.update({key: self._hass.loop.create_future() for key in due})
        for key in due:
            self._entry.async_create_background_task(
                self._hass, self._async_notify_recipient(key), f"process_cosmos tell {key}"
            )

    def _alive(self, alert_id: Ulid, now: datetime) -> Alert | None:
        """Return the alert if it is alive, else forget it; one whose time is over becomes unanswered."""
        alert = self._journal.state.alerts.get(alert_id)
        if alert and alert.alive and now >= alert.until:
            unanswered = Unanswered(alert=alert.id, event=self._journal.new_id(), at=now)
            (alert,) = self._journal.record(unanswered)
        if alert and alert.alive:
            return alert
        if not self._on_their_way(alert_id):
            self._results.pop(alert_id, None)
        self._shown_here.pop(alert_id, None)
        return None

    @callback
    def _look_when_due(self, alert_id: Ulid, _now: datetime) -> None:
        self.look(alert_id)

    def _timetable(self, alert: Alert, outcomes: Outcomes) -> Timetable:
        return timetable(self._policy, alert, outcomes, self._journal.now(), self._gateway_away_since())

    async def _async_notify_recipient(self, key: NotificationKey) -> None:
        """Tell once the ring is on disk, or cannot be: a full disk silences nobody."""
        try:
            with contextlib.suppress(RecordLogWriteError):
                await self._journal.async_on_disk()
            alert = self._journal.state.alerts[key.alert]
            if alert.alive and (alert.revision == key.revision or self._is_put_off(alert, key)):
                result = await self._sender.async_notify(key.recipient, alert)
                self._results[key.alert][key.recipient] = result
                self.learn(key, reached=result.handed_over, at=self._journal.now())
                await self._take_back(key)
        finally:
            self._telling_now.pop(key).set_result(None)
        self.look(key.alert)

    async def async_results(self, alert_id: Ulid) -> Mapping[str, NotificationResult]:
        """Return by recipient how notifying went so far, once the notifications on their way have ended."""
        results = self._results.get(alert_id, {})  # held here: the last one to end may drop it
        if on_their_way := self._on_their_way(alert_id):
            await asyncio.wait(on_their_way)
        return results

    def _on_their_way(self, alert_id: Ulid) -> list[asyncio.Future[None]]:
        return [ended for key, ended in self._telling_now.items() if key.alert == alert_id]

    def _show_if_nobody_is_left(self, alert: Alert) -> None:
        """Show the alert in Home Assistant where there is nobody to notify, each ring once: a person may dismiss it."""
        if self._shown_here.get(alert.id) != alert.revision and self._recipient_issues.nobody_left:
            self._shown_here[alert.id] = alert.revision
            self._sender.show_in_home_assistant(alert.content.message, alert.id)

    def _is_put_off(self, alert: Alert, key: NotificationKey) -> bool:
        """Say whether new content overtook the tell ``key`` and has to wait: then the tell carries it."""
        return (
            alert.state is AlertState.OPEN
            and alert.cycle_revision <= key.revision
            and alert.notify_at > self._journal.now()
        )

    async def _take_back(self, key: NotificationKey) -> None:
        """Take away what arrived after the alert was closed."""
        alert = self._journal.state.alerts[key.alert]
        if not alert.alive and alert.state is not AlertState.UNANSWERED:
            await self._sender.async_clear([key.recipient], alert.id)

    @callback
    def learn(self, key: NotificationKey, *, reached: bool, at: datetime) -> None:
        """Record how a tell ended, unless that is on record; a further failure only puts the next try off."""
        outcomes = self._journal.outcomes.get(key.alert)
        if outcomes is None:
            return
        if outcomes.knows(key, reached=reached):
            outcomes.learn(key, reached=reached, at=at)
        else:
            self._journal.record(NotifiedRecord(key=key, reached=reached, at=at))
