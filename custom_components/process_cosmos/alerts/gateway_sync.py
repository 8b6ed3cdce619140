"""Hands the memory's records over to the gateway, and takes its outcomes and proposals."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from datetime import datetime
from typing import Protocol

from homeassistant.config_entries import ConfigEntry
from homeassistant.core import CALLBACK_TYPE, HassJob, HomeAssistant, callback
from homeassistant.helpers.event import async_call_later

from custom_components.process_cosmos.alerts.durations import duration
from custom_components.process_cosmos.alerts.record_log import RecordLogWriteError
from custom_components.process_cosmos.contract.alerts import AlertSummary, CaughtUp, Notified, Propose
from custom_components.process_cosmos.contract.identifiers import NotificationKey, Position, Ulid, UlidRangeError
from custom_components.process_cosmos.contract.messages import FromHomeAssistant
from custom_components.process_cosmos.contract.session import GatewayHello, Problem, Receipt, Result
from custom_components.process_cosmos.gateway.client import GATEWAY_AWAY, GatewayAwayError, GatewayRefusedError

from .journal import Journal
from .merge import merge
from .model import Alert, after
from .records import Merged, PlannedRequests
from .transitions import transition

GATEWAY_AWAY_AFTER = 2.0
"""Seconds without a receipt after which destinations count as not reached."""

type Send = Callable[[FromHomeAssistant], Awaitable[None]]


class Timekeeper(Protocol):
    """Keeps the timetable: ``Scheduler``, or ``removal.NobodyTold`` for a site that is deleted."""

    def requests(self, alert: Alert) -> PlannedRequests:
        """Return what the gateway is to do for ``alert`` as it stands."""
        ...

    def learn(self, key: NotificationKey, *, reached: bool, at: datetime) -> None:
        """Record how the notification ``key`` ended."""
        ...

    def look(self, alert_id: Ulid) -> None:
        """Do what is due for one alert."""
        ...

    def look_at_all(self) -> None:
        """Do what is due: the gateway came or went."""
        ...


class GatewaySync:
    """The protocol's session: one at a time, a new one ends the old."""

    def __init__(
        self,
        hass: HomeAssistant,
        entry: ConfigEntry,
        journal: Journal,
        scheduler: Timekeeper,
        async_settle: Callable[[Propose], Awaitable[tuple[bool, str | None]]],
    ) -> None:
        """``async_settle`` settles a proposal and returns whether it was known already, and its code."""
        self._hass = hass
        self._entry = entry
        self._journal = journal
        self._async_settle = async_settle
        self._scheduler = scheduler
        self.away_since: datetime | None = journal.now()
        """Since when the gateway counts as away (or there is none); None while it is there."""
        self._silence: CALLBACK_TYPE | None = None
        self._send: Send | None = None
        self._sent: Position | None = None
        self._new_gateway = False
        self._news = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None

    async def async_session_opened(self, hello: GatewayHello, send: Send) -> None:
        """Send the log from the gateway's cursor, then ``CaughtUp``, then what is new. Raise a ``GatewayError``."""
        self.async_session_closed()
        self.async_mark_active()
        if hello.cursor:
            self._journal.confirm(hello.cursor, durably=True)
            if self._must_merge(hello.cursor, hello.summaries):
                self._merge(hello)
        try:
            await self._journal.async_on_disk()
        except RecordLogWriteError as error:
            raise GatewayAwayError(GATEWAY_AWAY, "The memory cannot be written, so nothing is sent") from error
        self._sent, self._new_gateway, self._send = hello.cursor, hello.cursor is None, send
        await self._send_news()
        await send(CaughtUp())
        self._new_gateway = False
        self._worker = self._entry.async_create_background_task(
            self._hass, self._send_until_lost(), "process_cosmos handover"
        )

    async def async_receive(self, message: Receipt | Notified | Propose) -> None:
        """Take what the gateway says about alerts."""
        self.async_mark_active()
        match message:
            case Receipt(position=Position() as position):
                self._journal.confirm(position)
            case Notified() if self._journal.is_alive(message.key.alert):
                at = self._journal.now() - duration(message.age)
                self._scheduler.learn(message.key, reached=message.reached, at=at)
                self._scheduler.look(message.key.alert)
            case Propose():
                await self._settle(message)

    @callback
    def async_session_closed(self) -> None:
        """Discard what is left in the session; the gateway counts as away 2 s after its last receipt."""
        self._send = None
        if self._worker:
            self._worker.cancel()
            self._worker = None

    @callback
    def async_stop(self) -> None:
        """End the session for good."""
        self.async_session_closed()
        if self._silence:
            self._silence()
            self._silence = None

    @callback
    def send_news(self) -> None:
        """Wake the pump: records reached the disk."""
        self._news.set()

    async def _settle(self, proposal: Propose) -> None:
        known, code = await self._async_settle(proposal)
        if known and self._send:
            problem = Problem(code=code, message=code) if code else None
            await self._send(Result(id=proposal.id, problem=problem))

    async def _send_until_lost(self) -> None:
        with contextlib.suppress(GatewayAwayError):  # the session's reader hears of it too
            while True:
                self._news.clear()
                await self._send_news()
                await self._news.wait()

    async def _send_news(self) -> None:
        while entries := self._journal.memory.durable_after(self._sent):
            for entry in entries:
                owed = self._journal.is_owed(entry, to_new=self._new_gateway)
                message = transition(entry, self._journal.after(entry.position), self._journal.now())
                if message and owed and self._send:
                    await self._send(message)
                self._sent = entry.position

    def _must_merge(self, cursor: Position, summaries: Iterable[AlertSummary]) -> bool:
        """Return whether the gateway has applied records that this memory lost, unless a merge is on its way to it.

        A known cursor alone proves nothing: the session that was to bring the merge may have ended right before it,
        and another backup, made before that session, may have been restored since.
        """
        memory, is_alive = self._journal.memory, self._journal.is_alive
        if any(entry.position > cursor and isinstance(entry.record, Merged) for entry in memory.entries):
            return False
        return not memory.knows(cursor) or any(
            not memory.knows(summary.position) and (summary.state.alive or is_alive(summary.alert))
            for summary in summaries
        )

    def _merge(self, hello: GatewayHello) -> None:
        """Make up with a gateway that has heard more than this memory holds, before anything is sent.

        The memory came out of a backup, or the gateway served another site of Home Assistant, which was deleted.
        """
        journal = self._journal
        if hello.cursor:
            try:
                journal.begin_after(hello.cursor.run)
            except UlidRangeError as error:
                raise GatewayRefusedError(error.code, f"The gateway has applied an impossible run: {error}") from error
        is_other = hello.entry not in (None, self._entry.entry_id)
        restored, reconciled = merge(journal.state, hello.summaries, journal.new_id, adopt=not is_other)
        bare = Merged(at=self._journal.now(), restored=restored, reconciled=reconciled, after=hello.cursor)
        requests = {
            alert.id: self._scheduler.requests(alert) if alert.alive else ()
            for alert in after(bare, journal.state.alerts)
        }
        changed = journal.record(
            replace(
                bare,
                restored=tuple(replace(one, requests=requests[one.alert]) for one in restored),
                reconciled=tuple(replace(one, requests=requests[one.alert]) for one in reconciled),
            )
        )
        for alert in changed:
            self._scheduler.look(alert.id)

    @callback
    def async_mark_active(self) -> None:
        """Note that the gateway lives: when it is heard, not when what it says has had its turn on a slow disk."""
        if self._silence:
            self._silence()
        job = HassJob(self._fell_silent, "process_cosmos gateway away", cancel_on_shutdown=True)
        self._silence = async_call_later(self._hass, GATEWAY_AWAY_AFTER, job)
        if self.away_since is not None:
            self.away_since = None
            self._scheduler.look_at_all()

    @callback
    def _fell_silent(self, _now: datetime) -> None:
        self._silence = None
        self.away_since = self._journal.now()
        self._scheduler.look_at_all()
