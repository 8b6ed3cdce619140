"""Helpers for tests of the outbox: events, readings and a draining destination."""

from collections.abc import Sequence
from typing import Any

import orjson

from process_cosmos_gateway.contract.destinations import EventKind, Priority
from process_cosmos_gateway.contract.events import event_type
from process_cosmos_gateway.outbox import Added, Delivered, Delivery, Event, Outbox, OutgoingReading
from process_cosmos_gateway.store import Store
from tests.gateway.store.parts import HandClock, new_ulids

WITHIN = 20
ULIDS = new_ulids()
ALL = (EventKind.ALERT, EventKind.DEVICE, EventKind.READING)
KINDS = {
    Priority.URGENT: EventKind.ALERT,
    Priority.CHANGE: EventKind.DEVICE,
}


def event(name: str, key: str = "key", priority: Priority = Priority.URGENT, **more: object) -> Event:
    """Return an event with the data ``{"name": name}``; ``more`` overrides fields."""
    values: dict[str, Any] = {
        "id": ULIDS(),
        "type": event_type("test", "happened"),
        "kind": KINDS[priority],
        "priority": priority,
        "subject": key,
        "key": key,
        "time": HandClock().now(),
        "data": {"name": name},
    }
    return Event(**{**values, **more})


def names(deliveries: Sequence[Delivery]) -> list[str]:
    """Return the names in the data of ``deliveries``; each reading is named after its value, as ``m0``."""
    return [name for delivery in deliveries for name in _names(orjson.loads(delivery.body)["data"])]


def _names(data: Any) -> list[str]:  # noqa: ANN401 - JSON
    return [data["name"]] if isinstance(data, dict) else [f"m{record['v']:g}" for record in data]


def readings(*values: float, device: str = "meter") -> list[OutgoingReading]:
    """Return one reading per value."""
    return [
        OutgoingReading(device=device, property="level", unit="l", time=100.0 + each, value=each) for each in values
    ]


async def enqueue_readings(store: Store, outbox: Outbox, *values: float) -> None:
    """Enqueue one reading per value."""
    await store.write(lambda transaction: outbox.add_readings(transaction, readings(*values)))


async def accept(outbox: Outbox, *events: Event) -> None:
    """Accept ``events``, each for the first time."""
    for each in events:
        assert await outbox.accept(each) is Added.ADDED


async def drain(outbox: Outbox, destination: str, limit: int = 500) -> list[str]:
    """Confirm every available delivery of ``destination``; return their names."""
    drained: list[str] = []
    while deliveries := await outbox.deliveries(destination, limit):
        drained += names(deliveries)
        await outbox.settle(destination, [(delivery, Delivered()) for delivery in deliveries])
    return drained
