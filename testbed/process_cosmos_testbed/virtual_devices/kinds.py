"""Kinds of virtual devices: leak sensor, valve, temperature sensor."""

import asyncio
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import override

from process_cosmos_gateway.contract.devices import Value
from process_cosmos_gateway.options import BrokerOptions

from .device import Json, VirtualDevice

LEAK = "leak"
LEAK_DETECTED = "leak_detected"
OPEN = "open"
TEMPERATURE = "temperature"

_CHECK_SECONDS = 0.05


class LeakSensor(VirtualDevice):
    """Reports ``leak`` (wet: true) and emits the device event ``leak_detected`` each time it gets wet."""

    def __init__(self, broker: BrokerOptions, name: str, title: str | None = None, *, wet: bool = False) -> None:
        """Begin dry unless ``wet``."""
        super().__init__(broker, name, title)
        self.values[LEAK] = wet

    @property
    def wet(self) -> bool:
        """Whether the sensor is wet, reported or not."""
        return self.values[LEAK] is True

    async def set(self, wet: bool) -> None:  # noqa: FBT001 - sensor.set(True) reads well
        """Make the sensor wet or dry; return when the broker has acknowledged value and event."""
        became_wet = wet and not self.wet
        await self.report(LEAK, wet)
        if became_wet:
            await self.emit(LEAK_DETECTED, value=True)

    @override
    def properties(self) -> Mapping[str, Json]:
        return {LEAK: {"title": "Leak", "type": "boolean", "@type": "Moisture", "readOnly": True}}

    @override
    def events(self) -> Mapping[str, Json]:
        return {LEAK_DETECTED: {"title": "Leak detected", "data": {"type": "boolean"}}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A write the valve received: ``at`` is monotonic time (``time.monotonic``)."""

    at: float
    value: bool


class Valve(VirtualDevice):
    """Reports ``open`` and accepts writes to it; ``commands`` has every write it received.

    Without the broker it closes at once when its wired ``probe`` is wet, and in any case after ``safe_after`` seconds
    (None: never). When the broker is back it reports its state, and stays as it is.
    """

    def __init__(
        self,
        broker: BrokerOptions,
        name: str,
        title: str | None = None,
        *,
        probe: LeakSensor | None = None,
        safe_after: float | None = 60.0,
        obedient: bool = True,
    ) -> None:
        """Begin open. ``obedient`` False: it receives commands and does not move."""
        super().__init__(broker, name, title)
        self.values[OPEN] = True
        self.commands: list[Command] = []
        self.obedient = obedient
        self._probe = probe
        self._safe_after = safe_after
        self._moves: asyncio.Queue[bool] = asyncio.Queue()

    @property
    def is_open(self) -> bool:
        """Whether water flows."""
        return self.values[OPEN] is True

    @override
    def properties(self) -> Mapping[str, Json]:
        return {OPEN: {"title": "Open", "type": "boolean", "@type": "Valve"}}

    @override
    def on_write(self, name: str, value: Value) -> None:
        if name == OPEN and isinstance(value, bool):
            self.commands.append(Command(at=time.monotonic(), value=value))
            if self.obedient:
                self.values[OPEN] = value
                self._moves.put_nowait(value)  # reported by a task, since this callback cannot wait for the broker

    @override
    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._report_moves())
            while True:
                await asyncio.sleep(_CHECK_SECONDS)
                if self.is_open and self._must_close_itself():
                    self.values[OPEN] = False
                    self._moves.put_nowait(False)

    async def _report_moves(self) -> None:
        while True:
            await self.report(OPEN, await self._moves.get())

    def _must_close_itself(self) -> bool:
        if self.cut_off is None:
            return False
        if self._probe is not None and self._probe.wet:
            return True
        return self._safe_after is not None and time.monotonic() - self.cut_off >= self._safe_after


class TemperatureSensor(VirtualDevice):
    """Reports ``temperature`` (°C) on ``set``, and with ``every`` also by itself, as a random walk in small steps."""

    def __init__(
        self,
        broker: BrokerOptions,
        name: str,
        title: str | None = None,
        *,
        every: float | None = None,
        seed: int = 0,
    ) -> None:
        """Begin at 20 °C; ``every``: seconds between two reports of its own."""
        super().__init__(broker, name, title)
        self.values[TEMPERATURE] = 20.0
        self._every = every
        self._random = random.Random(seed)  # noqa: S311 - a seed makes a run repeatable

    async def set(self, celsius: float) -> None:
        """Report a temperature; return when the broker has acknowledged it."""
        await self.report(TEMPERATURE, celsius)

    @override
    def properties(self) -> Mapping[str, Json]:
        return {
            TEMPERATURE: {
                "title": "Temperature",
                "type": "number",
                "@type": "Temperature",
                "unit": "Cel",
                "readOnly": True,
            }
        }

    @override
    async def run(self) -> None:
        while self._every is not None:
            await asyncio.sleep(self._every)
            await self.set(round(float(self.values[TEMPERATURE]) + self._random.uniform(-0.3, 0.3), 2))
