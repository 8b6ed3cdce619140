"""The demo's site: the testbed's processes, a real Home Assistant, a kitchen, and what observes them."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from process_cosmos_testbed.home_assistant.process import HomeAssistantProcess
from process_cosmos_testbed.services import GatewayProcess
from process_cosmos_testbed.testbed import Testbed

from .kitchen import Kitchen, connected_kitchen
from .observer import Observer

HOME_ASSISTANT_ENTITIES = """\
counter:
  cellar_valve_closings: {name: Closings of the cellar valve}
  pump_restarts: {name: Restarts of the pump}
  neighbour_called: {name: Calls to the neighbour}
input_boolean:
  cellar_water: {name: Water in the cellar}
  cellar_valve_open: {name: Cellar valve open, initial: true}
template:
  - binary_sensor:
      - name: Cellar floor
        unique_id: cellar_floor
        device_class: moisture
        state: "{{ is_state('input_boolean.cellar_water', 'on') }}"
  - switch:
      - name: Cellar valve
        unique_id: cellar_valve
        state: "{{ is_state('input_boolean.cellar_valve_open', 'on') }}"
        turn_on:
          - {action: input_boolean.turn_on, target: {entity_id: input_boolean.cellar_valve_open}}
        turn_off:
          - {action: input_boolean.turn_off, target: {entity_id: input_boolean.cellar_valve_open}}
          - {action: counter.increment, target: {entity_id: counter.cellar_valve_closings}}
"""
"""A sensor and a valve of Home Assistant's own, which need no gateway; the counter counts each closing."""

CELLAR_SENSOR = "binary_sensor.cellar_floor"
CELLAR_VALVE = "switch.cellar_valve"
CELLAR_WATER = "input_boolean.cellar_water"
CELLAR_CLOSINGS = "counter.cellar_valve_closings"
CELLAR_OPEN = "input_boolean.cellar_valve_open"


class DemoSite(Testbed[GatewayProcess]):
    """A site with a real Home Assistant; all of it runs inside ``started``. The broker logs each packet as evidence."""

    def __init__(self, folder: Path, settings: Mapping[str, Any] | None = None, yaml: str = "") -> None:
        """Keep everything in ``folder``; ``yaml``: further configuration of Home Assistant."""
        self.observer = Observer(folder)
        gateway = GatewayProcess(folder)
        super().__init__(folder, gateway, self.observer.take_event, settings or {}, log_types="all")
        self.is_direct = True
        self.home_assistant = HomeAssistantProcess(folder, HOME_ASSISTANT_ENTITIES + yaml)
        self.kitchen: Kitchen

    @asynccontextmanager
    async def started(self) -> AsyncIterator[DemoSite]:
        """Run everything inside the block."""
        async with self.running() as stack:
            await stack.enter_async_context(self.observer.observing(self.broker.port))
            stack.push_async_callback(self.home_assistant.stop, 30)
            await self.home_assistant.start()
            self.background.watch(self.home_assistant)
            self.kitchen = await stack.enter_async_context(connected_kitchen(self.broker.options))
            yield self

    async def one_time_code(self) -> str:
        """Return a one-time code of the cloud endpoint, which leads through the proxy."""
        return await self.cloud.one_time_code(self.to_cloud.port)

    async def answer_at_the_cloud(self, alert: str, answer: str, by: str) -> None:
        """Answer an alert as an operator at the cloud endpoint does."""
        await self.cloud.run_command("answer", "--by", by, alert, answer)
