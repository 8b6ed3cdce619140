"""A site on a disk whose power can be cut, and what one finds there afterwards."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from itertools import count
from pathlib import Path
from unittest.mock import patch

from process_cosmos_gateway.contract.destinations import EventKind, Priority
from process_cosmos_gateway.contract.identifiers import Ulid, UlidFactory
from process_cosmos_gateway.outbox import Added, Delivered, Event, Outbox
from process_cosmos_gateway.store import Store, schema
from tests.gateway.store.parts import HandClock, new_ulids

from .model import Seen

DESTINATIONS: Mapping[str, tuple[EventKind, ...]] = {
    "cloud": (EventKind.ESCALATION, EventKind.DEVICE, EventKind.READING),
    "webhook": (EventKind.ESCALATION,),
}
TABLES = {Priority.ALARM: "outbox_alarm", Priority.CHANGE: "outbox_change"}


def counted_ulids() -> UlidFactory:
    """Return ids that are the same in each run."""
    milliseconds = count(1_790_000_000_000)
    return UlidFactory(lambda: next(milliseconds), bytes)


@contextmanager
def frequent_checkpoints() -> Iterator[None]:
    """Let the log be copied into the database after every few pages, so that cuts meet that too."""
    with patch.object(schema, "_CHECKPOINT_PAGES", 20):
        yield


@asynccontextmanager
async def site(folder: Path, vfs: str | None = None) -> AsyncIterator[tuple[Store, Outbox]]:
    """Open what is in ``folder`` and close it."""
    store = await Store.open(folder, new_ulids(), vfs=vfs)
    try:
        yield store, Outbox(store, HandClock())
    finally:
        await store.close()


async def look(folder: Path, events: Sequence[Event], who: tuple[Ulid, Ulid]) -> Seen:
    """Open what is in ``folder`` and find out what is there by the outbox's own doors; nothing is left as it was.

    ``events``: all there ever were, so that known ids show. ``who``: the site and the epoch.
    """
    async with site(folder) as (store, outbox):
        assert (store.site, store.epoch) == who, "what a power cut leaves is sound: nothing is made anew or salvaged"
        depths = await outbox.depths()
        rows = {priority: getattr(depths.waiting, priority) for priority in Priority}
        counted = await store.read(
            lambda transaction: {
                priority: transaction.rows(f"SELECT count(*) FROM {table}")[0][0]  # noqa: S608 - names from above
                for priority, table in TABLES.items()
            }
        )
        assert {priority: rows[priority] for priority in TABLES} == counted, "a counter is not its rows"
        rejected = [(each.destination, Ulid(each.event)) for each in await outbox.rejected()]
        assert len(rejected) == depths.rejected, "the counter of rejected events is not its rows"
        groups = {name: await drained(outbox, name) for name in DESTINATIONS}
        left = (await outbox.depths()).waiting
        assert not any(getattr(left, priority) for priority in TABLES), "what all have confirmed is still there"
        results = await asyncio.gather(*(outbox.accept(event) for event in events))
        known = frozenset(event.id for event, result in zip(events, results, strict=True) if result is Added.DUPLICATE)
        [(integrity,)] = await store.read(lambda transaction: transaction.rows("PRAGMA integrity_check"))
        assert integrity == "ok"
    return Seen(groups=groups, known=known, rejected=frozenset(rejected), rows=rows)


async def drained(outbox: Outbox, destination: str) -> Mapping[tuple[Priority, str], Sequence[tuple[Ulid, int, bool]]]:
    """Let ``destination`` confirm all that waits for it; return it in order, by priority and key."""
    groups: dict[tuple[Priority, str], list[tuple[Ulid, int, bool]]] = {}
    while parcels := await outbox.parcels(destination, 500):
        for parcel in parcels:
            groups.setdefault((parcel.priority, parcel.key), []).append((parcel.id, parcel.attempts, parcel.replayed))
        await outbox.settle(destination, [(parcel, Delivered()) for parcel in parcels])
    return groups
