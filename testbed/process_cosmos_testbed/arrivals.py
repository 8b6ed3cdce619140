"""Reads CloudEvents, as destinations get them, into arrivals of the ledger's items."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from process_cosmos_gateway.contract.destinations import Priority
from process_cosmos_gateway.contract.events import event_type
from process_cosmos_gateway.contract.identifiers import split_names

from .event_producer import EVENT_TYPE
from .ledger import UNNUMBERED, Arrival, Item
from .virtual_devices.sensors import LEVEL, PULSE, TICK, pulse_key

_ALERT = event_type("alert").removesuffix("v1")
# Reports the state of an alert once after a store was recovered or restored; its last event was sent before.
_STATE_REPORT = event_type("alert", "reconciled")
_DEVICE_EVENT = event_type("device", "event")
_READING = event_type("reading")
_READINGS = event_type("readings")

_POLL_SECONDS = 0.05


async def read_lines(file: Path) -> AsyncIterator[Mapping[str, Any]]:
    """Yield each line of JSON that another process appends to ``file``; never ends."""
    rest = b""
    with file.open("rb") as lines:
        while True:
            # The other process may be writing a line: its beginning waits for the rest.
            *complete, rest = (rest + lines.read()).split(b"\n")
            for line in complete:
                yield orjson.loads(line)
            await asyncio.sleep(_POLL_SECONDS)


def arrivals_of(event: Mapping[str, Any], *, fresh: bool) -> Iterator[Arrival]:
    """Yield the items that arrived with ``event``; none for events that the testbed's producers do not number."""
    data = event.get("data")
    marked = isinstance(data, dict) and data.get("possible_repeat") is True
    for item, at in _items(str(event["type"]), str(event.get("subject")), data):
        yield Arrival(item=item, event=str(event["id"]), fresh=fresh, at=at, marked=marked)


def _items(kind: str, subject: str, data: Any) -> Iterator[tuple[Item, float | None]]:  # noqa: ANN401 - JSON
    if kind.startswith(_ALERT) and kind != _STATE_REPORT:
        yield Item(Priority.URGENT, subject, data["count"]), None
    elif kind == EVENT_TYPE:
        yield Item(Priority(data["priority"]), subject, data["number"]), None
    elif kind == _DEVICE_EVENT and data["event"] == TICK:
        yield Item(Priority.CHANGE, data["device"], data["value"]), None
    elif kind == _DEVICE_EVENT and data["event"] == PULSE:
        yield Item(Priority.CHANGE, pulse_key(data["device"]), UNNUMBERED), None
    elif kind == _READING and data["property"] == LEVEL:
        for reading in data["readings"]:
            moment = datetime.fromisoformat(reading["time"]).timestamp()
            yield Item(Priority.READING, data["device"], round(reading["value"])), round(moment, 3)
    elif kind == _READINGS:
        yield from _read_pack(data)


def _read_pack(records: Sequence[Mapping[str, Any]]) -> Iterator[tuple[Item, float]]:
    """Yield the readings of a SenML pack (RFC 8428) with base fields resolved; names join device and property."""
    name = ""
    time = value = 0.0
    for record in records:
        name, time, value = record.get("bn", name), record.get("bt", time), record.get("bv", value)
        device, property_name = split_names(f"{name}{record.get('n', '')}")
        if property_name == LEVEL and "v" in record:
            # The sum may differ from the sent time in its last bits; the ledger compares milliseconds.
            at = round(time + record.get("t", 0.0), 3)
            yield Item(Priority.READING, device, round(value + record["v"])), at
