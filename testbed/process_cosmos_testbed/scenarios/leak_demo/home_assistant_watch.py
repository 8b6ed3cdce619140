"""Watches Home Assistant by its WebSocket API: leaks and valves of its own, alerts, effects of answers."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from process_cosmos_testbed.home_assistant.client import HomeAssistantClient, HomeAssistantUnreachableError

from .cellar import CELLAR_CLOSINGS, CELLAR_SENSOR, CELLAR_VALVE, EFFECTS
from .evidence import ActionRun, AlertOpened, Leak, Record, ValveCommand

RETRY_SECONDS = 0.1


@dataclass(slots=True)
class HomeAssistantWatch:
    """A client of Home Assistant that reconnects after each restart.

    ``opened``: alerts that opened and were not looked at yet. ``closed``: all that were answered or resolved.
    """

    _url: str
    _token: str
    _write: Callable[[Record], None]
    _states: dict[str, str] = field(default_factory=dict)
    watching: asyncio.Event = field(default_factory=asyncio.Event)
    opened: asyncio.Queue[str] = field(default_factory=asyncio.Queue)
    closed: set[str] = field(default_factory=set)

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            try:
                async with HomeAssistantClient(self._url, self._token) as home:
                    await self._watch(home)
                    self.watching.set()
                    await home.until_gone()
            except HomeAssistantUnreachableError:
                await asyncio.sleep(RETRY_SECONDS)
            finally:
                self.watching.clear()

    async def _watch(self, home: HomeAssistantClient) -> None:
        await home.until_running()
        for state in ("opened", "answered", "resolved"):
            trigger = {"trigger": f"process_cosmos.alert_{state}", "options": {}}
            await home.subscribe(partial(self._take_alert, state), "subscribe_trigger", trigger=trigger)
        entities = [CELLAR_SENSOR, CELLAR_CLOSINGS, *EFFECTS]
        await home.subscribe(self.take_states, "subscribe_entities", entity_ids=entities)

    def _take_alert(self, state: str, event: dict[str, Any]) -> None:
        alert = str(event["variables"]["trigger"]["alert"])
        if state == "opened":
            self._write(AlertOpened(alert=alert))
            self.opened.put_nowait(alert)
        else:
            self.closed.add(alert)

    def take_states(self, event: dict[str, Any]) -> None:
        """Read Home Assistant's compressed states: all at first (a), then changes (c)."""
        states = {entity: state["s"] for entity, state in event.get("a", {}).items()}
        states |= {
            entity: change["+"]["s"] for entity, change in event.get("c", {}).items() if "s" in change.get("+", {})
        }
        for entity, state in states.items():
            before = self._states.get(entity)
            if entity == CELLAR_SENSOR:
                if state == "on" and before != "on":
                    self._write(Leak(sensor=entity))
            elif state.isdigit():
                self._count(entity, int(state) - int(before or 0))
            else:
                continue  # the counter is unavailable: its last value still counts
            self._states[entity] = state

    def _count(self, entity: str, steps: int) -> None:
        """Write a record for each step of a counter, also for those between two connections."""
        for _ in range(steps):
            if entity == CELLAR_CLOSINGS:
                self._write(ValveCommand(valve=CELLAR_VALVE, closes=True, at=time.monotonic()))
            else:
                self._write(ActionRun(effect=EFFECTS[entity]))
