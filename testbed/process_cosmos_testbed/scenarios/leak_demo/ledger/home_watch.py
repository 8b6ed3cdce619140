"""What Home Assistant says by its WebSocket API: leaks and valves of its own, alerts, effects of answers."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from process_cosmos_testbed.home_assistant.client import HomeAssistantClient, HomeAssistantUnreachableError

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
        self._states: dict[str, str] = {}
        self.watching = asyncio.Event()

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            try:
                async with HomeAssistantClient(*self._home) as home:
                    await self._watch(home)
                    self.watching.set()
                    await home.until_gone()
            except HomeAssistantUnreachableError:
                await asyncio.sleep(RETRY_SECONDS)
            finally:
                self.watching.clear()

    async def _watch(self, home: HomeAssistantClient) -> None:
        await home.until_running()
        await home.subscribe(self._alert, "subscribe_trigger", trigger=TRIGGER)
        entities = [*self._watched.sensors, *self._watched.closings, *self._watched.effects]
        await home.subscribe(self.take_states, "subscribe_entities", entity_ids=entities)

    def _alert(self, event: dict[str, Any]) -> None:
        self._book.write(Opened(alert=event["variables"]["trigger"]["alert"]))

    def take_states(self, event: dict[str, Any]) -> None:
        """Read Home Assistant's compressed states: all of them at first (a), then what changes (c)."""
        states = {entity: state["s"] for entity, state in event.get("a", {}).items()}
        states |= {
            entity: change["+"]["s"] for entity, change in event.get("c", {}).items() if "s" in change.get("+", {})
        }
        for entity, state in states.items():
            before = self._states.get(entity)
            if entity in self._watched.sensors:
                if state == "on" and before != "on":
                    self._book.write(Leak(sensor=entity))
            elif state.isdigit():
                self._count(entity, int(state) - int(before or 0))
            else:
                continue
            self._states[entity] = state

    def _count(self, entity: str, steps: int) -> None:
        """Write one record for each step of a counter, also for those that went by while nobody could look."""
        for _ in range(steps):
            if valve := self._watched.closings.get(entity):
                self._book.write(Command(valve=valve, closes=True, at=time.monotonic()))
            else:
                self._book.write(ActionRun(effect=self._watched.effects[entity]))


TRIGGER = {"trigger": "process_cosmos.alert_opened", "options": {}}
