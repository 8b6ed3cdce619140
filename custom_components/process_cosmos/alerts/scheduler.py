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

from custom_components.process_cosmos.alerts.record_log import MemoryWriteError
from custom_components.process_cosmos.contract.alerts import EscalationState
from custom_components.process_cosmos.contract.identifiers import TellKey, Ulid
from custom_components.process_cosmos.issues.recipient_issues import RecipientIssues

from .journal import Journal
from .model import Escalation, after
from .notification_results import NotificationResult
from .notification_sender import Telling
from .policy import Policy
from .records import Acked, Asks, Moved, Opened, Rung, ToldRecord, Unanswered, Woke
from .timetable import Outcomes, Timetable, is_earlier, timetable


class Rounds:
    """Looks at an escalation whenever its timetable may say something new."""

    def __init__(
        self,
        hass: HomeAssistant,
        entry: ConfigEntry,
        journal: Journal,
        *,
        policy: Policy,
        telling: Telling,
        recipient_issues: RecipientIssues,
        gateway_away_since: Callable[[], datetime | None],
    ) -> None:
        """Take the parts; nothing is told before ``start``."""
        self._hass = hass
        self._entry = entry
        self._journal = journal
        self._policy = policy
        self._telling = telling
        self._recipient_issues = recipient_issues
        self._gateway_away_since = gateway_away_since
        self._timers: dict[Ulid, CALLBACK_TYPE] = {}
        self._telling_now: dict[TellKey, asyncio.Future[None]] = {}
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

    def with_asks[R: (Opened, Rung, Acked)](self, record: R) -> R:
        """Return ``record`` with the asks that hold after it."""
        (escalation,) = after(record, self._journal.state.escalations)
        return replace(record, asks=self.asks(escalation))

    def next_ring_at(self, escalation: Escalation, now: datetime) -> datetime:
        """Return when a ring called now is told; behind one that waits for Home Assistant's start it need not wait."""
        is_untold = not self._started and not self._journal.outcomes[escalation.id].tries
        return now if is_untold else escalation.next_ring_at(now)

    def asks(self, escalation: Escalation) -> Asks:
        """Return what the gateway is to do for ``escalation`` as it stands."""
        outcomes = deepcopy(self._journal.outcomes.get(escalation.id, Outcomes()))
        outcomes.follow(escalation.ring, escalation.walk_ring)
        return self._timetable(escalation, outcomes).asks

    @callback
    def look_at_all(self) -> None:
        """Look at everything alive."""
        for escalation in tuple(self._journal.state.alive.values()):
            self.look(escalation)

    @callback
    def look(self, escalation_id: Ulid) -> None:
        """Do what is due and set the timer for what comes next."""
        if cancel := self._timers.pop(escalation_id, None):
            cancel()
        now = self._journal.now()
        escalation = self._alive(escalation_id, now)
        if escalation is None or not self._started:
            return
        if escalation.state is EscalationState.ACKNOWLEDGED and now >= escalation.ring_at:
            (escalation,) = self._journal.record(Woke(escalation=escalation.id, event=self._journal.new_id(), at=now))
        table = self._timetable(escalation, self._journal.outcomes[escalation.id])
        if is_earlier(table.asks, escalation.asks):
            self._journal.record(Moved(escalation=escalation.id, event=self._journal.new_id(), at=now, asks=table.asks))
        if table.look_at:
            self._timers[escalation.id] = async_call_later(
                self._hass, table.look_at - now, partial(self._look_when_due, escalation_id)
            )
        if escalation.state is EscalationState.OPEN and now >= escalation.ring_at:
            self._show_if_nobody_is_left(escalation)
        # Marked before the first one starts: a tell starts eagerly, and looks again when it ends.
        due = [key for key in table.tells if key not in self._telling_now]
        self._results.setdefault(escalation_id, {})
        self._telling_now.update({key: self._hass.loop.create_future() for key in due})
        for key in due:
            self._entry.async_create_background_task(self._hass, self._async_tell(key), f"process_cosmos tell {key}")

    def _alive(self, escalation_id: Ulid, now: datetime) -> Escalation | None:
        """Return the escalation if it is alive, else forget it; one whose time is over becomes unanswered."""
        escalation = self._journal.state.escalations.get(escalation_id)
        if escalation and escalation.alive and now >= escalation.until:
            unanswered = Unanswered(escalation=escalation.id, event=self._journal.new_id(), at=now)
            (escalation,) = self._journal.record(unanswered)
        if escalation and escalation.alive:
            return escalation
        if not self._on_their_way(escalation_id):
            self._results.pop(escalation_id, None)
        self._shown_here.pop(escalation_id, None)
        return None

    @callback
    def _look_when_due(self, escalation_id: Ulid, _now: datetime) -> None:
        self.look(escalation_id)

    def _timetable(self, escalation: Escalation, outcomes: Outcomes) -> Timetable:
        return timetable(self._policy, escalation, outcomes, self._journal.now(), self._gateway_away_since())

    async def _async_tell(self, key: TellKey) -> None:
        """Tell once the ring is on disk, or cannot be: a full disk silences nobody."""
        try:
            with contextlib.suppress(MemoryWriteError):
                await self._journal.async_on_disk()
            escalation = self._journal.state.escalations[key.escalation]
            if escalation.alive and (escalation.ring == key.ring or self._is_put_off(escalation, key)):
                result = await self._telling.async_tell(key.recipient, escalation)
                self._results[key.escalation][key.recipient] = result
                self.learn(key, reached=result.handed_over, at=self._journal.now())
                await self._take_back(key)
        finally:
            self._telling_now.pop(key).set_result(None)
        self.look(key.escalation)

    async def async_results(self, escalation_id: Ulid) -> Mapping[str, NotificationResult]:
        """Return by recipient how notifying went so far, once the notifications on their way have ended."""
        results = self._results.get(escalation_id, {})  # held here: the last one to end may drop it
        if on_their_way := self._on_their_way(escalation_id):
            await asyncio.wait(on_their_way)
        return results

    def _on_their_way(self, escalation_id: Ulid) -> list[asyncio.Future[None]]:
        return [ended for key, ended in self._telling_now.items() if key.escalation == escalation_id]

    def _show_if_nobody_is_left(self, escalation: Escalation) -> None:
        """Show the alert in Home Assistant where there is nobody to notify, each ring once: a person may dismiss it."""
        if self._shown_here.get(escalation.id) != escalation.ring and self._recipient_issues.nobody_left:
            self._shown_here[escalation.id] = escalation.ring
            self._telling.show_here(escalation.content.message, escalation.id)

    def _is_put_off(self, escalation: Escalation, key: TellKey) -> bool:
        """Say whether new content overtook the tell ``key`` and has to wait: then the tell carries it."""
        return (
            escalation.state is EscalationState.OPEN
            and escalation.walk_ring <= key.ring
            and escalation.ring_at > self._journal.now()
        )

    async def _take_back(self, key: TellKey) -> None:
        """Take away what arrived after the escalation was closed."""
        escalation = self._journal.state.escalations[key.escalation]
        if not escalation.alive and escalation.state is not EscalationState.UNANSWERED:
            await self._telling.async_clear([key.recipient], escalation.id)

    @callback
    def learn(self, key: TellKey, *, reached: bool, at: datetime) -> None:
        """Record how a tell ended, unless that is on record; a further failure only puts the next try off."""
        outcomes = self._journal.outcomes.get(key.escalation)
        if outcomes is None:
            return
        if outcomes.knows(key, reached=reached):
            outcomes.learn(key, reached=reached, at=at)
        else:
            self._journal.record(ToldRecord(key=key, reached=reached, at=at))
