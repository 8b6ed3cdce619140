"""Synchronisation with the gateway: sends records, receives notification outcomes and proposals."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace

from homeassistant.config_entries import ConfigEntry
from homeassistant.core import HomeAssistant, callback

from custom_components.process_cosmos.alerts.record_log import RecordLogWriteError
from custom_components.process_cosmos.alerts.safe_duration import duration
from custom_components.process_cosmos.contract.alerts import AlertSummary, CaughtUp, Notified, Propose
from custom_components.process_cosmos.contract.identifiers import Position, UlidRangeError
from custom_components.process_cosmos.contract.messages import FromHomeAssistant
from custom_components.process_cosmos.contract.session import Committed, GatewayHello, Heartbeat, Problem, Result
from custom_components.process_cosmos.gateway.client import GATEWAY_AWAY, GatewayAwayError, GatewayRefusedError

from .gateway_presence import GatewayPresence
from .journal import Journal
from .merge import merge
from .model import alerts_after
from .records import Merged
from .scheduler import Scheduler
from .transitions import transition

type Send = Callable[[FromHomeAssistant], Awaitable[None]]


@dataclass(eq=False, repr=False)
class GatewaySync:
    """Alert part of the gateway session. One session exists at a time; a new one ends the old.

    ``async_settle`` settles a proposal and returns whether it was settled before, and its refusal code.
    """

    hass: HomeAssistant
    entry: ConfigEntry
    journal: Journal
    scheduler: Scheduler
    presence: GatewayPresence
    async_settle: Callable[[Propose], Awaitable[tuple[bool, str | None]]]
    _send: Send | None = field(init=False, default=None)
    _sent: Position | None = field(init=False, default=None)
    _new_gateway: bool = field(init=False, default=False)
    _new_records: asyncio.Event = field(init=False, default_factory=asyncio.Event)
    _worker: asyncio.Task[None] | None = field(init=False, default=None)

    async def async_session_opened(self, hello: GatewayHello, send: Send) -> None:
        """Send the records after the gateway's cursor, then ``CaughtUp``, then new records as they become durable.

        Raises a ``GatewayError``.
        """
        self.async_session_closed()
        self.presence.async_mark_active()
        if hello.cursor:
            self.journal.confirm(hello.cursor, durably=True)
            if self._must_merge(hello.cursor, hello.summaries):
                self._merge(hello)
        # A merge must be on disk before anything is sent, because records before it may contradict the gateway's state.
        try:
            await self.journal.async_flush()
        except RecordLogWriteError as error:
            raise GatewayAwayError(GATEWAY_AWAY, "Alerts cannot be saved, so none is sent to the app") from error
        self._sent, self._new_gateway, self._send = hello.cursor, hello.cursor is None, send
        await self._send_records()
        await send(CaughtUp())
        self._new_gateway = False
        self._worker = self.entry.async_create_background_task(
            self.hass, self._send_until_disconnected(), "process_cosmos gateway sync"
        )

    async def async_receive(self, message: Heartbeat | Committed | Notified | Propose) -> None:
        """Process a commit, a notification outcome or a proposal of the gateway."""
        self.presence.async_mark_active()
        match message:
            case Committed(position=position):
                self.journal.confirm(position)
                if self._sent and position < self._sent:
                    self.presence.async_expect_answer()
            case Notified() if self.journal.is_alive(message.key.alert):
                at = self.journal.now() - duration(message.age)
                self.scheduler.record_outcome(message.key, reached=message.reached, at=at)
                self.scheduler.process(message.key.alert)
            case Propose():
                await self._settle(message)

    @callback
    def async_session_closed(self) -> None:
        """End the session and drop what was not sent; soon the gateway counts as away."""
        self.presence.async_session_closed()
        self._send = None
        if self._worker:
            self._worker.cancel()
            self._worker = None

    @callback
    def async_stop(self) -> None:
        """End the session and stop watching for the gateway."""
        self.async_session_closed()
        self.presence.async_stop()

    @callback
    def send_new_records(self) -> None:
        """Wake the sending task after records reached the disk."""
        self._new_records.set()

    async def _settle(self, proposal: Propose) -> None:
        known, code = await self.async_settle(proposal)
        # A first decision has a record of its own, whose transition carries the result.
        if known and self._send:
            problem = Problem(code=code, message=code) if code else None
            await self._send(Result(id=proposal.id, problem=problem))

    async def _send_until_disconnected(self) -> None:
        with contextlib.suppress(GatewayAwayError):  # the task that reads the session handles it
            while True:
                # Cleared first: a record that becomes durable while others are sent must wake this task again.
                self._new_records.clear()
                await self._send_records()
                await self._new_records.wait()

    async def _send_records(self) -> None:
        while entries := self.journal.record_log.durable_after(self._sent):
            for entry in entries:
                must_send = self.journal.must_send(entry, to_new_gateway=self._new_gateway)
                message = transition(entry, self.journal.alerts_after(entry.position), self.journal.now())
                if message and must_send and self._send:
                    self.presence.async_expect_answer()
                    await self._send(message)
                self._sent = entry.position

    def _must_merge(self, cursor: Position, summaries: Iterable[AlertSummary]) -> bool:
        """Return whether the gateway has applied records that this log lost, unless a merge is yet to be sent to it.

        A known cursor alone proves nothing: the session that was to send the merge may have ended right before it,
        and another backup, made before that session, may have been restored since.
        """
        record_log, is_alive = self.journal.record_log, self.journal.is_alive
        if any(entry.position > cursor and isinstance(entry.record, Merged) for entry in record_log.entries):
            return False
        return not record_log.has_assigned(cursor) or any(
            not record_log.has_assigned(summary.position) and (summary.state.alive or is_alive(summary.alert))
            for summary in summaries
        )

    def _merge(self, hello: GatewayHello) -> None:
        """Merge with the state of a gateway that has applied more than this log holds, before anything is sent.

        The log was restored from a backup, or the gateway served another config entry, which was deleted.
        """
        journal = self.journal
        if hello.cursor:
            try:
                journal.begin_run_after(hello.cursor.run)
            except UlidRangeError as error:
                raise GatewayRefusedError(error.code, f"The gateway has applied an impossible run: {error}") from error
        is_other = hello.entry not in (None, self.entry.entry_id)
        restored, reconciled = merge(journal.state, hello.summaries, journal.new_id, adopt=not is_other)
        bare = Merged(at=self.journal.now(), restored=restored, reconciled=reconciled, after=hello.cursor)
        requests = {
            alert.id: self.scheduler.planned_requests(alert) if alert.alive else ()
            for alert in alerts_after(bare, journal.state.alerts)
        }
        changed = journal.record(
            replace(
                bare,
                restored=tuple(replace(one, requests=requests[one.alert]) for one in restored),
                reconciled=tuple(replace(one, requests=requests[one.alert]) for one in reconciled),
            )
        )
        for alert in changed:
            self.scheduler.process(alert.id)
