"""What happens to the tables when events are accepted, or taken back."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from process_cosmos_gateway.contract.destinations import EventKind, Priority
from process_cosmos_gateway.contract.identifiers import Ulid
from process_cosmos_gateway.store import Transaction

from . import eviction, known_ids, overflow_queue
from .counters import Audience, count, wait
from .model import Added, DropReason, Event, Limits, OutboxFullError
from .quotas import bound, refused_by_disk, share
from .statements import STATEMENTS

type Row = tuple[Any, ...]
type EnqueueResult = Added | OutboxFullError


@dataclass(slots=True)
class EncodedEvent:
    """An event with its text."""

    event: Event
    body: bytes


type Entry = tuple[EncodedEvent, Sequence[str]]
"""An event, and the destinations that want it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What an intake works under. ``free``: bytes that can be written now; ``reserve``: how many are for alarms."""

    now: float
    limits: Limits
    free: int
    reserve: int
    audience: Audience

    def refuses(self, priority: Priority) -> bool:
        """Return whether the disk is too full for ``priority``."""
        return refused_by_disk(priority, self.free, self.reserve)


def take(transaction: Transaction, arrivals: Sequence[EncodedEvent], under: Conditions) -> Sequence[EnqueueResult]:
    """Take each event once: remember its id, queue it for who wants it, keep to the limits."""
    entries = [(arrival, under.audience.of(arrival.event.kind, arrival.event.only)) for arrival in arrivals]
    refused = _refusals(transaction, entries, under)
    kept = [entry for place, entry in enumerate(entries) if place not in refused] if refused else entries
    ids = [(arrival.event.id, arrival.body) for arrival, _ in kept]
    added = known_ids.remember(transaction, ids, under.audience.counters, under.limits, under.free)
    known_ids.note_own(transaction, [arrival.event.id for arrival, _ in kept if arrival.event.is_own])
    for priority in STATEMENTS:
        queued = [
            entry
            for entry, result in zip(kept, added, strict=True)
            if result is Added.ADDED and entry[1] and entry[0].event.priority is priority
        ]
        if queued:
            _queue(transaction, priority, queued, under)
    if not refused:
        return added
    results = iter(added)
    return [refused.get(place) or next(results) for place in range(len(arrivals))]


def _refusals(transaction: Transaction, entries: Sequence[Entry], under: Conditions) -> Mapping[int, OutboxFullError]:
    """Refuse, by place, what would not be kept, and what follows a refused event of its key: none overtakes another.

    What is known already is not refused: it is kept.
    """
    nearly_full = under.refuses(Priority.CHANGE)
    # What is left where all others of a share are given up.
    longest = bound(share(under.limits.quota[Priority.CHANGE], len(under.audience.kinds))).target
    refused: dict[int, OutboxFullError] = {}
    lines: dict[tuple[Priority, str], OutboxFullError] = {}
    for place, (arrival, wanting) in enumerate(entries):
        event = arrival.event
        error = None
        if event.priority is Priority.CHANGE:
            if wanting and nearly_full:
                error = OutboxFullError("hardly any of the disk is free", DropReason.DISK)
            elif wanting and len(arrival.body) > longest:
                error = OutboxFullError("there is no room for an event of this length", DropReason.QUOTA)
        elif event.kind is not EventKind.ALERT:
            error = _refuse_alarm(arrival, wanting, under)
        else:
            continue
        if lines:
            error = lines.get((event.priority, event.key)) or error
        if error is not None and not known_ids.has(transaction, event.id):
            refused[place] = lines[event.priority, event.key] = error
    return refused


def _refuse_alarm(arrival: EncodedEvent, wanting: Sequence[str], under: Conditions) -> OutboxFullError | None:
    """Refuse an alarm that has no alert to wait with, where there is no room for it."""
    for name in wanting:
        if not has_room(under.audience, name, len(arrival.body), under.limits):
            return OutboxFullError(f"too much waits for {name}", DropReason.QUOTA)
    return None


def has_room(audience: Audience, destination: str, size: int, limits: Limits) -> bool:
    """Say whether an alarm may join those that wait for ``destination``; none passes one that is parked."""
    most = share(limits.quota[Priority.URGENT], len(audience.kinds))
    waiting = audience.bytes[destination, Priority.URGENT]
    return destination not in audience.parking and (not waiting or waiting + size <= most)


def _queue(transaction: Transaction, priority: Priority, entries: Sequence[Entry], under: Conditions) -> None:
    if priority is Priority.URGENT:
        for arrival, wanting in entries:
            _queue_alarm(transaction, arrival, wanting, under)
        return
    audience = under.audience
    before = {name: audience.bytes[name, priority] for name in audience.kinds}
    enqueue(transaction, priority, entries, under.now, audience)
    most = share(under.limits.quota[priority], len(audience.kinds))
    slots = {arrival.event.slot for arrival, _ in entries if arrival.event.slot is not None}
    for name, size in before.items():
        to = bound(most, size, keeps=priority in under.limits.keeps_backlog)
        if audience.bytes[name, priority] > to.most:
            eviction.relieve(transaction, name, to, slots)


def _queue_alarm(transaction: Transaction, arrival: EncodedEvent, wanting: Sequence[str], under: Conditions) -> None:
    audience = under.audience
    parked = [name for name in wanting if not has_room(audience, name, len(arrival.body), under.limits)]
    for name in parked:
        overflow_queue.park(transaction, name, arrival.event, arrival.body, under.now, under.limits.overflow_bytes)
        audience.parking.add(name)
    waiting = [name for name in wanting if name not in parked]
    if waiting:
        sequence = enqueue(transaction, Priority.URGENT, [(arrival, waiting)], under.now, audience)
        for name in parked:
            transaction.run("INSERT INTO outbox_skip VALUES (?, ?, ?)", name, Priority.URGENT, sequence)


def enqueue(
    transaction: Transaction,
    priority: Priority,
    entries: Sequence[Entry],
    now: float,
    audience: Audience,
) -> int:
    """Queue events at the end; destinations that had nothing to wait for and want none of them stay without.

    Returns the last one's number.
    """
    statements = STATEMENTS[priority]
    transaction.insert(statements.insert, [_row(arrival, now) for arrival, _ in entries])
    last = transaction.last_row()
    count(transaction, priority, len(entries))
    more: dict[str, list[int]] = {}
    for arrival, wanting in entries:
        for name in wanting:
            more.setdefault(name, []).append(len(arrival.body))
    for name in audience.kinds:
        if sizes := more.get(name):
            wait(transaction, name, priority, len(sizes), sum(sizes))
            audience.bytes[name, priority] += sum(sizes)
        else:
            transaction.run(statements.go_past, last=last, before=last - len(entries), destination=name)
    return last


def _row(arrival: EncodedEvent, now: float) -> Row:
    event, body = arrival.event, arrival.body
    expires = None if event.expires_at is None else event.expires_at.timestamp()
    return (
        event.id,
        event.type,
        event.kind,
        event.subject,
        event.key,
        event.only,
        event.slot,
        0,
        int(now),  # four bytes, where a fraction takes eight
        expires,
        zlib.crc32(body),
        body,
    )


def withdraw(transaction: Transaction, event: Ulid, destination: str, limits: Limits) -> None:
    """Take back an alarm that was for ``destination`` only, and forget its id; one on its way may still arrive."""
    statements = STATEMENTS[Priority.URGENT]
    is_known = bool(transaction.rows("SELECT 1 FROM outbox_destination WHERE name = ?", destination))
    for sequence, size in transaction.rows(statements.withdraw, event, destination):
        for mark in ("exception", "skip"):
            transaction.run(statements.drop_marks.replace("<mark>", mark), sequence)
        count(transaction, Priority.URGENT, -1)
        if is_known:
            wait(transaction, destination, Priority.URGENT, -1, -size)
    overflow_queue.remove(transaction, "id = ? AND destination = ?", event, destination)
    known_ids.forget(transaction, event)
    overflow_queue.unpark(transaction, destination, limits)
