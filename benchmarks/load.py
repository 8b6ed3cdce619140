"""Events and stores of a wanted size, made in this process with the gateway's own parts."""

import asyncio
import os
import random
import shutil
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from process_cosmos_gateway.clock import SystemClock
from process_cosmos_gateway.contract.destinations import EventKind, Priority
from process_cosmos_gateway.contract.identifiers import Ulid, UlidFactory, encode_base_32
from process_cosmos_gateway.outbox import Event, Limits, Outbox, OutgoingReading
from process_cosmos_gateway.store import Store

DESTINATION = "cloud"
ENCODED = 300
"""Bytes of an encoded event."""

HOLDING = "holding-"
"""How folders begin that are made once in a run, to be copied."""

_ROOM = 8 << 30
_AT_ONCE = 2000
_PADDING = 40
_TIME = datetime(2026, 11, 22, 12, tzinfo=UTC)

ulid = UlidFactory(lambda: time.time_ns() // 1_000_000, os.urandom)
"""Ids that only go up, as the gateway makes them."""


def random_id() -> Ulid:
    """Return an id in no order, as a foreign program might make it."""
    return Ulid(encode_base_32(random.getrandbits(125), 26))


def events(
    number: int, priority: Priority = Priority.CHANGE, id_fn: Callable[[], Ulid] = ulid, keys: int = 50
) -> Sequence[Event]:
    """Return ``number`` events of ``ENCODED`` bytes each, of ``keys`` devices in turn."""
    return [
        Event(
            id=id_fn(),
            type="process_cosmos.bench.v1",
            kind=EventKind.DEVICE,
            priority=priority,
            subject=f"device-{count % keys:03d}",
            key=f"device-{count % keys:03d}",
            time=_TIME,
            data={"n": f"{count:08d}", "padding": "x" * _PADDING},
        )
        for count in range(number)
    ]


def roomy() -> Limits:
    """Return limits that nothing here reaches."""
    return Limits(quota=dict.fromkeys(Priority, _ROOM), id_bytes=_ROOM)


@dataclass(frozen=True, slots=True)
class Services:
    """A store with its outbox."""

    store: Store
    outbox: Outbox

    async def fill(self, number: int, priority: Priority = Priority.CHANGE) -> None:
        """Let ``number`` more events wait, many to a transaction."""
        for begin in range(0, number, _AT_ONCE):
            some = events(min(_AT_ONCE, number - begin), priority)
            await asyncio.gather(*map(self.outbox.accept, some))


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Services]:
    """Open the store in ``folder``, with one destination that wants everything."""
    store = await Store.open(folder, ulid)
    try:
        outbox = Outbox(store, SystemClock(), roomy())
        await outbox.register(DESTINATION, tuple(EventKind))
        yield Services(store, outbox)
    finally:
        await store.close()


async def holding(scratch: Path, number: int) -> Path:
    """Return a closed store where ``number`` events wait; made once in a run, to be copied and not changed."""
    folder = scratch / f"{HOLDING}{number}"
    if not folder.exists():
        fresh = scratch / f"filling-{number}"
        async with opened(fresh) as parts:
            await parts.fill(number)
        fresh.rename(folder)
    return folder


def copied(folder: Path, to: Path) -> Path:
    """Copy a closed store; what is copied is on disk before anything is measured."""
    shutil.copytree(folder, to, dirs_exist_ok=True)
    os.sync()
    return to


def readings(number: int) -> Sequence[OutgoingReading]:
    """Return ``number`` readings of one device, each at its own time."""
    now = time.time()
    return [
        OutgoingReading(device="device-000", property="level", unit="mm", time=now + count / 1_000_000, value=count)
        for count in range(number)
    ]
