"""Reads CloudEvents, and the cloud endpoint's own log of them, as arrivals."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson

from .book import Book
from .evidence import Arrival

LONGEST_LINE = 16 << 20


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
        taken_as_new=None if "duplicate" not in event else not event["duplicate"],
    )


async def follow_cloud(command: Sequence[str | Path], book: Book) -> None:
    """Write every arrival that the cloud endpoint logged into the book, repeats included, as they come."""
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, limit=LONGEST_LINE)
    if process.stdout is None:
        raise RuntimeError("the process was started with a pipe")
    try:
        async for line in process.stdout:
            book.write(arrival_of("cloud", orjson.loads(line)))
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
