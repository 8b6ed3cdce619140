"""The alerts of one site: its operations, and the effects of each record once it is on disk."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from homeassistant.config_entries import ConfigEntry
from homeassistant.const import EVENT_HOMEASSISTANT_STOP
from homeassistant.core import CALLBACK_TYPE, HomeAssistant, callback
from homeassistant.exceptions import ConfigEntryError, ConfigEntryNotReady
from homeassistant.helpers.dispatcher import async_dispatcher_send
from homeassistant.helpers.event import async_track_time_interval
from homeassistant.helpers.start import async_at_started
from homeassistant.util.signal_type import SignalType

from custom_components.process_cosmos.alerts.record_log import Entry, RecordLogTooNewError, RecordLogWriteError
from custom_components.process_cosmos.alerts.safe_duration import duration
from custom_components.process_cosmos.const import CONF_HAS_LOG, DOMAIN, LOGGER
from custom_components.process_cosmos.contract.alerts import AlertState, Propose, TransitionKind
from custom_components.process_cosmos.contract.errors import Code
from custom_components.process_cosmos.contract.identifiers import Ulid
from custom_components.process_cosmos.issues.recipient_issues import RecipientIssues
from custom_components.process_cosmos.issues.site_issues import Issue, clear_issues, create_issue, show_issue

from .answers import AnswerRunner
from .calls import AlertRequest, RaisedAlert
from .decisions import ACKNOWLEDGEMENT, AnswerRequest, Refusal, check_answer_request, needed_right
from .errors import AlertRefusedError, NotOnDiskError
from .gateway_presence import GatewayPresence
from .gateway_sync import GatewaySync
from .journal import Journal
from .model import Alert
from .notification_results import NotificationResult
from .notification_sender import NotificationSender
from .recipient_selection import policy_of
from .records import Acknowledged, Answered, Opened, Record, Recurred, Refused, Resolved, Updated, alert_events
from .scheduler import Scheduler

COMPACT_EVERY = timedelta(days=1)

_RESTRICTED_FIELDS = frozenset({"answers", "attach", "data", "give_up_after", "if_unanswered", "policy"})
"""Fields of a call that could weaken the group's open alert; changing them requires the right to answer it."""

_CLEARS_NOTIFICATIONS = (TransitionKind.ANSWERED, TransitionKind.RESOLVED, TransitionKind.RECONCILED)
"""Changes that remove the notifications; those of an unanswered alert stay visible."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertChange:
    """A change that is on disk, with the alert as it is after it."""

    kind: TransitionKind
    alert: Alert


SIGNAL_ALERT_CHANGED: SignalType[AlertChange] = SignalType(f"{DOMAIN}_alert_changed")
"""Dispatcher signal of all sites, sent with each change that is on disk."""


class Alerts:
    """Notifies people of a site's alerts until one of them answers; requires neither a gateway nor a network."""

    def __init__(self, hass: HomeAssistant, entry: ConfigEntry) -> None:
        """Create the components without I/O.

        ``async_start`` reads the record log, or ``async_withdraw_notifications`` for a site that is being deleted.
        """
        self._hass = hass
        self._entry = entry
        self._policy = policy_of(hass, entry.options)
        self._cancels: list[CALLBACK_TYPE] = []
        self._compacting = asyncio.Lock()
        self._outcomes_shown: set[Ulid] = set()
        """Alerts whose outcome was shown in Home Assistant because no recipient could be found."""
        self._journal = Journal(hass, entry, self._on_durable, self._on_write_error)
        self._recipient_issues = RecipientIssues(hass, entry, self._policy.people, self._journal.now)
        self.sender = NotificationSender(hass, entry.title, self._recipient_issues.learn)
        self.gateway_presence = GatewayPresence(hass, self._journal.now)
        self._scheduler = Scheduler(
            hass,
            entry,
            self._journal,
            policy=self._policy,
            sender=self.sender,
            recipient_issues=self._recipient_issues,
            gateway=self.gateway_presence,
        )
        self.gateway_sync = GatewaySync(
            hass,
            entry,
            self._journal,
            scheduler=self._scheduler,
            presence=self.gateway_presence,
            async_settle=self._async_settle_proposal,
        )
        self._answer_runner = AnswerRunner(hass, entry, self._journal, self._async_notify_people)

    @property
    def nobody_left(self) -> bool:
        """Whether no configured recipient can be found, or none is configured."""
        return self._recipient_issues.nobody_left

    async def async_results(self, alert: Ulid) -> Mapping[str, NotificationResult | None]:
        """Return the result of notifying each recipient of ``alert``; None: not tried yet."""
        results = await self._scheduler.async_results(alert)
        return {recipient: results.get(recipient) for recipient in self._policy.people}

    @property
    def run(self) -> Ulid:
        """Id of the record log's current run, sent in the gateway session; set by ``async_start``."""
        return self._journal.run

    @property
    def alive(self) -> tuple[Alert, ...]:
        """Open and acknowledged alerts, oldest first."""
        state = self._journal.state
        return tuple(state.alerts[one] for one in sorted(state.alive.values()))

    def get(self, alert_id: str) -> Alert | None:
        """Return an alert, open or closed; None if it is unknown or was deleted by compaction."""
        return self._journal.state.alerts.get(Ulid(alert_id))

    def alive_of(self, group: str) -> Alert | None:
        """Return the group's open or acknowledged alert, if any."""
        return self._journal.state.alive_of(group)

    async def async_start(self) -> None:
        """Read the record log and resume. Raise ``ConfigEntryError`` or ``ConfigEntryNotReady``."""
        try:
            await self._journal.async_open()
        except RecordLogTooNewError as error:
            LOGGER.error("memory_too_new: %s", error)
            create_issue(self._hass, self._entry, Issue.MEMORY_TOO_NEW)
            raise ConfigEntryError(translation_domain=DOMAIN, translation_key="memory_too_new") from error
        except OSError as error:
            raise ConfigEntryNotReady(
                translation_domain=DOMAIN,
                translation_key="memory_not_read",
                translation_placeholders={"reason": error.strerror or type(error).__name__},
            ) from error
        clear_issues(self._hass, self._entry, Issue.MEMORY_TOO_NEW)
        if damaged := self._journal.record_log.damaged:
            create_issue(self._hass, self._entry, Issue.MEMORY_DAMAGED, bytes=str(damaged))
        if self._journal.is_lost:
            LOGGER.error(
                "memory_lost: the alert file of %s is missing or empty, so earlier alerts are lost; restore a backup",
                self._entry.title,
            )
            create_issue(self._hass, self._entry, Issue.MEMORY_LOST)
        # Only once the file is written: otherwise a start on a full disk would later be reported as a lost log.
        if not self._entry.data.get(CONF_HAS_LOG) and not self._journal.record_log.queued:
            self._hass.config_entries.async_update_entry(self._entry, data={**self._entry.data, CONF_HAS_LOG: True})
        await self._async_compact()
        self._answer_runner.resume()
        self._cancels = [
            async_at_started(self._hass, self._scheduler.start),
            self._hass.bus.async_listen_once(EVENT_HOMEASSISTANT_STOP, self._scheduler.stop),
            async_track_time_interval(self._hass, self._async_compact, COMPACT_EVERY, cancel_on_shutdown=True),
        ]

    async def async_stop(self) -> None:
        """Stop notifying and close the record log, which keeps open alerts."""
        for cancel in self._cancels:
            cancel()
        self._scheduler.stop()
        self.gateway_sync.async_stop()
        await self._journal.async_close()

    async def async_withdraw_notifications(self) -> None:
        """Remove the notifications of open alerts from the phones of a site that is not loaded."""
        with contextlib.suppress(RecordLogTooNewError, OSError):
            await self._journal.record_log.async_load()
            self._journal.replay()
            await asyncio.gather(*(self._async_clear(alert.id) for alert in self.alive))

    async def async_remove(self) -> None:
        """Delete the record log."""
        await self._journal.async_remove()

    async def async_raise_alert(self, call: AlertRequest) -> RaisedAlert:
        """Open an alert, or update or count the group's open one. Return once that is on disk.

        Raises ``NotOnDiskError`` if it cannot be saved; people are notified anyway.
        """
        now = self._journal.now()
        alive = self._journal.state.alive_of(call.group) if call.group else None
        if alive:  # an alert past its give-up time must be closed first, so that the call opens a new one
            self._scheduler.process(alive.id)
            alive = self._journal.state.alive_of(alive.group)
        content = call.content
        ignored: tuple[str, ...] = ()
        adds_only = alive is not None and not call.allowed(alive)
        if alive and adds_only:
            content = alive.content_with_addition(call.content)
            ignored = tuple(sorted(call.given & _RESTRICTED_FIELDS))
        if alive is None:
            new_id = self._journal.new_id()
            group = call.group or new_id
            opened = Opened(alert=new_id, event=self._journal.new_id(), at=now, group=group, content=content)
            (alert,) = self._journal.record(self._scheduler.with_requests(opened))
            # Before the record is on disk: the next action of an older answer may run at any moment.
            self._answer_runner.stop_superseded(alert)
        elif alive.requires_notification(content):
            updated = Updated(
                alert=alive.id,
                event=self._journal.new_id(),
                at=now,
                content=content,
                notify_at=self._scheduler.next_notification_at(alive, now),
                adds_only=adds_only,
            )
            (alert,) = self._journal.record(self._scheduler.with_requests(updated))
        else:
            (alert,) = self._journal.record(Recurred(alert=alive.id, at=now))
        # Before the flush, which raises on a full disk: people are notified anyway.
        self._scheduler.process(alert.id)
        await self._async_flush()
        return RaisedAlert(id=alert.id, state=alert.state, new=alive is None, revision=alert.revision, ignored=ignored)

    async def async_answer(self, request: AnswerRequest) -> None:
        """Close an alert with an answer, whose actions then run, or acknowledge it. Return once that is on disk.

        Raises ``AlertRefusedError`` or ``NotOnDiskError``.
        """
        refused = self._record_decision(request)
        await self._async_flush()  # for a refusal too: it may name the winning answer, which must be on disk
        if refused:
            raise AlertRefusedError(refused.code, **refused.placeholders)

    async def async_resolve(
        self, alert_id: Ulid, *, by: str, note: str | None, allowed: Callable[[Alert], bool]
    ) -> None:
        """Close an alert without an answer; a closed alert is unchanged. Raise as ``async_answer``."""
        alert = self._journal.state.alerts.get(alert_id)
        if alert is None:
            raise AlertRefusedError(Code.UNKNOWN_ALERT, alert=alert_id)
        if not allowed(alert):
            raise AlertRefusedError(Code.NOT_ALLOWED, needed=needed_right(alert))
        if alert.alive:
            event = self._journal.new_id()
            self._journal.record(Resolved(alert=alert_id, event=event, at=self._journal.now(), by=by, note=note))
            self._scheduler.process(alert_id)
        await self._async_flush()

    def _record_decision(self, request: AnswerRequest) -> Refusal | None:
        """Accept or refuse the request and record that; return the refusal. Of two answers, the first recorded wins.

        The state includes records that are not on disk yet.
        """
        refused = check_answer_request(self._journal.state, request)
        now = self._journal.now()
        if refused:
            # Recorded, so that the same proposal gets the same result when the gateway sends it again.
            if request.proposal is not None:
                self._journal.record(Refused(alert=request.alert, at=now, proposal=request.proposal, code=refused.code))
            return refused
        event = self._journal.new_id()
        if request.answer is None:
            acked = Acknowledged(
                alert=request.alert,
                event=event,
                at=now,
                notify_at=self._acknowledged_until(request, now),
                by=request.by,
                proposal=request.proposal,
            )
            self._journal.record(self._scheduler.with_requests(acked))
        else:
            self._journal.record(
                Answered(
                    alert=request.alert,
                    event=event,
                    at=now,
                    answer=request.answer,
                    by=request.by,
                    note=request.note,
                    proposal=request.proposal,
                )
            )
        self._scheduler.process(request.alert)
        return None

    def _acknowledged_until(self, request: AnswerRequest, now: datetime) -> datetime:
        """Return the end of an acknowledgement; without an explicit duration it never shortens an existing one."""
        until = now + (request.acknowledge_for or ACKNOWLEDGEMENT) - request.age
        alert = self._journal.state.alerts[request.alert]
        is_longer = alert.state is AlertState.ACKNOWLEDGED and request.acknowledge_for is None
        return max(until, alert.notify_at) if is_longer else until

    async def _async_settle_proposal(self, proposal: Propose) -> tuple[bool, str | None]:
        """Settle a proposal of the gateway once; return whether it was settled before, and its refusal code."""
        known = proposal.id in self._journal.state.proposals
        if not known:
            request = AnswerRequest(
                alert=proposal.alert,
                answer=proposal.answer,
                by=proposal.by,
                revision=proposal.revision,
                proposal=proposal.id,
                age=duration(proposal.age),
                acknowledge_for=duration(proposal.acknowledge_for) if proposal.acknowledge_for else None,
            )
            self._record_decision(request)
        try:
            await self._journal.async_flush()
        except RecordLogWriteError:
            return False, None  # the gateway gets the result with the record's transition, once that is on disk
        return known, self._journal.state.proposals[proposal.id]

    async def _async_flush(self) -> None:
        try:
            await self._journal.async_flush()
        except RecordLogWriteError as error:
            raise NotOnDiskError(str(error)) from error

    @callback
    def _on_durable(self, entries: Sequence[Entry[Record]]) -> None:
        for entry in entries:
            after = {alert.id: alert for alert in self._journal.alerts_after(entry.position)}
            for event in alert_events(entry.record):
                if alert := after.get(event.alert):
                    self._handle_change(AlertChange(kind=event.kind, alert=alert))
        self.gateway_sync.send_new_records()

    def _handle_change(self, change: AlertChange) -> None:
        """Apply the effects of a durable change: run the answer, clear notifications, send the signal."""
        alert = change.alert
        # Only now: actions must not run for an answer that a crash would undo.
        if change.kind in (TransitionKind.ANSWERED, TransitionKind.UNANSWERED):
            self._answer_runner.run(alert)
        if not alert.alive and change.kind in _CLEARS_NOTIFICATIONS:
            self._entry.async_create_background_task(
                self._hass, self._async_clear(alert.id), f"process_cosmos clear {alert.id}"
            )
        async_dispatcher_send(self._hass, SIGNAL_ALERT_CHANGED, change)

    async def _async_clear(self, alert: Ulid) -> None:
        """Remove the notification from all recipients it reached, including those no longer configured."""
        reached = self._journal.reached_recipients(alert)
        await self.sender.async_clear({*reached, *self._policy.people}, alert)

    async def _async_notify_people(self, alert: Alert, message: str) -> bool:
        people, tag = self._policy.people, f"{alert.id}-outcome"
        if self._recipient_issues.nobody_left and alert.id not in self._outcomes_shown:
            self._outcomes_shown.add(alert.id)  # show it once, so that it can be dismissed
            self.sender.show_in_home_assistant(message, tag)
        results = await self.sender.async_send_message(people, message, tag)
        return not people or any(result.handed_over for result in results.values())

    async def async_begin_backup(self) -> None:
        """Block compaction until ``end_backup``, and flush all records to disk if possible."""
        # Backups copy the file while it is in use; while it is only appended to, any copy is a valid log.
        await self._compacting.acquire()
        with contextlib.suppress(RecordLogWriteError):
            await self._journal.async_flush()

    def end_backup(self) -> None:
        """Allow compaction again; do nothing if no backup had begun, e.g. after a set-up in between."""
        if self._compacting.locked():
            self._compacting.release()

    async def _async_compact(self, _now: datetime | None = None) -> None:
        try:
            async with self._compacting:
                await self._journal.async_compact()
        except (OSError, RecordLogWriteError) as error:
            LOGGER.warning(
                "memory_not_compacted: old records could not be deleted (%s); the file stays larger; retried daily",
                error,
            )

    @callback
    def _on_write_error(self, reason: str | None) -> None:
        show_issue(self._hass, self._entry, Issue.MEMORY_NOT_WRITTEN, {"reason": reason} if reason else None)
