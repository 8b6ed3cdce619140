"""Enqueueing and withdrawal of urgent events and changes."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from process_cosmos_gateway.contract.destinations import EventKind, Priority
from process_cosmos_gateway.contract.identifiers import Ulid
from process_cosmos_gateway.store import Transaction

from . import eviction, known_ids
from .counters import DestinationSnapshot, add_to_backlog, add_to_counter
from .model import Added, DropReason, Event, Limits, OutboxFullError
from .quotas import refused_by_disk, share_per_destination, watermarks
from .statements import STATEMENTS

type Row = tuple[Any, ...]
type EnqueueResult = Added | OutboxFullError


@dataclass(slots=True)
class EncodedEvent:
    """An event and its encoding as a CloudEvent."""

    event: Event
    body: bytes


type RoutedEvent = tuple[EncodedEvent, Sequence[str]]
"""An event and its destinations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnqueueContext:
    """The time, limits and disk space that enqueueing depends on.

    ``now``: seconds since 1970; ``free``: bytes that can be written now; ``reserve``: bytes of those kept for urgent
    events.
    """

    now: float
    limits: Limits
    free: int
    reserve: int
    destinations: DestinationSnapshot

    def refuses(self, priority: Priority) -> bool:
        """Return whether the disk is too full to accept ``priority``."""
        return refused_by_disk(priority, self.free, self.reserve)


def enqueue_events(
    transaction: Transaction, events: Sequence[EncodedEvent], context: EnqueueContext
) -> Sequence[EnqueueResult]:
    """Store the id of each new event, queue the event for its destinations and enforce the limits."""
    entries = [(encoded, context.destinations.receivers(encoded.event.kind, encoded.event.only)) for encoded in events]
    refused = _refused_events(transaction, entries, context)
    accepted = [entry for index, entry in enumerate(entries) if index not in refused] if refused else entries
    # A refused event leaves no id: otherwise its repeat would count as a duplicate, and the event would be lost.
    ids = [(encoded.event.id, encoded.body) for encoded, _ in accepted]
    added = known_ids.remember_ids(transaction, ids, context.destinations.counters, context.limits, context.free)
    known_ids.record_newest_own_id(transaction, [encoded.event.id for encoded, _ in accepted if encoded.event.is_own])
    for priority in STATEMENTS:
        added_events = [
            entry
            for entry, result in zip(accepted, added, strict=True)
            if result is Added.ADDED and entry[1] and entry[0].event.priority is priority
        ]
        if added_events:
            _enqueue(transaction, priority, added_events, context)
    if not refused:
        return added
    results = iter(added)
    return [refused.get(index) or next(results) for index in range(len(events))]


def _refused_events(
    transaction: Transaction, entries: Sequence[RoutedEvent], context: EnqueueContext
) -> Mapping[int, OutboxFullError]:
    """Return the errors, by index, of events for which there is no room and of later events of the same key.

    Refusing the later events preserves the order of the key. A known event is not refused: it is already stored.
    """
    nearly_full = context.refuses(Priority.CHANGE)
    # What eviction leaves of a share: a larger change could not stay even if all others were dropped.
    longest = watermarks(
        share_per_destination(context.limits.quota[Priority.CHANGE], len(context.destinations.kinds))
    ).low
    refused: dict[int, OutboxFullError] = {}
    key_errors: dict[tuple[Priority, str], OutboxFullError] = {}
    for index, (encoded, receivers) in enumerate(entries):
        event = encoded.event
        error = None
        if event.priority is Priority.CHANGE:
            if receivers and nearly_full:
                error = OutboxFullError("the disk is almost full", DropReason.DISK)
            elif receivers and len(encoded.body) > longest:
                error = OutboxFullError("the event is larger than the share of a destination", DropReason.QUOTA)
        elif event.kind is not EventKind.ALERT:
            error = _urgent_event_error(encoded, receivers, context)
        else:
            continue
        if key_errors:
            error = key_errors.get((event.priority, event.key)) or error
        if error is not None and not known_ids.is_known(transaction, event.id):
            refused[index] = key_errors[event.priority, event.key] = error
    return refused


def _urgent_event_error(
    encoded: EncodedEvent, receivers: Sequence[str], context: EnqueueContext
) -> OutboxFullError | None:
    """Return an error if a destination has no room for an urgent event that does not belong to an alert."""
    share = share_per_destination(context.limits.quota[Priority.URGENT], len(context.destinations.kinds))
    for name in receivers:
        waiting = context.destinations.backlog_bytes[name, Priority.URGENT]
        if waiting and waiting + len(encoded.body) > share:
            return OutboxFullError(f"too many events are waiting for {name}", DropReason.QUOTA)
    return None


def _enqueue(
    transaction: Transaction, priority: Priority, entries: Sequence[RoutedEvent], context: EnqueueContext
) -> None:
    destinations = context.destinations
    # Taken before the insert: a backlog that is kept may stay as large as it was, but must not grow.
    before = {name: destinations.backlog_bytes[name, priority] for name in destinations.kinds}
    insert_events(transaction, priority, entries, context.now, destinations)
    # An urgent event of an alert is never refused: it may also use the space kept for them beyond the quota.
    quota = context.limits.quota[priority] + (context.limits.overflow_bytes if priority is Priority.URGENT else 0)
    share = share_per_destination(quota, len(destinations.kinds))
    slots = {encoded.event.slot for encoded, _ in entries if encoded.event.slot is not None}
    for name, size in before.items():
        marks = watermarks(share, size, keeps=priority in context.limits.keeps_backlog)
        if destinations.backlog_bytes[name, priority] > marks.high:
            eviction.reduce_backlog(transaction, name, priority, marks, slots)


def insert_events(
    transaction: Transaction,
    priority: Priority,
    entries: Sequence[RoutedEvent],
    now: float,
    destinations: DestinationSnapshot,
) -> int:
    """Insert events at the end of the queue and return the last sequence number.

    The cursor of a destination that receives none of them, and had nothing pending, moves past them.
    """
    statements = STATEMENTS[priority]
    transaction.insert(statements.insert, [_row(encoded, now) for encoded, _ in entries])
    last = transaction.last_row()
    add_to_counter(transaction, priority, len(entries))
    more: dict[str, list[int]] = {}
    for encoded, receivers in entries:
        for name in receivers:
            more.setdefault(name, []).append(len(encoded.body))
    for name in destinations.kinds:
        if sizes := more.get(name):
            add_to_backlog(transaction, name, priority, len(sizes), sum(sizes))
            destinations.backlog_bytes[name, priority] += sum(sizes)
        else:
            # A cursor left behind would make the next fetch scan these rows, and keep ``delete_settled_below`` back.
            transaction.run(statements.skip_unwanted, last=last, before=last - len(entries), destination=name)
    return last


def _row(encoded: EncodedEvent, now: float) -> Row:
    event, body = encoded.event, encoded.body
    return (
        event.id,
        event.type,
        event.kind,
        event.subject,
        event.key,
        event.only,
        event.slot,
        0,
        int(now),  # SQLite stores the integer in 4 bytes, a fraction in 8
        zlib.crc32(body),
        body,
    )


def withdraw_event(transaction: Transaction, event: Ulid, destination: str) -> None:
    """Delete an urgent event for ``destination`` only, and its id; if it is being sent, it may still arrive."""
    statements = STATEMENTS[Priority.URGENT]
    is_known = bool(transaction.rows("SELECT 1 FROM outbox_destination WHERE name = ?", destination))
    for sequence, size in transaction.rows(statements.withdraw, event, destination):
        for mark in ("exception", "skip"):
            transaction.run(statements.delete_marks.replace("<mark>", mark), sequence)
        add_to_counter(transaction, Priority.URGENT, -1)
        if is_known:
            add_to_backlog(transaction, destination, Priority.URGENT, -1, -size)
    known_ids.forget_id(transaction, event)
