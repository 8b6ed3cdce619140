"""What Home Assistant says by its WebSocket API: leaks and valves of its own, escalations, effects of answers."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from demo.home import Home, HomeAwayError

from .book import Book
from .evidence import ActionRun, Command, Leak, Opened

RETRY_SECONDS = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """Entities worth a look. ``sensors`` turn on at a leak; counters count closings of a valve, or an effect."""

    sensors: tuple[str, ...]
    closings: Mapping[str, str]
    effects: Mapping[str, str]


class HomeWatch:
    """A client of Home Assistant that comes back after each of its restarts."""

    def __init__(self, url: str, token: str, watched: Watched, book: Book) -> None:
        """Take the address, the owner's token, what to look at, and the book."""
        self._home = (url, token)
        self._watched = watched
        self._book = book
        self._counts: dict[str, int] = {}
        self.watching = asyncio.Event()

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            try:
                async with Home(*self._home) as home:
                    await self._watch(home)
                    self.watching.set()
                    await home.until_gone()
            except HomeAwayError:
                await asyncio.sleep(RETRY_SECONDS)
            finally:
                self.watching.clear()

    async def _watch(self, home: Home) -> None:
        await home.until_running()
        await home.subscribe(self._escalation, "subscribe_trigger", trigger=TRIGGER)
        await home.subscribe(self._state, "subscribe_events", event_type="state_changed")
        for state in await home.get("/api/states"):
            self._count(state["entity_id"], state["state"])

    def _escalation(self, event: dict[str, Any]) -> None:
        self._book.write(Opened(escalation=event["variables"]["trigger"]["escalation"]))

    def _state(self, event: dict[str, Any]) -> None:
        data = event["data"]
        entity, new, old = data["entity_id"], data["new_state"], data["old_state"]
        if new is None:
            return
        if entity in self._watched.sensors and new["state"] == "on" and (old is None or old["state"] != "on"):
            self._book.write(Leak(sensor=entity))
        self._count(entity, new["state"])

    def _count(self, entity: str, state: str) -> None:
        """Write one record for each step of a counter, also for those that went by while nobody could look."""
        if not state.isdigit() or (entity not in self._watched.closings and entity not in self._watched.effects):
            return
        for _ in range(int(state) - self._counts.get(entity, 0)):
            if valve := self._watched.closings.get(entity):
                self._book.write(Command(valve=valve, closes=True))
            else:
                self._book.write(ActionRun(effect=self._watched.effects[entity]))
        self._counts[entity] = max(int(state), self._counts.get(entity, 0))


TRIGGER = {"trigger": "process_cosmos.escalation_opened", "options": {}}
