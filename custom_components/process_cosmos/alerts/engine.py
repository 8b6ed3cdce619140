"""The alerts of one site: the actions, and what follows from each record once it is on disk."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from homeassistant.config_entries import ConfigEntry
from homeassistant.const import EVENT_HOMEASSISTANT_STOP
from homeassistant.core import CALLBACK_TYPE, Event, HomeAssistant, callback
from homeassistant.exceptions import ConfigEntryError, ConfigEntryNotReady
from homeassistant.helpers.event import async_track_time_interval
from homeassistant.helpers.start import async_at_started

from custom_components.process_cosmos.alerts.durations import duration
from custom_components.process_cosmos.alerts.record_log import Entry, RecordLogTooNewError, RecordLogWriteError
from custom_components.process_cosmos.const import CONF_HAS_LOG, DOMAIN, LOGGER
from custom_components.process_cosmos.contract.alerts import AlertState, Propose, TransitionKind
from custom_components.process_cosmos.contract.errors import Code
from custom_components.process_cosmos.contract.identifiers import Ulid
from custom_components.process_cosmos.issues.recipient_issues import RecipientIssues
from custom_components.process_cosmos.issues.site_issues import Issue, clear_issues, create_issue

from .answers import Answers
from .calls import AlertRequest, RaisedAlert
from .decisions import ACKNOWLEDGED_FOR, AnswerRequest, Refusal, refusal, right_to
from .errors import AlertRefusedError, NotOnDiskError
from .gateway_sync import GatewaySync
from .journal import Journal
from .model import Alert
from .notification_results import NotificationResult
from .notification_sender import NotificationSender
from .recipient_selection import policy_of
from .records import Acknowledged, Answered, Opened, Record, Recurred, Refused, Resolved, Updated
from .scheduler import Scheduler
from .transitions import kinds_of

COMPACT_EVERY = timedelta(days=1)

_NEEDS_RIGHT_TO_ANSWER = frozenset({"answers", "attach", "data", "give_up_after", "if_unanswered", "policy"})
"""Fields of a call that could disarm the open alert of its group."""

_TAKEN_AWAY = (TransitionKind.ANSWERED, TransitionKind.RESOLVED, TransitionKind.RECONCILED)
"""What takes the notifications away; one that nobody answered stays to be seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertChange:
    """What listeners hear of: on disk, and what it made of the alert."""

    kind: TransitionKind
    alert: Alert


type Listener = Callable[[AlertChange], None]


class Alerts:
    """Tells until somebody answers; needs neither a gateway nor a network."""

    def __init__(self, hass: HomeAssistant, entry: ConfigEntry) -> None:
        """Build the parts. The memory is read by ``async_start``, or by ``async_withdraw_notifications`` for a deleted site."""
        self._hass = hass
        self._entry = entry
        self._policy = policy_of(hass, entry.options)
        self._listeners: list[Listener] = []
        self._cancels: list[CALLBACK_TYPE] = []
        self._compacting = asyncio.Lock()
        self._outcomes_shown: set[Ulid] = set()
        """Alerts whose outcome was shown in Home Assistant, because nobody was left to notify."""
        self._journal = Journal(hass, entry, self._on_disk, self._on_trouble)
        self._recipient_issues = RecipientIssues(hass, entry, self._policy.people, self._journal.now)
        self.sender = NotificationSender(hass, entry.title, self._recipient_issues.learn)
        self._scheduler = Scheduler(
            hass,
            entry,
            self._journal,
            policy=self._policy,
            sender=self.sender,
            recipient_issues=self._recipient_issues,
            gateway_away_since=lambda: self.gateway_sync.away_since,
        )
        self.gateway_sync = GatewaySync(hass, entry, self._journal, self._scheduler, self._async_settle)
        self._answers = Answers(hass, entry, self._journal, self._async_notify_people)

    @property
    def nobody_left(self) -> bool:
        """Whether none of those chosen can be found, or nobody is chosen."""
        return self._recipient_issues.nobody_left

    async def async_results(self, alert: Ulid) -> Mapping[str, NotificationResult | None]:
        """Return how notifying each recipient of ``alert`` went, by recipient; None: not tried yet."""
        results = await self._scheduler.async_results(alert)
        return {recipient: results.get(recipient) for recipient in self._policy.people}

    @property
    def run(self) -> Ulid:
        """The id of the memory's current run, which the gateway's session names; known after ``async_start``."""
        return self._journal.run

    @property
    def alive(self) -> tuple[Alert, ...]:
        """All open and acknowledged alerts, oldest first."""
        state = self._journal.state
        return tuple(state.alerts[one] for one in sorted(state.alive.values()))

    def get(self, alert_id: str) -> Alert | None:
        """Return one of the alerts still remembered."""
        return self._journal.state.alerts.get(Ulid(alert_id))

    def alive_of(self, group: str) -> Alert | None:
        """Return the alive alert of a group."""
        return self._journal.state.alive_of(group)

    async def async_start(self) -> None:
        """Read the memory and go on where it ends. Raise Home Assistant's errors of a set-up."""
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
        if damaged := self._journal.memory.damaged:
            create_issue(self._hass, self._entry, Issue.MEMORY_DAMAGED, bytes=str(damaged))
        if self._journal.is_lost:
            LOGGER.error(
                "memory_lost: the records of %s are missing or empty: earlier alerts are lost", self._entry.title
            )
            create_issue(self._hass, self._entry, Issue.MEMORY_LOST)
        if not self._entry.data.get(CONF_HAS_LOG) and not self._journal.memory.queued:
            self._hass.config_entries.async_update_entry(self._entry, data={**self._entry.data, CONF_HAS_LOG: True})
        await self._async_compact()
        self._answers.resume()
        self._cancels = [
            async_at_started(self._hass, self._begin_to_tell),
            self._hass.bus.async_listen_once(EVENT_HOMEASSISTANT_STOP, self._stop_telling),
            async_track_time_interval(self._hass, self._async_compact, COMPACT_EVERY, cancel_on_shutdown=True),
        ]

    async def async_stop(self) -> None:
        """Stop telling; what is alive stays in the memory."""
        for cancel in self._cancels:
            cancel()
        self._scheduler.stop()
        self.gateway_sync.async_stop()
        await self._journal.async_close()

    async def async_withdraw_notifications(self) -> None:
        """Take the notifications of what is alive away from the phones, of a site that is not loaded."""
        with contextlib.suppress(RecordLogTooNewError, OSError):
            await self._journal.memory.async_load()
            self._journal.read()
            await asyncio.gather(*(self._async_clear(alert.id) for alert in self.alive))

    async def async_remove(self) -> None:
        """Delete the memory."""
        await self._journal.async_remove()

    @callback
    def async_listen(self, listener: Listener) -> CALLBACK_TYPE:
        """Call ``listener`` with each change that reached the disk; return how to stop that."""
        self._listeners.append(listener)

        @callback
        def remove() -> None:
            self._listeners.remove(listener)

        return remove

    async def async_raise_alert(self, call: AlertRequest) -> RaisedAlert:
        """Open an alert, or ring or count the alive one of the group. Return when it is on disk.

        Raises ``NotOnDiskError`` while people are told from RAM.
        """
        now = self._journal.now()
        alive = self._journal.state.alive_of(call.group) if call.group else None
        if alive:  # what is due is due before this call, and what has run out swallows none
            self._scheduler.look(alive.id)
            alive = self._journal.state.alive_of(alive.group)
        content = call.content
        ignored: tuple[str, ...] = ()
        adds_only = alive is not None and not call.allowed(alive)
        if alive and adds_only:
            content = alive.content_with(call.content)
            ignored = tuple(sorted(call.given & _NEEDS_RIGHT_TO_ANSWER))
        if alive is None:
            new_id = self._journal.new_id()
            group = call.group or new_id
            opened = Opened(alert=new_id, event=self._journal.new_id(), at=now, group=group, content=content)
            (alert,) = self._journal.record(self._scheduler.with_requests(opened))
            self._answers.overtake(alert)
        elif alive.brings_news(content):
            rung = Updated(
                alert=alive.id,
                event=self._journal.new_id(),
                at=now,
                content=content,
                notify_at=self._scheduler.next_notification_at(alive, now),
                adds_only=adds_only,
            )
            (alert,) = self._journal.record(self._scheduler.with_requests(rung))
        else:
            (alert,) = self._journal.record(Recurred(alert=alive.id, at=now))
        self._scheduler.look(alert.id)
        await self._async_on_disk()
        return RaisedAlert(id=alert.id, state=alert.state, new=alive is None, revision=alert.revision, ignored=ignored)

    async def async_answer(self, attempt: AnswerRequest) -> None:
        """Close an alert with an answer, whose actions then run; without one silence it for a while.

        Raises ``AlertRefusedError`` or ``NotOnDiskError``.
        """
        refused = self._decide(attempt)
        await self._async_on_disk()  # also a refusal names what must be on disk: the winner
        if refused:
            raise AlertRefusedError(refused.code, **refused.placeholders)

    async def async_resolve(
        self, alert_id: Ulid, *, by: str, note: str | None, allowed: Callable[[Alert], bool]
    ) -> None:
        """Close an alert without an answer; one that is closed stays as it is. Raise as ``async_answer``."""
        alert = self._journal.state.alerts.get(alert_id)
        if alert is None:
            raise AlertRefusedError(Code.UNKNOWN_ALERT, alert=alert_id)
        if not allowed(alert):
            raise AlertRefusedError(Code.NOT_ALLOWED, needed=right_to(alert))
        if alert.alive:
            event = self._journal.new_id()
            self._journal.record(Resolved(alert=alert_id, event=event, at=self._journal.now(), by=by, note=note))
            self._scheduler.look(alert_id)
        await self._async_on_disk()

    def _decide(self, attempt: AnswerRequest) -> Refusal | None:
        """Decide with what memory holds, queued records included: the first wins."""
        refused = refusal(self._journal.state, attempt)
        now = self._journal.now()
        if refused:
            if attempt.proposal is not None:
                self._journal.record(Refused(alert=attempt.alert, at=now, proposal=attempt.proposal, code=refused.code))
            return refused
        event = self._journal.new_id()
        if attempt.answer is None:
            acked = Acknowledged(
                alert=attempt.alert,
                event=event,
                at=now,
                notify_at=self._silent_until(attempt, now),
                by=attempt.by,
                proposal=attempt.proposal,
            )
            self._journal.record(self._scheduler.with_requests(acked))
        else:
            self._journal.record(
                Answered(
                    alert=attempt.alert,
                    event=event,
                    at=now,
                    answer=attempt.answer,
                    by=attempt.by,
                    note=attempt.note,
                    proposal=attempt.proposal,
                )
            )
        self._scheduler.look(attempt.alert)
        return None

    def _silent_until(self, attempt: AnswerRequest, now: datetime) -> datetime:
        """Return the end of an acknowledgement: one that says for how long sets it, another shortens none."""
        until = now + (attempt.acknowledge_for or ACKNOWLEDGED_FOR) - attempt.age
        alert = self._journal.state.alerts[attempt.alert]
        is_longer = alert.state is AlertState.ACKNOWLEDGED and attempt.acknowledge_for is None
        return max(until, alert.notify_at) if is_longer else until

    async def _async_settle(self, proposal: Propose) -> tuple[bool, str | None]:
        """Decide on a proposal of the gateway, once; return whether it was known already, and its code."""
        known = proposal.id in self._journal.state.proposals
        if not known:
            attempt = AnswerRequest(
                alert=proposal.alert,
                answer=proposal.answer,
                by=proposal.by,
                revision=proposal.revision,
                proposal=proposal.id,
                age=duration(proposal.age),
                acknowledge_for=duration(proposal.acknowledge_for) if proposal.acknowledge_for else None,
            )
            self._decide(attempt)
        try:
            await self._journal.async_on_disk()
        except RecordLogWriteError:
            return False, None  # the record's transition settles it once it is on disk
        return known, self._journal.state.proposals[proposal.id]

    async def _async_on_disk(self) -> None:
        try:
            await self._journal.async_on_disk()
        except RecordLogWriteError as error:
            raise NotOnDiskError(str(error)) from error

    @callback
    def _on_disk(self, entries: Sequence[Entry[Record]]) -> None:
        for entry in entries:
            after = {alert.id: alert for alert in self._journal.after(entry.position)}
            for alert_id, kind in kinds_of(entry.record).items():
                if alert := after.get(alert_id):
                    self._follow(AlertChange(kind=kind, alert=alert))
        self.gateway_sync.send_news()

    def _follow(self, change: AlertChange) -> None:
        """Do what follows from a record on disk: run the answer, clear the phones, tell the listeners."""
        alert = change.alert
        if change.kind in (TransitionKind.ANSWERED, TransitionKind.UNANSWERED):
            self._answers.run(alert)
        if not alert.alive and change.kind in _TAKEN_AWAY:
            self._entry.async_create_background_task(
                self._hass, self._async_clear(alert.id), f"process_cosmos clear {alert.id}"
            )
        for listener in tuple(self._listeners):
            listener(change)

    async def _async_clear(self, alert: Ulid) -> None:
        """Take the notification from all who were told, also from those who are no longer chosen."""
        told = self._journal.told(alert)
        await self.sender.async_clear({*told, *self._policy.people}, alert)

    async def _async_notify_people(self, alert: Alert, message: str) -> bool:
        people, tag = self._policy.people, f"{alert.id}-outcome"
        if self._recipient_issues.nobody_left and alert.id not in self._outcomes_shown:
            self._outcomes_shown.add(alert.id)  # once: a person may dismiss it
            self.sender.show_in_home_assistant(message, tag)
        results = await self.sender.async_send_message(people, message, tag)
        return not people or any(result.handed_over for result in results.values())

    @callback
    def _begin_to_tell(self, _hass: HomeAssistant) -> None:
        self._scheduler.start()

    @callback
    def _stop_telling(self, _event: Event) -> None:
        self._scheduler.stop()

    async def async_begin_backup(self) -> None:
        """Write no file anew from now on, and have on disk what was recorded so far, if the disk takes it."""
        await self._compacting.acquire()
        with contextlib.suppress(RecordLogWriteError):
            await self._journal.async_on_disk()

    def end_backup(self) -> None:
        """Go on as before; a site that was set up meanwhile does so anyhow."""
        if self._compacting.locked():
            self._compacting.release()

    async def _async_compact(self, _now: datetime | None = None) -> None:
        try:
            async with self._compacting:
                await self._journal.async_forget_what_is_old()
        except (OSError, RecordLogWriteError) as error:
            LOGGER.warning("memory_not_compacted: %s", error)

    @callback
    def _on_trouble(self, reason: str | None) -> None:
        if reason is None:
            clear_issues(self._hass, self._entry, Issue.MEMORY_NOT_WRITTEN)
        else:
            create_issue(self._hass, self._entry, Issue.MEMORY_NOT_WRITTEN, reason=reason)
