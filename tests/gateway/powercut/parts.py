"""Helpers of the power failure tests: open a site and read the content of its outbox."""

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
from process_cosmos_gateway.outbox import Added, Delivered, Delivery, Event, Limits, Outbox
from process_cosmos_gateway.store import Store, Transaction, wal
from tests.gateway.store.parts import new_ulids

from .model import Content, Group

DESTINATIONS: Mapping[str, tuple[EventKind, ...]] = {
    "cloud": (EventKind.ALERT, EventKind.DEVICE, EventKind.READING),
    "webhook": (EventKind.ALERT,),
}
LIMITS = Limits(quota={**Limits().quota, Priority.URGENT: 6_000})
"""Room for about four urgent events per destination; alerts may exceed it."""
TABLES = {priority: f"outbox_{priority}" for priority in Priority}


def counted_ulids() -> UlidFactory:
    """Return a factory of ids that are the same in each run."""
    milliseconds = count(1_790_000_000_000)
    return UlidFactory(lambda: next(milliseconds), bytes)


@contextmanager
def frequent_checkpoints() -> Iterator[None]:
    """Checkpoint the WAL every 20 pages, so that cuts also hit checkpoints."""
    with patch.object(wal, "_MAX_PAGES", 20):
        yield


@asynccontextmanager
async def site(folder: Path, clock: Clock, vfs: str | None = None) -> AsyncIterator[tuple[Store, Outbox]]:
    """Open the store in ``folder`` with an outbox, and close it."""
    store = await Store.open(folder, new_ulids(), vfs=vfs)
    try:
        yield store, Outbox(store, clock, LIMITS)
    finally:
        await store.close()


async def read_content(folder: Path, events: Sequence[Event], identity: tuple[Ulid, Ulid], clock: Clock) -> Content:
    """Open the store in ``folder`` and read its content through the outbox, which changes and drains it.

    ``events``: all events ever accepted, to find the known ids. ``identity``: the expected site and epoch.
    """
    async with site(folder, clock) as (store, outbox):
        assert (store.site, store.epoch) == identity, (
            "a power cut leaves an intact store, which is neither created anew nor recovered"
        )
        depths = await outbox.depths()
        rows = {priority: getattr(depths.waiting, priority) for priority in Priority}
        assert rows == await store.read(_rows), "a counter differs from its rows"
        beyond = depths.bytes[Priority.URGENT] > LIMITS.quota[Priority.URGENT] // len(DESTINATIONS)
        rejected = [(each.destination, Ulid(each.event)) for each in await outbox.rejected()]
        assert len(rejected) == depths.rejected, "the counter of rejected events differs from its rows"
        drained = {name: await _drained(outbox, name) for name in DESTINATIONS}
        depths = await outbox.depths()
        assert not any(getattr(depths.waiting, priority) for priority in Priority), (
            "events that all destinations confirmed are still there"
        )
        assert not any(depths.bytes.values()), "the pending bytes differ from those of the rows"
        results = await asyncio.gather(*(outbox.accept(event) for event in events))
        repeated = zip(events, results, strict=True)
        [(integrity,)] = await store.read(lambda transaction: transaction.rows("PRAGMA integrity_check"))
        assert integrity == "ok"
    deliveries = [delivery for of in drained.values() for delivery in of]
    return Content(
        groups={name: _groups(of) for name, of in drained.items()},
        readings={
            name: tuple(value for delivery in of for value in readings(delivery)) for name, of in drained.items()
        },
        known=frozenset(event.id for event, result in repeated if result is Added.DUPLICATE),
        rejected=frozenset(rejected),
        rows=rows,
        is_beyond_share=beyond,
        bodies={delivery.id: delivery.body for delivery in deliveries},
    )


def readings(delivery: Delivery) -> Sequence[float]:
    """Return the values of the readings in a batch; nothing for another event."""
    if delivery.priority is not Priority.READING:
        return ()
    return [record["v"] for record in orjson.loads(delivery.body)["data"]]


def _rows(transaction: Transaction) -> Mapping[Priority, int]:
    return {
        priority: transaction.rows(f"SELECT count(*) FROM {table}")[0][0]  # noqa: S608 - the names above
        for priority, table in TABLES.items()
    }


async def _drained(outbox: Outbox, destination: str) -> Sequence[Delivery]:
    """Confirm all deliveries of ``destination`` and return them."""
    drained: list[Delivery] = []
    while deliveries := await outbox.deliveries(destination, 500):
        drained += deliveries
        await outbox.settle(destination, [(delivery, Delivered()) for delivery in deliveries])
    return drained


def _groups(deliveries: Sequence[Delivery]) -> Mapping[Group, Sequence[tuple[Ulid, int, bool]]]:
    groups: dict[Group, list[tuple[Ulid, int, bool]]] = {}
    for delivery in deliveries:
        if delivery.priority is not Priority.READING:
            group = groups.setdefault((delivery.priority, delivery.key, delivery.replayed), [])
            group.append((delivery.id, delivery.attempts, delivery.replayed))
    return groups
