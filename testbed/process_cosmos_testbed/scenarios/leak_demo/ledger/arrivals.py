"""Reads CloudEvents, and the cloud endpoint's own log of them, as arrivals."""

import asyncio
from pathlib import Path
from typing import Any

import orjson

from .book import Book
from .evidence import Arrival

LOOK_EVERY = 0.05
"""Seconds between two looks at a file that another process writes."""


def arrival_of(destination: str, event: dict[str, Any]) -> Arrival:
    """Return what a CloudEvent, or a line of the cloud endpoint's log, says to a ledger."""
    data = event.get("data")
    device: tuple[str, str] | None = None
    value = None
    if event["type"].startswith("process_cosmos.device.") and isinstance(data, dict):
        affordance = data.get("property") or data.get("event")
        if affordance is not None:
            device, value = (data["device"], affordance), data.get("value")
    return Arrival(
        destination=destination,
        id=event["id"],
        type=event["type"],
        subject=event.get("subject", ""),
        source=event.get("source") or f"/sites/{event['site']}",
        device=device,
        value=value,
        count=data.get("count") if isinstance(data, dict) else None,
        marked=isinstance(data, dict) and data.get("possible_repeat") is True,
        taken_as_new=None if "duplicate" not in event else not event["duplicate"],
    )


async def follow_arrivals(file: Path, book: Book) -> None:
    """Write every line of the cloud endpoint's own log into the book, repeats included, as they come."""
    rest = b""
    with file.open("rb") as log:
        while True:
            *lines, rest = (rest + log.read()).split(b"\n")
            for line in lines:
                book.write(arrival_of("cloud", orjson.loads(line)))
            await asyncio.sleep(LOOK_EVERY)
