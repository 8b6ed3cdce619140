"""Fills the outbox of a stopped gateway, in a process of its own."""

import asyncio
import os
import time
from itertools import batched
from pathlib import Path

from process_cosmos_gateway.clock import SystemClock
from process_cosmos_gateway.contract.destinations import EventKind, Priority
from process_cosmos_gateway.contract.events import event_type
from process_cosmos_gateway.contract.identifiers import UlidFactory
from process_cosmos_gateway.outbox import Event, Limits, Outbox
from process_cosmos_gateway.store import Store
from process_cosmos_testbed.virtual_devices.sensors import TICK

_BATCH = 4000
_ROOM = 1 << 40


def fill(folder: Path, count: int, judged: int, device: str) -> None:
    """Store ``count`` events durably, which the outbox accepts as any others.

    The first ``judged`` are ticks of ``device`` that the ledger counts; the rest are ballast.
    """
    asyncio.run(_fill(folder, count, judged, device))


async def _fill(folder: Path, count: int, judged: int, device: str) -> None:
    ulids, clock = UlidFactory(lambda: time.time_ns() // 1_000_000, os.urandom), SystemClock()
    store = await Store.open(folder, ulids)
    outbox = Outbox(store, clock, Limits(quota=dict.fromkeys(Priority, _ROOM)))

    def event(number: int) -> Event:
        name = TICK if number <= judged else "ballast"
        return Event(
            id=ulids(),
            type=event_type("device", "event"),
            kind=EventKind.DEVICE,
            priority=Priority.CHANGE,
            subject=device,
            key=device,
            time=clock.now(),
            data={"device": device, "title": "Filled", "event": name, "value": number},
        )

    try:
        for numbers in batched(range(1, count + 1), _BATCH, strict=False):
            await asyncio.gather(*(outbox.accept(event(number)) for number in numbers))
    finally:
        await store.close()
