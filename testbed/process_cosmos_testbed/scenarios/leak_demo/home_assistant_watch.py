"""Watches Home Assistant by its WebSocket API: leaks and valves of its own, alerts, effects of answers."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from process_cosmos_testbed.home_assistant.client import HomeAssistantClient, HomeAssistantUnreachableError

from .evidence import ActionRun, AlertOpened, Leak, Record, ValveCommand

RETRY_SECONDS = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """The entities to watch: ``sensors`` turn on at a leak; counters count closings of a valve, or an effect."""

    effects: Mapping[str, str]
    sensors: tuple[str, ...] = ()
    closings: Mapping[str, str] = field(default_factory=dict)


class HomeAssistantWatch:
    """A client of Home Assistant that reconnects after each restart."""

    def __init__(self, url: str, token: str, watched: Watched, write: Callable[[Record], None]) -> None:
        """Connect to ``url`` with the owner's ``token``; ``write`` gets each record."""
        self._home = (url, token)
        self._watched = watched
        self._write = write
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
        self._write(AlertOpened(alert=event["variables"]["trigger"]["alert"]))

    def take_states(self, event: dict[str, Any]) -> None:
        """Read Home Assistant's compressed states: all at first (a), then changes (c)."""
        states = {entity: state["s"] for entity, state in event.get("a", {}).items()}
        states |= {
            entity: change["+"]["s"] for entity, change in event.get("c", {}).items() if "s" in change.get("+", {})
        }
        for entity, state in states.items():
            before = self._states.get(entity)
            if entity in self._watched.sensors:
                if state == "on" and before != "on":
                    self._write(Leak(sensor=entity))
            elif state.isdigit():
                self._count(entity, int(state) - int(before or 0))
            else:
                continue
            self._states[entity] = state

    def _count(self, entity: str, steps: int) -> None:
        """Write a record for each step of a counter, also for those between two connections."""
        for _ in range(steps):
            if valve := self._watched.closings.get(entity):
                self._write(ValveCommand(valve=valve, closes=True, at=time.monotonic()))
            else:
                self._write(ActionRun(effect=self._watched.effects[entity]))


TRIGGER = {"trigger": "process_cosmos.alert_opened", "options": {}}
