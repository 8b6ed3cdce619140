"""A site on a disk whose power can be cut, and what one finds there afterwards."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from itertools import count
from pathlib import Path
from unittest.mock import patch

import orjson

from process_cosmos_gateway.clock import Clock
from process_cosmos_gateway.contract.destinations import EventKind, Priority
from process_cosmos_gateway.contract.identifiers import Ulid, UlidFactory
from process_cosmos_gateway.outbox import Added, Delivered, DropReason, Event, Limits, Outbox, Parcel
from process_cosmos_gateway.store import Store, Transaction, wal
from tests.gateway.store.parts import new_ulids

from .model import Group, Seen

DESTINATIONS: Mapping[str, tuple[EventKind, ...]] = {
    "cloud": (EventKind.ALERT, EventKind.DEVICE, EventKind.READING),
    "webhook": (EventKind.ALERT,),
}
LIMITS = Limits(quota={**Limits().quota, Priority.ALARM: 6_000})
"""Room for some four alarms a destination: the others are parked."""
TABLES = {priority: f"outbox_{priority}" for priority in Priority}


def counted_ulids() -> UlidFactory:
    """Return ids that are the same in each run."""
    milliseconds = count(1_790_000_000_000)
    return UlidFactory(lambda: next(milliseconds), bytes)


@contextmanager
def frequent_checkpoints() -> Iterator[None]:
    """Let the log be copied into the database after every few pages, so that cuts meet that too."""
    with patch.object(wal, "_MOST_PAGES", 20):
        yield


@asynccontextmanager
async def site(folder: Path, clock: Clock, vfs: str | None = None) -> AsyncIterator[tuple[Store, Outbox]]:
    """Open what is in ``folder`` and close it."""
    store = await Store.open(folder, new_ulids(), vfs=vfs)
    try:
        yield store, Outbox(store, clock, LIMITS)
    finally:
        await store.close()


async def look(folder: Path, events: Sequence[Event], who: tuple[Ulid, Ulid], clock: Clock) -> Seen:
    """Open what is in ``folder`` and find out what is there by the outbox's own doors; nothing is left as it was.

    ``events``: all there ever were, so that known ids show. ``who``: the site and the epoch.
    """
    async with site(folder, clock) as (store, outbox):
        assert (store.site, store.epoch) == who, "what a power cut leaves is sound: nothing is made anew or salvaged"
        depths = await outbox.depths()
        rows = {priority: getattr(depths.waiting, priority) for priority in Priority}
        assert rows == await store.read(_rows), "a counter is not its rows"
        parked = await store.read(_parked)
        rejected = [(each.destination, Ulid(each.event)) for each in await outbox.rejected()]
        assert len(rejected) == depths.rejected, "the counter of rejected events is not its rows"
        drained = {name: await _drained(outbox, name) for name in DESTINATIONS}
        depths = await outbox.depths()
        assert not any(getattr(depths.waiting, priority) for priority in Priority), "what all have is still there"
        assert not any(depths.bytes.values()), "the bytes that wait are not those of the rows"
        results = await asyncio.gather(*(outbox.accept(event) for event in events))
        repeated = zip(events, results, strict=True)
        [(integrity,)] = await store.read(lambda transaction: transaction.rows("PRAGMA integrity_check"))
        assert integrity == "ok"
    parcels = [parcel for of in drained.values() for parcel in of]
    return Seen(
        groups={name: _groups(of) for name, of in drained.items()},
        readings={name: tuple(value for parcel in of for value in readings(parcel)) for name, of in drained.items()},
        known=frozenset(event.id for event, result in repeated if result is Added.DUPLICATE),
        rejected=frozenset(rejected),
        rows=rows,
        expired=sum(number for (_, reason), number in depths.drops.items() if reason is DropReason.EXPIRED),
        parked=parked,
        bodies={parcel.id: parcel.body for parcel in parcels},
    )


def readings(parcel: Parcel) -> Sequence[float]:
    """Return the values of the readings in a pack; none of another event."""
    if parcel.priority is not Priority.MEASUREMENT:
        return ()
    return [record["v"] for record in orjson.loads(parcel.body)["data"]]


def _rows(transaction: Transaction) -> Mapping[Priority, int]:
    rows = {
        priority: transaction.rows(f"SELECT count(*) FROM {table}")[0][0]  # noqa: S608 - names from above
        for priority, table in TABLES.items()
    }
    return {**rows, Priority.ALARM: rows[Priority.ALARM] + _parked(transaction)}


def _parked(transaction: Transaction) -> int:
    return int(transaction.rows("SELECT count(*) FROM outbox_parked")[0][0])


async def _drained(outbox: Outbox, destination: str) -> Sequence[Parcel]:
    """Let ``destination`` confirm all that waits for it; return it."""
    drained: list[Parcel] = []
    while parcels := await outbox.parcels(destination, 500):
        drained += parcels
        await outbox.settle(destination, [(parcel, Delivered()) for parcel in parcels])
    return drained


def _groups(parcels: Sequence[Parcel]) -> Mapping[Group, Sequence[tuple[Ulid, int, bool]]]:
    groups: dict[Group, list[tuple[Ulid, int, bool]]] = {}
    for parcel in parcels:
        if parcel.priority is not Priority.MEASUREMENT:
            group = groups.setdefault((parcel.priority, parcel.key, parcel.replayed), [])
            group.append((parcel.id, parcel.attempts, parcel.replayed))
    return groups
