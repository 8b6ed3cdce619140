"""Virtual sensors that send numbered items and record in the ledger which of them the broker acknowledged."""

import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import override

import orjson

from process_cosmos_gateway.contract.destinations import Priority
from process_cosmos_gateway.devices.mqtt.errors import MqttError
from process_cosmos_gateway.options import BrokerOptions
from process_cosmos_testbed.ledger import Item, Ledger
from process_cosmos_testbed.virtual_devices.device import Json, VirtualDevice

TICK = "tick"
PULSE = "pulse"
LEVEL = "level"
_STEP = 0.001
"""Seconds between two readings' own times: each reading has its own."""


class NumberedSensor(VirtualDevice):
    """Sends device events (``tick``) and readings with a time of their own (``level``); each is numbered.

    What the broker did not acknowledge is not sent again: the ledger records it as doubted.
    """

    def __init__(self, broker: BrokerOptions, name: str, ledger: Ledger) -> None:
        """Record everything in ``ledger``."""
        super().__init__(broker, name)
        self._ledger = ledger
        self._ticks = 0
        self._levels = 0
        self._pulses = 0
        self._greetings = 0
        # In the past, so that the steps of many readings do not reach the future.
        self._begun = round(time.time() - 3600.0, 3)
        self.clock_wrong_by = 0.0

    @override
    def properties(self) -> Mapping[str, Json]:
        return {LEVEL: {"title": "Level", "type": "number", "unit": "mm", "readOnly": True}}

    @override
    def events(self) -> Mapping[str, Json]:
        return {
            TICK: {"title": "Tick", "data": {"type": "number"}},
            PULSE: {"title": "Pulse", "data": {"type": "boolean"}},
        }

    async def greet(self) -> Collection[Item]:
        """Send an event and a reading that are not judged; return the items that can arrive."""
        self._greetings += 1
        number, at = -self._greetings, self._begun - self._greetings * _STEP
        await self.publish(f"events/{TICK}", orjson.dumps(number))
        await self.publish(f"properties/{LEVEL}", orjson.dumps([{"n": LEVEL, "t": at, "v": number}]))
        return [Item(priority, self.topic, number) for priority in (Priority.CHANGE, Priority.READING)]

    async def tick(self) -> None:
        """Send one device event."""
        self._ticks += 1
        item = Item(Priority.CHANGE, self.topic, self._ticks)
        await self._send(f"events/{TICK}", orjson.dumps(item.number), (item,))

    async def pulse(self) -> None:
        """Send a device event that equals all others of its kind: only their count shows whether one was lost.

        No connection may break meanwhile: an event that is sent twice would be counted as unexpected.
        """
        self._pulses += 1
        await self._send(f"events/{PULSE}", b"true", (Item(Priority.CHANGE, pulse_key(self.topic), self._pulses),))

    async def measure(self, readings: int = 1) -> None:
        """Send ``readings`` readings in one message (SenML)."""
        items, records = [], []
        for _ in range(readings):
            self._levels += 1
            at = round(self._begun + self.clock_wrong_by + self._levels * _STEP, 3)
            items.append(Item(Priority.READING, self.topic, self._levels))
            records.append({"n": LEVEL, "t": at, "v": self._levels})
            self._ledger.attempt(items[-1], time.monotonic(), at)
        await self._send(f"properties/{LEVEL}", orjson.dumps(records), tuple(items))

    async def _send(self, path: str, payload: bytes, items: tuple[Item, ...]) -> None:
        await self.connected.wait()
        connection = self._connection
        for item in items:
            self._ledger.attempt(item, time.monotonic())
        sure = False
        if connection is not None:
            with suppress(MqttError):
                await connection.publish(f"{self.topic}/{path}", payload)
                sure = True
        for item in items:
            if sure:
                self._ledger.acknowledge(item, time.monotonic())
            else:
                self._ledger.doubt(item)


def pulse_key(device: str) -> str:
    """Return the key of a device's pulses, whose numbers are independent of its ticks."""
    return f"{device}/{PULSE}"
