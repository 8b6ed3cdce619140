"""What readings make the gateway write, measured at its process by the kernel."""

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import override

import orjson

from process_cosmos_gateway.options import OptionsError, parse_options
from process_cosmos_testbed.broker import running_broker
from process_cosmos_testbed.virtual_devices.device import Json, VirtualDevice

from .bench import Bench
from .load import opened
from .stand import GATEWAY, broker_options, standing

_EVERY = 0.1


class _Meter(VirtualDevice):
    """A device that says readings with a time of their own."""

    @override
    def properties(self) -> Mapping[str, Json]:
        return {"level": {"title": "Level", "type": "number", "unit": "mm", "readOnly": True}}

    async def measure(self, number: int) -> None:
        """Say ``number`` readings, ten a second."""
        for count in range(number):
            record = {"n": "level", "t": round(time.time(), 3), "v": count}
            await asyncio.gather(self.publish("properties/level", orjson.dumps([record])), asyncio.sleep(_EVERY))


async def by_readings(bench: Bench, more: str = "") -> float:
    """Return the bytes a gateway gives to the disk for each reading by MQTT, ten a second; ``more`` options."""
    folder = bench.folder("written")
    async with opened(folder / GATEWAY):
        pass  # now a destination wants readings
    async with (
        running_broker(folder) as broker,
        standing(folder, f"{broker_options(broker)}{more}", with_cloud=False) as stand,
        _Meter(broker.options, "meter") as meter,
    ):
        await meter.connected.wait()
        while not await stand.waiting():
            await meter.measure(10)
        before, number = _written(stand.gateway.pid), bench.size(300, 30)
        await meter.measure(number)
        return (_written(stand.gateway.pid) - before) / number


def committed_first() -> str:
    """Return the options with which a gateway commits each reading before it acknowledges it."""
    try:
        parse_options({"data": "unused", "reading_linger": 0})
    except OptionsError:  # a gateway that knows no other way
        return ""
    return "reading_linger = 0\n"


def _written(pid: int | str) -> int:
    lines = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
    return int(lines["write_bytes"])
