"""The devices' process: a leak sensor and a valve, each on its own connection, timed with one monotonic clock."""

import argparse
import asyncio
import signal
import time
from contextlib import suppress

from process_cosmos_gateway.devices.options import BrokerOptions
from process_cosmos_testbed.control import Control, device_commands
from process_cosmos_testbed.virtual_devices.kinds import OPEN, LeakSensor, TemperatureSensor, Valve

PATIENCE = 60.0
"""Seconds until a leak that closes nothing counts as failed."""


class Kitchen:
    """What happens in the kitchen: water on the floor, somebody who wipes it up, a hand at the valve."""

    def __init__(self, sensor: LeakSensor, valve: Valve) -> None:
        """Take the two devices."""
        self._sensor = sensor
        self._valve = valve

    async def leak(self) -> float:
        """Let water flow until the valve was told to close; return milliseconds from publish to command."""
        before = len(self._valve.commands)
        begun = time.monotonic()
        await self.flood()
        await self._valve.until(lambda: len(self._valve.commands) > before, PATIENCE)
        return (self._valve.commands[before].at - begun) * 1000

    async def flood(self) -> None:
        """Let water flow; return when the broker knows."""
        await self._sensor.set(True)

    async def dry(self) -> None:
        """Wipe it up, and open the valve by hand."""
        await self._valve.report(OPEN, value=True)
        await self._sensor.set(False)

    async def until_closed(self) -> None:
        """Return when the valve is closed."""
        await self._valve.until(lambda: not self._valve.is_open, PATIENCE)

    async def until_open(self) -> None:
        """Return when the valve is open."""
        await self._valve.until(lambda: self._valve.is_open, PATIENCE)


async def run(broker: BrokerOptions, control_port: int) -> None:
    """Keep the devices alive until the process is told to stop."""
    if (own := asyncio.current_task()) is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, own.cancel)
    async with (
        LeakSensor(broker, "leak-kitchen", "Kitchen floor") as sensor,
        Valve(broker, "valve-kitchen", "Kitchen valve", probe=sensor) as valve,
        TemperatureSensor(broker, "temperature-kitchen", "Kitchen", every=1.0) as temperature,
    ):
        for thing in (sensor, valve, temperature):
            await thing.connected.wait()
        await sensor.set(False)
        await valve.report(OPEN, value=True)
        kitchen = Kitchen(sensor, valve)
        commands = {name: getattr(kitchen, name) for name in ("leak", "flood", "dry", "until_closed", "until_open")}
        async with Control({"kitchen": commands, "valve": device_commands(valve)}, control_port):
            await asyncio.Event().wait()


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser("process_cosmos_testbed.scenarios.leak_demo.devices", description=__doc__)
    parser.add_argument("--broker-port", type=int, required=True)
    parser.add_argument("--control", type=int, required=True)
    arguments = parser.parse_args()
    with suppress(asyncio.CancelledError):
        asyncio.run(run(BrokerOptions(host="127.0.0.1", port=arguments.broker_port), arguments.control))


if __name__ == "__main__":
    main()
