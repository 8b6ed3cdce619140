"""The alerts' records: decided on in RAM, known to be on disk, kept as long as somebody needs them."""

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from homeassistant.config_entries import ConfigEntry
from homeassistant.const import CONF_URL
from homeassistant.core import HomeAssistant
from homeassistant.util import dt as dt_util
from homeassistant.util.hass_dict import HassKey

from custom_components.process_cosmos.alerts.record_log import RETRY_AFTER, Entry, Memory, RecordLogWriteError
from custom_components.process_cosmos.const import CONF_HAS_LOG, DOMAIN
from custom_components.process_cosmos.contract.identifiers import Position, Ulid, UlidFactory, milliseconds_of

from .model import Alert, State
from .records import (
    RECORDS,
    Confirmed,
    Merged,
    NotifiedRecord,
    Record,
    Recurred,
    Refused,
    Start,
    alerts_of,
    events_of,
    proposal_of,
)
from .steady_clock import SteadyClock
from .timetable import Outcomes
from .transitions import kinds_of

KEEP_CLOSED_FOR = timedelta(days=30)
_LEFT_OVER: HassKey[dict[str, Sequence[Entry[Record]]]] = HassKey(f"{DOMAIN}_left_over")
"""What could not be written before a site was unloaded, by its entry."""


class Journal:
    """One memory of alerts with what it says. Decisions use ``state``, which knows queued records too."""

    def __init__(
        self,
        hass: HomeAssistant,
        entry: ConfigEntry,
        on_durable: Callable[[Sequence[Entry[Record]]], None],
        on_trouble: Callable[[str | None], None],
    ) -> None:
        """Take what to call with records that reached the disk, and with the disk's troubles."""
        self.state = State()
        self.outcomes: dict[Ulid, Outcomes] = {}
        self.has_gateway = entry.data.get(CONF_URL) is not None
        self.run = Ulid("")
        self._clock = SteadyClock(dt_util.utcnow, time.monotonic)
        self._gateway_runs: set[Ulid] = set()
        self._confirmed: Position | None = None
        self._after: dict[Position, tuple[Alert, ...]] = {}
        self._was_closed: dict[Ulid, tuple[Position, Position]] = {}
        """Alerts that a merge found closed, and the positions between which this memory did not know it."""
        path = Path(hass.config.path(".storage", f"{DOMAIN}.{entry.entry_id}.memory"))
        self._left_over = hass.data.setdefault(_LEFT_OVER, {})
        self._entry_id = entry.entry_id
        self._had_log = bool(entry.data.get(CONF_HAS_LOG)) and entry.entry_id not in self._left_over
        self.is_lost = False
        """Whether there was a log before and nothing is left of it."""
        self.memory: Memory[Record] = Memory(
            path, RECORDS, hass.async_add_executor_job, on_durable=on_durable, on_trouble=on_trouble
        )

    async def async_open(self) -> None:
        """Read the memory and begin a run, in RAM if the disk refuses. Raise ``RecordLogTooNewError`` or ``OSError``."""
        await self.memory.async_load()
        self.is_lost = self.memory.is_empty or (self.memory.is_new and self._had_log)
        self.memory.adopt(self._left_over.pop(self._entry_id, ()))
        self.read()
        born = (event for entry in self.memory.entries for event in events_of(entry.record))
        made = (*self.memory.runs, *born)
        self.new_id = _new_ids(milliseconds_of(max(made)) if made else None)
        for entry in self.memory.entries:
            if not isinstance(entry.record, Confirmed):
                self._clock.not_before(entry.record.at)
        self.begin()
        with contextlib.suppress(RecordLogWriteError):
            await self.memory.async_durable()

    def read(self) -> None:
        """Take in what the memory holds."""
        for entry in self.memory.entries:
            self._take_in(entry.position, entry.record)

    def told(self, alert: Ulid) -> set[str]:
        """Return whom ``alert`` has reached."""
        records = (entry.record for entry in self.memory.entries)
        return {
            record.key.recipient
            for record in records
            if isinstance(record, NotifiedRecord) and record.reached and record.key.alert == alert
        }

    async def async_close(self) -> None:
        """Write what is queued; what the disk refuses waits for the site's next set-up."""
        await self.memory.async_close()
        if self.memory.queued:
            self._left_over[self._entry_id] = self.memory.queued

    async def async_remove(self) -> None:
        """Delete the memory."""
        self._left_over.pop(self._entry_id, None)
        await self.memory.async_remove()

    def now(self) -> datetime:
        """Return the time, which does not jump while an alert is alive."""
        if not self.state.alive:
            self._clock.trust_the_wall()
        return self._clock.now()

    def begin(self) -> None:
        """Begin a run: positions that no gateway has seen."""
        self.run = self.new_id()
        start = Start(at=self.now(), gateway=self.has_gateway)
        self._take_in(self.memory.begin(self.run, start), start)

    def begin_after(self, run: Ulid) -> None:
        """Begin a run that is newer than ``run``, whatever this machine's clock says; raise ``UlidRangeError``."""
        if run > self.run:
            new_id = _new_ids(max(milliseconds_of(run), milliseconds_of(self.new_id())))
            new_id()  # raises before anything has changed
            self.new_id = new_id
            self.begin()

    def record(self, record: Record) -> tuple[Alert, ...]:
        """Queue ``record`` and return the alerts it changed."""
        return self._take_in(self.memory.append(record), record)

    async def async_on_disk(self) -> None:
        """Return once everything recorded so far is on disk; raise ``RecordLogWriteError`` if the disk refuses."""
        await self.memory.async_durable()

    async def async_until_on_disk(self) -> None:
        """Return once everything recorded so far is on disk, however long the disk refuses."""
        while True:
            with contextlib.suppress(RecordLogWriteError):
                return await self.memory.async_durable()
            await asyncio.sleep(RETRY_AFTER)

    def after(self, position: Position) -> tuple[Alert, ...]:
        """Return the alerts the record at ``position`` changed, as they were after it."""
        return self._after.get(position, ())

    def is_alive(self, alert: Ulid) -> bool:
        """Say whether this alert is known and alive."""
        known = self.state.alerts.get(alert)
        return known is not None and known.alive

    def confirm(self, position: Position, *, durably: bool = False) -> None:
        """Take in that the gateway has applied everything up to ``position``."""
        if self.memory.knows(position) and (self._confirmed is None or position > self._confirmed):
            self._confirmed = position
            if durably:
                self.record(Confirmed(position=position))

    def is_owed(self, entry: Entry[Record], *, to_new: bool) -> bool:
        """Say whether the gateway gets ``entry``: its alert is alive, or it was meant for a gateway.

        ``to_new``: to one that knows nothing yet; it gets nothing closed that another has applied.
        """
        if kinds_of(entry.record) and any(self._was_closed_at(one, entry.position) for one in alerts_of(entry.record)):
            return False  # to a gateway out of a backup it would be news, told after the end
        applied = self._confirmed is not None and entry.position <= self._confirmed
        meant = entry.position.run in self._gateway_runs and not (to_new and applied)
        return meant or any(self.is_alive(one) for one in alerts_of(entry.record))

    def _was_closed_at(self, alert: Ulid, position: Position) -> bool:
        after, merged = self._was_closed.get(alert, (position, position))
        return after < position < merged

    async def async_forget_what_is_old(self) -> None:
        """Write the memory anew without what nobody needs, if that is a quarter of it or more."""
        if self._confirmed:
            self.record(Confirmed(position=self._confirmed))
            await self.memory.async_durable()
        kept, forgotten = self._sort_out(self.now())
        if len(kept) * 4 > len(self.memory.entries) * 3:
            return
        await self.memory.async_compact(kept)
        for alert in forgotten:
            self.state.forget(alert)
            self.outcomes.pop(alert, None)
        self.state.proposals = {
            proposal: self.state.proposals[proposal]
            for entry in self.memory.entries
            if (proposal := proposal_of(entry.record)) is not None
        }
        positions = {entry.position for entry in self.memory.entries}
        self._after = {position: after for position, after in self._after.items() if position in positions}

    def _sort_out(self, now: datetime) -> tuple[Sequence[Entry[Record]], set[Ulid]]:
        """Return what is kept (alive, closed in the last 30 days, unconfirmed), and the alerts that are not."""
        oldest = now - KEEP_CLOSED_FOR
        known = self.state.alerts.values()
        needed = {one.id for one in known if one.closed_at is None or one.closed_at > oldest}
        for entry in self.memory.entries:
            unconfirmed = self._confirmed is None or entry.position > self._confirmed
            if unconfirmed and entry.position.run in self._gateway_runs:
                needed.update(alerts_of(entry.record))
        kept = [entry for entry in self.memory.entries if self._is_kept(entry.record, needed, oldest)]
        queued = {entry.position for entry in self.memory.queued}
        return _without_starts(_folded(kept, queued), self.run), set(self.state.alerts) - needed

    def _is_kept(self, record: Record, needed: set[Ulid], oldest: datetime) -> bool:
        match record:
            case Start():
                return True
            case Confirmed():
                return record.position == self._confirmed
            case Refused():
                return record.at > oldest
            case _:
                return not needed.isdisjoint(alerts_of(record))

    def _take_in(self, position: Position, record: Record) -> tuple[Alert, ...]:
        changed = self.state.fold(record)
        if kinds_of(record):  # somebody will be told of it
            self._after[position] = changed
        for alert in changed:
            outcomes = self.outcomes.setdefault(alert.id, Outcomes())
            outcomes.follow(alert.revision, alert.cycle_revision)
        match record:
            case NotifiedRecord(key=key) if key.alert in self.outcomes:
                self.outcomes[key.alert].learn(key, reached=record.reached, at=record.at)
            case Start() if record.gateway:
                self._gateway_runs.add(position.run)
            case Confirmed():
                self._confirmed = record.position
            case Merged(after=Position() as after):
                closed = (one.alert for one in record.reconciled if not one.state.alive)
                self._was_closed |= dict.fromkeys(closed, (after, position))
        return changed


def _new_ids(last: int | None) -> UlidFactory:
    return UlidFactory(lambda: int(dt_util.utcnow().timestamp() * 1000), secrets.token_bytes, last)


def _folded(entries: Sequence[Entry[Record]], queued: set[Position]) -> Sequence[Entry[Record]]:
    """Return ``entries`` with each row of recurrences of an alert as its newest, unless that is still queued."""
    folded: dict[Position, Entry[Record]] = {}
    newest: dict[Ulid, Entry[Recurred]] = {}
    for entry in entries:
        record = entry.record
        if isinstance(record, Recurred) and entry.position not in queued:
            if before := newest.get(record.alert):
                del folded[before.position]
                record = replace(record, times=before.record.times + record.times)
            newest[record.alert] = Entry(position=entry.position, record=record)
            folded[entry.position] = Entry(position=entry.position, record=record)
        else:
            for alert in alerts_of(record):
                newest.pop(alert, None)
            folded[entry.position] = entry
    return list(folded.values())


def _without_starts(entries: Sequence[Entry[Record]], run: Ulid) -> Sequence[Entry[Record]]:
    """Return ``entries`` without the starts of runs of which nothing else is left, but ``run``'s, the newest."""
    runs = {run, *(entry.position.run for entry in entries if not isinstance(entry.record, Start))}
    return [entry for entry in entries if not isinstance(entry.record, Start) or entry.position.run in runs]
