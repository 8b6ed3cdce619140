"""Observes broker, phones, Home Assistant and destinations, and has it judged, without asking the gateway anything."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson

from process_cosmos_testbed.home_assistant.push_service import Push, PushService
from process_cosmos_testbed.processes import Background, until

from .broker_log import Acknowledged, read_acknowledged
from .broker_watch import BrokerWatch
from .evidence import EventArrival, Expected, Notified, Record
from .home_assistant_watch import HomeAssistantWatch
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
        source=event.get("source") or f"/sites/{event['site']}",
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
        self._file = (folder / "ledger.jsonl").open("wb")
        self._broker_log = folder / "broker.log"
        self._broker: BrokerWatch
        self._home: HomeAssistantWatch | None = None
        self._mark = 0
        self._in_flight: tuple[str, frozenset[str]] = ("", frozenset())

    @asynccontextmanager
    async def observing(self, broker_port: int) -> AsyncIterator[None]:
        """Observe broker and phones inside the block."""
        async with self.push_service.listening():
            self._broker = BrokerWatch(broker_port, self.write)
            await self._broker.start()
            try:
                yield
            finally:
                self._broker.stop()
                self.close()

    async def watch_home_assistant(self, watch: HomeAssistantWatch, background: Background) -> None:
        """Observe Home Assistant from now on; return when no change can be missed."""
        self._home = watch
        background.add("watch of Home Assistant", watch.run())
        await watch.watching.wait()

    async def until_watching(self) -> None:
        """Return when Home Assistant is observed again after its restart."""
        if self._home is not None:
            await self._home.watching.wait()

    def write(self, record: Record) -> None:
        """Append a record."""
        self.records.append(record)
        line = orjson.dumps({"at": round(time.time(), 4), "what": type(record).__name__, "record": record})
        self._file.write(line + b"\n")

    def take_event(self, destination: str, event: Mapping[str, Any], fresh: bool) -> None:  # noqa: FBT001 - a callback
        """Record an event that arrived at a destination."""
        self.write(read_arrival(destination, event, fresh=fresh))

    def take_push(self, push: Push) -> None:
        """Record a notification; a push without buttons only informs."""
        if push.buttons:
            key = f"{push.alert}/{push.revision}"
            self.write(Notified(phone=push.phone, alert=push.alert, key=key, at=push.at))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def begin(self) -> None:
        """Count device events from now on: the destinations are configured."""
        self._broker.begin()

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
        return next(push.buttons[title] for push in reversed(self.push_service.alerts_of(phone)) if push.alert == alert)

    async def judge(self) -> DemoJudgement:
        """Judge everything observed so far against ``expected``."""
        records = list(self.records)
        source = next((record.source for record in records if isinstance(record, EventArrival)), "")
        site = source.removeprefix("/sites/")
        records += self._broker.events(await asyncio.to_thread(self._acknowledged, site))
        return await asyncio.to_thread(judge, records, self.expected)

    def _acknowledged(self, site: str) -> Acknowledged:
        with self._broker_log.open(errors="replace") as lines:
            return read_acknowledged(site, lines)

    def _arrived(self, destination: str) -> set[str]:
        since = self.records[self._mark :]
        return {each.id for each in since if isinstance(each, EventArrival) and each.destination == destination}

    def _phones(self, since: int, alert: str | None = None) -> set[str]:
        notified = (each for each in self.records[since:] if isinstance(each, Notified))
        return {each.phone for each in notified if alert is None or each.alert == alert}
