"""Journal of a site's alerts: the record log together with the state that its records describe."""

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

from custom_components.process_cosmos.alerts.record_log import RETRY_AFTER, Entry, RecordLog, RecordLogWriteError
from custom_components.process_cosmos.const import CONF_HAS_LOG, DOMAIN
from custom_components.process_cosmos.contract.durations import CLOSED_ALERTS_KEPT
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
    alert_events,
    alerts_of,
    proposal_of,
)
from .steady_clock import SteadyClock
from .timetable import NotificationOutcomes

_UNWRITTEN: HassKey[dict[str, Sequence[Entry[Record]]]] = HassKey(f"{DOMAIN}_unwritten")
"""Records that could not be written before a site was unloaded, by entry id."""


class Journal:
    """Record log of one site and the state of its alerts; ``state`` includes records that are not on disk yet."""

    def __init__(
        self,
        hass: HomeAssistant,
        entry: ConfigEntry,
        on_durable: Callable[[Sequence[Entry[Record]]], None],
        on_write_error: Callable[[str | None], None],
    ) -> None:
        """Create the journal without I/O.

        ``on_durable``: called with records that reached the disk. ``on_write_error``: called with the reason when
        writing fails, and with None when it succeeds again.
        """
        self.state = State()
        self.outcomes: dict[Ulid, NotificationOutcomes] = {}
        self.has_gateway = entry.data.get(CONF_URL) is not None
        self.run = Ulid("")
        self._clock = SteadyClock(dt_util.utcnow, time.monotonic)
        self._gateway_runs: set[Ulid] = set()
        self._confirmed: Position | None = None
        self._alerts_after: dict[Position, tuple[Alert, ...]] = {}
        self._closed_by_merge: dict[Ulid, tuple[Position, Position]] = {}
        """Alerts that a merge closed, with the positions between which this log did not know that they were closed."""
        path = Path(hass.config.path(".storage", f"{DOMAIN}.{entry.entry_id}.memory"))
        self._unwritten = hass.data.setdefault(_UNWRITTEN, {})
        self._entry_id = entry.entry_id
        self._had_log = bool(entry.data.get(CONF_HAS_LOG)) and entry.entry_id not in self._unwritten
        self.is_lost = False
        """Whether an earlier log existed and its file is missing or empty."""
        self.record_log: RecordLog[Record] = RecordLog(
            path, RECORDS, hass.async_add_executor_job, on_durable=on_durable, on_write_error=on_write_error
        )

    async def async_open(self) -> None:
        """Read the record log and begin a run, in RAM only if writing fails.

        Raises ``RecordLogTooNewError``, or ``OSError`` if reading fails.
        """
        await self.record_log.async_load()
        self.is_lost = self.record_log.is_empty or (self.record_log.is_new and self._had_log)
        # Records of a site that was reloaded on a full disk: they already took effect and must not be lost.
        self.record_log.requeue(self._unwritten.pop(self._entry_id, ()))
        self.replay()
        events = (each.event for entry in self.record_log.entries for each in alert_events(entry.record))
        # New ids are above all ids in the log, so that a clock that was set back does not change their order.
        ids = (*self.record_log.runs, *events)
        self.new_id = _new_ids(milliseconds_of(max(ids)) if ids else None)
        for entry in self.record_log.entries:
            if not isinstance(entry.record, Confirmed):
                self._clock.advance_to(entry.record.at)
        self.begin_run()
        with contextlib.suppress(RecordLogWriteError):
            await self.record_log.async_flush()

    def replay(self) -> None:
        """Rebuild the state from all records of the log."""
        for entry in self.record_log.entries:
            self._apply(entry.position, entry.record)

    def reached_recipients(self, alert: Ulid) -> set[str]:
        """Return the recipients that a notification of ``alert`` has reached."""
        records = (entry.record for entry in self.record_log.entries)
        return {
            record.key.recipient
            for record in records
            if isinstance(record, NotifiedRecord) and record.reached and record.key.alert == alert
        }

    async def async_close(self) -> None:
        """Write the queued records; those that cannot be written are kept in RAM for the site's next set-up."""
        await self.record_log.async_close()
        if self.record_log.queued:
            self._unwritten[self._entry_id] = self.record_log.queued

    async def async_remove(self) -> None:
        """Delete the record log."""
        self._unwritten.pop(self._entry_id, None)
        await self.record_log.async_remove()

    def now(self) -> datetime:
        """Return the time in UTC, which does not jump while an alert is alive."""
        if not self.state.alive:
            self._clock.adopt_wall_time()
        return self._clock.now()

    def begin_run(self) -> None:
        """Begin a new run, whose positions no gateway has received yet."""
        self.run = self.new_id()
        start = Start(at=self.now(), gateway=self.has_gateway)
        self._apply(self.record_log.begin_run(self.run, start), start)

    def begin_run_after(self, run: Ulid) -> None:
        """Begin a run with an id above ``run``, whatever the clock says. Raise ``UlidRangeError`` if none is left."""
        if run > self.run:
            new_id = _new_ids(max(milliseconds_of(run), milliseconds_of(self.new_id())))
            new_id()  # raises before anything has changed
            self.new_id = new_id
            self.begin_run()

    def record(self, record: Record) -> tuple[Alert, ...]:
        """Apply ``record``, queue it for writing, and return the alerts it changed."""
        return self._apply(self.record_log.append(record), record)

    async def async_flush(self) -> None:
        """Wait until all records so far are on disk; raise ``RecordLogWriteError`` if writing fails."""
        await self.record_log.async_flush()

    async def async_flush_with_retries(self) -> None:
        """Wait until all records so far are on disk, retrying for as long as writing fails."""
        while True:
            with contextlib.suppress(RecordLogWriteError):
                return await self.record_log.async_flush()
            await asyncio.sleep(RETRY_AFTER)

    def alerts_after(self, position: Position) -> tuple[Alert, ...]:
        """Return the alerts that the record at ``position`` changed, as they were after it."""
        return self._alerts_after.get(position, ())

    def is_alive(self, alert: Ulid) -> bool:
        """Return whether the alert is known and alive."""
        known = self.state.alerts.get(alert)
        return known is not None and known.alive

    def confirm(self, position: Position, *, durably: bool = False) -> None:
        """Note that the gateway has applied everything up to ``position``; with ``durably``, also record it."""
        # A gateway that served another site, or a log restored from a backup: its cursor confirms nothing here.
        if self.record_log.has_assigned(position) and (self._confirmed is None or position > self._confirmed):
            self._confirmed = position
            if durably:
                self.record(Confirmed(position=position))

    def must_send(self, entry: Entry[Record], *, to_new_gateway: bool) -> bool:
        """Return whether the gateway gets ``entry``: its alert is alive, or its run began with a gateway configured.

        ``to_new_gateway``: the gateway has no cursor; it gets no closed alerts that another gateway has applied.
        """
        if alert_events(entry.record) and any(
            self._is_before_closing_merge(one, entry.position) for one in alerts_of(entry.record)
        ):
            return False  # a gateway restored from a backup would forward it as news after the alert was closed
        applied = self._confirmed is not None and entry.position <= self._confirmed
        meant = entry.position.run in self._gateway_runs and not (to_new_gateway and applied)
        return meant or any(self.is_alive(one) for one in alerts_of(entry.record))

    def _is_before_closing_merge(self, alert: Ulid, position: Position) -> bool:
        after, merged = self._closed_by_merge.get(alert, (position, position))
        return after < position < merged

    async def async_compact(self) -> None:
        """Rewrite the log without records that are no longer needed, if they are at least a quarter of it."""
        # Compaction deletes every other confirmation, so the newest one must be in the log.
        if self._confirmed:
            self.record(Confirmed(position=self._confirmed))
            await self.record_log.async_flush()
        retained, expired = self._split_by_retention(self.now())
        if len(retained) * 4 > len(self.record_log.entries) * 3:
            return
        await self.record_log.async_compact(retained)
        for alert in expired:
            self.state.forget(alert)
            self.outcomes.pop(alert, None)
        self.state.proposals = {
            proposal: self.state.proposals[proposal]
            for entry in self.record_log.entries
            if (proposal := proposal_of(entry.record)) is not None
        }
        positions = {entry.position for entry in self.record_log.entries}
        self._alerts_after = {
            position: after for position, after in self._alerts_after.items() if position in positions
        }

    def _split_by_retention(self, now: datetime) -> tuple[Sequence[Entry[Record]], set[Ulid]]:
        """Return the entries to retain and the ids of expired alerts.

        Alerts are retained while alive, for 30 days after closing, and while the gateway has not confirmed a record.
        """
        oldest = now - timedelta(seconds=CLOSED_ALERTS_KEPT)
        known = self.state.alerts.values()
        needed = {one.id for one in known if one.closed_at is None or one.closed_at > oldest}
        for entry in self.record_log.entries:
            unconfirmed = self._confirmed is None or entry.position > self._confirmed
            if unconfirmed and entry.position.run in self._gateway_runs:
                needed.update(alerts_of(entry.record))
        retained = [entry for entry in self.record_log.entries if self._is_retained(entry.record, needed, oldest)]
        # Queued records are still written under their own positions, so none of them may be merged into another.
        queued = {entry.position for entry in self.record_log.queued}
        return _drop_empty_runs(_merge_recurrences(retained, queued), self.run), set(self.state.alerts) - needed

    def _is_retained(self, record: Record, needed: set[Ulid], oldest: datetime) -> bool:
        match record:
            case Start():
                return True
            case Confirmed():
                return record.position == self._confirmed
            case Refused():
                return record.at > oldest
            case _:
                return not needed.isdisjoint(alerts_of(record))

    def _apply(self, position: Position, record: Record) -> tuple[Alert, ...]:
        changed = self.state.fold(record)
        if alert_events(record):  # the gateway and the listeners need it; other records would only cost RAM
            self._alerts_after[position] = changed
        for alert in changed:
            outcomes = self.outcomes.setdefault(alert.id, NotificationOutcomes())
            outcomes.reset_for(alert.revision, alert.cycle_revision)
        match record:
            case NotifiedRecord(key=key) if key.alert in self.outcomes:
                self.outcomes[key.alert].add(key, reached=record.reached, at=record.at)
            case Start() if record.gateway:
                self._gateway_runs.add(position.run)
            case Confirmed():
                self._confirmed = record.position
            case Merged(after=Position() as after):
                closed = (one.alert for one in record.reconciled if not one.state.alive)
                self._closed_by_merge |= dict.fromkeys(closed, (after, position))
        return changed


def _new_ids(last: int | None) -> UlidFactory:
    return UlidFactory(lambda: int(dt_util.utcnow().timestamp() * 1000), secrets.token_bytes, last)


def _merge_recurrences(entries: Sequence[Entry[Record]], queued: set[Position]) -> Sequence[Entry[Record]]:
    """Return ``entries`` with consecutive recurrences of an alert merged into the last one; queued ones are kept."""
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
            # Recurrences do not merge across another record of the alert: the count after each record stays the same.
            for alert in alerts_of(record):
                newest.pop(alert, None)
            folded[entry.position] = entry
    return list(folded.values())


def _drop_empty_runs(entries: Sequence[Entry[Record]], run: Ulid) -> Sequence[Entry[Record]]:
    """Return ``entries`` without the start records of runs that have no other record, except the current ``run``."""
    runs = {run, *(entry.position.run for entry in entries if not isinstance(entry.record, Start))}
    return [entry for entry in entries if not isinstance(entry.record, Start) or entry.position.run in runs]
