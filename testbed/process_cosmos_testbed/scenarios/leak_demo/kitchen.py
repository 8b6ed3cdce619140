"""The kitchen: a leak sensor, a valve and a thermometer, each on a connection of its own."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import override

from process_cosmos_gateway.contract.devices import Value
from process_cosmos_gateway.options import BrokerOptions
from process_cosmos_testbed.virtual_devices.kinds import OPEN, LeakSensor, TemperatureSensor, Valve

from .evidence import Leak, ValveCommand
from .observer import Observer

_LIMIT = 60.0
"""Seconds within which a leak must close the valve."""


class _ObservedValve(Valve):
    """A valve whose commands are recorded."""

    observer: Observer

    @override
    def on_write(self, name: str, value: Value) -> None:
        self.observer.write(ValveCommand(valve=self.topic, closes=value is False, at=time.monotonic()))
        super().on_write(name, value)


@dataclass(frozen=True, slots=True)
class Kitchen:
    """What happens in the kitchen; times are measured by one monotonic clock."""

    _sensor: LeakSensor
    _valve: Valve
    _observer: Observer

    async def leak(self) -> float:
        """Make the sensor wet; return the milliseconds from the report to the command that closes the valve."""
        # Counted first: the command may arrive before the broker has acknowledged the sensor's messages.
        before = len(self._valve.commands)
        begun = time.monotonic()
        await self.flood()
        await self._valve.until(lambda: len(self._valve.commands) > before, _LIMIT)
        return (self._valve.commands[before].at - begun) * 1000

    async def flood(self) -> None:
        """Make the sensor wet; return when the broker has acknowledged it."""
        self._observer.write(Leak(sensor=self._sensor.topic))
        await self._sensor.set(True)

    async def dry(self) -> None:
        """Open the valve by hand and make the sensor dry."""
        await self._valve.report(OPEN, value=True)
        await self._sensor.set(False)

    async def until_closed(self) -> None:
        """Return when the valve is closed."""
        await self._valve.until(lambda: not self._valve.is_open, _LIMIT)

    async def until_open(self) -> None:
        """Return when the valve is open."""
        await self._valve.until(lambda: self._valve.is_open, _LIMIT)


@asynccontextmanager
async def connected_kitchen(broker: BrokerOptions, observer: Observer) -> AsyncIterator[Kitchen]:
    """Connect the devices inside the block: dry, the valve open."""
    async with (
        LeakSensor(broker, "leak-kitchen", "Kitchen floor") as sensor,
        _ObservedValve(broker, "valve-kitchen", "Kitchen valve", probe=sensor) as valve,
        TemperatureSensor(broker, "temperature-kitchen", "Kitchen", every=1.0) as temperature,
    ):
        valve.observer = observer
        for device in (sensor, valve, temperature):
            device.on_acknowledged = partial(observer.take_message, device.topic)
            await device.connected.wait()
        kitchen = Kitchen(sensor, valve, observer)
        await kitchen.dry()
        yield kitchen
