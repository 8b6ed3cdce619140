"""Observes devices, phones, Home Assistant and destinations, and has it judged, without asking the gateway anything."""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from process_cosmos_testbed.home_assistant.push_service import Push, PushService
from process_cosmos_testbed.processes import until

from .evidence import DeviceEvent, EventArrival, Expected, Notified, Record
from .judge import DemoJudgement, judge

ARRIVES_WITHIN = 80.0
"""Seconds the gateway may take to notice that the link is back: it waits up to half a minute between tries."""

_SOON = 30.0


def read_arrival(destination: str, event: Mapping[str, Any], *, fresh: bool) -> EventArrival:
    """Read a CloudEvent, or a line of the cloud endpoint's ledger, as an arrival."""
    data = event.get("data")
    fields: Mapping[str, Any] = data if isinstance(data, dict) else {}
    affordance = str(fields.get("property") or fields.get("event") or "")
    is_device = event["type"].startswith("process_cosmos.device.") and affordance
    return EventArrival(
        destination=destination,
        id=event["id"],
        type=event["type"],
        subject=event.get("subject", ""),
        device=(fields["device"], affordance) if is_device else None,
        value=fields.get("value") if is_device else None,
        count=fields.get("count"),
        marked=fields.get("possible_repeat") is True,
        fresh=fresh,
    )


class Observer:
    """Records everything in memory and in ``folder``/ledger.jsonl."""

    def __init__(self, folder: Path) -> None:
        """Begin with an empty record."""
        self.records: list[Record] = []
        self.expected = Expected()
        self.push_service = PushService(self.take_push)
        self._file = folder / "ledger.jsonl"
        self._values: dict[tuple[str, str], Any] = {}
        self._counts_device_events = False
        self._mark = 0
        self._in_flight: tuple[str, frozenset[str]] = ("", frozenset())

    def write(self, record: Record) -> None:
        """Append a record."""
        self.records.append(record)
        line = orjson.dumps({"at": round(time.time(), 4), "what": type(record).__name__, "record": record})
        with self._file.open("ab") as file:
            file.write(line + b"\n")

    def take_event(self, destination: str, event: Mapping[str, Any], fresh: bool) -> None:  # noqa: FBT001 - a callback
        """Record an event that arrived at a destination."""
        self.write(read_arrival(destination, event, fresh=fresh))

    def take_push(self, push: Push) -> None:
        """Record a notification; a push without buttons only informs."""
        if push.buttons:
            key = f"{push.alert}/{push.revision}"
            self.write(Notified(phone=push.phone, alert=push.alert, key=key, at=push.at))

    def take_message(self, device: str, path: str, payload: bytes) -> None:
        """Record an event of a device, or a transition of a boolean, once the broker has acknowledged it."""
        group, name = path.split("/")
        value = orjson.loads(payload)
        is_transition = isinstance(value, bool) and value != self._values.get((device, name))
        self._values[device, name] = value
        if self._counts_device_events and (group == "events" or is_transition):
            self.write(DeviceEvent(device=(device, name), value=value))

    def begin(self) -> None:
        """Record device events from now on: the destinations are configured."""
        self._counts_device_events = True

    def mark(self) -> None:
        """Remember this moment for the methods that look at what came later."""
        self._mark = len(self.records)

    async def until_arrival(self, destination: str) -> None:
        """Return when an event has arrived at ``destination`` since the mark."""
        await until(lambda: self._arrived(destination), f"arrival at {destination}", ARRIVES_WITHIN)

    def note_in_flight(self, destination: str) -> int:
        """Remember the events that arrived since the mark, whose receipts are still on their way; return how many."""
        self._in_flight = (destination, frozenset(self._arrived(destination)))
        return len(self._in_flight[1])

    def proven_in_flight(self) -> int:
        """Return how many of the remembered events arrived again, because the gateway was killed before the receipt."""
        destination, noted = self._in_flight
        times = Counter(
            record.id
            for record in self.records
            if isinstance(record, EventArrival) and record.destination == destination and record.id in noted
        )
        return sum(number > 1 for number in times.values())

    async def until_notified(self, phones: int, alert: str) -> None:
        """Return when ``phones`` phones have been notified of ``alert``."""
        await until(lambda: len(self._phones(0, alert)) >= phones, f"notifications of {alert} on all phones", _SOON)

    async def until_notified_since_mark(self, phones: int) -> None:
        """Return when ``phones`` phones have been notified of any alert since the mark."""
        await until(lambda: len(self._phones(self._mark)) >= phones, "notifications on all phones", ARRIVES_WITHIN)

    def button(self, alert: str, phone: str, title: str) -> str:
        """Return the action id of the button ``title`` that ``phone`` shows for ``alert``."""
        # Newest first: the notifications of an alert have one tag, so that a phone shows only the latest.
        shown = reversed(self.push_service.notifications_of(phone))
        return next(push.buttons[title] for push in shown if push.alert == alert and push.buttons)

    async def judge(self) -> DemoJudgement:
        """Judge everything observed so far against ``expected``."""
        # A copy, because records are added while the thread reads.
        return await asyncio.to_thread(judge, tuple(self.records), self.expected)

    def _arrived(self, destination: str) -> set[str]:
        since = self.records[self._mark :]
        return {each.id for each in since if isinstance(each, EventArrival) and each.destination == destination}

    def _phones(self, since: int, alert: str | None = None) -> set[str]:
        notified = (each for each in self.records[since:] if isinstance(each, Notified))
        return {each.phone for each in notified if alert is None or each.alert == alert}
