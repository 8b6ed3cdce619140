"""The command line ``process-cosmos-testbed``: faults, demo, virtual devices, a fault proxy."""

import argparse
import asyncio
import contextlib
import json
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from process_cosmos_gateway.options import BrokerOptions

from .control import ControlError, controlled, device_commands, proxy_commands, send_command
from .processes import LOCAL
from .proxy import FaultProxy
from .virtual_devices.device import VirtualDevice
from .virtual_devices.kinds import LeakSensor, TemperatureSensor, Valve


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the given subcommand; return the exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    if given[:1] == ["faults"]:
        from .faults.cli import main as run_faults  # noqa: PLC0415 - not needed for devices and proxy

        return run_faults(given[1:])
    if given[:1] == ["demo"]:
        from .scenarios.leak_demo.cli import main as run_demo  # noqa: PLC0415 - needs Home Assistant

        return run_demo(given[1:])
    options = _parser().parse_args(given)
    try:
        asyncio.run(options.run(options))
    except KeyboardInterrupt:
        return 0
    except (ControlError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


async def run_devices(options: argparse.Namespace) -> None:
    """Run virtual devices until interrupted."""
    broker = BrokerOptions(
        host=options.host,
        port=options.port,
        username=options.username,
        password=options.password_file.strip() if options.password_file else None,
        tls=options.ca is not None,
        ca=options.ca,
    )
    devices = _devices(broker, options)
    async with AsyncExitStack() as stack:
        for device in devices:
            await stack.enter_async_context(device)
        served = {device.name: device_commands(device) for device in devices}
        port = await stack.enter_async_context(controlled(served, options.control))
        _report(control=port, devices=sorted(served))
        await asyncio.get_running_loop().create_future()


async def run_proxy(options: argparse.Namespace) -> None:
    """Run the fault proxy until interrupted."""
    async with (
        FaultProxy(options.far_host, options.far_port, port=options.listen) as proxy,
        controlled({"proxy": proxy_commands(proxy)}, options.control) as control,
    ):
        _report(control=control, proxy=proxy.port)
        await asyncio.get_running_loop().create_future()


async def run_say(options: argparse.Namespace) -> None:
    """Send one command to a control port and print its value."""
    _report(value=await send_command(options.control, *options.words))


def _devices(broker: BrokerOptions, options: argparse.Namespace) -> list[VirtualDevice]:
    sensors = [LeakSensor(broker, f"leak-{n}", f"Leak sensor {n}") for n in range(1, options.leaks + 1)]
    valves = [
        Valve(broker, f"valve-{n}", f"Valve {n}", probe=sensors[0] if sensors else None, safe_after=options.safe_after)
        for n in range(1, options.valves + 1)
    ]
    temperatures = [
        TemperatureSensor(broker, f"temperature-{n}", f"Temperature {n}", every=options.every, seed=n)
        for n in range(1, options.temperatures + 1)
    ]
    return [*sensors, *valves, *temperatures]


def _report(**facts: object) -> None:
    with contextlib.suppress(BrokenPipeError):
        print(json.dumps(facts), flush=True)


def _text(path: str) -> str:
    return Path(path).read_text("utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("process-cosmos-testbed", description=__doc__)
    kinds = parser.add_subparsers(required=True)
    kinds.add_parser("faults", help="inject faults into real processes and judge the result: faults --help")
    kinds.add_parser("demo", help="run the leak demo on a real Home Assistant: demo --help")
    devices = kinds.add_parser("devices", help="run virtual leak sensors, valves and temperature sensors")
    devices.add_argument("--host", default=LOCAL)
    devices.add_argument("--port", type=int, default=1883)
    devices.add_argument("--username")
    devices.add_argument("--password-file", type=_text, help="a file with the broker's password")
    devices.add_argument("--ca", type=Path, help="PEM file of the broker's certificate authority; enables TLS")
    devices.add_argument("--leaks", type=int, default=1)
    devices.add_argument("--valves", type=int, default=1)
    devices.add_argument("--temperatures", type=int, default=1)
    devices.add_argument("--every", type=float, default=5.0, help="seconds between temperatures")
    devices.add_argument("--safe-after", type=float, default=60.0, help="seconds without broker until a valve closes")
    devices.set_defaults(run=run_devices)
    proxy = kinds.add_parser("proxy", help="run a TCP proxy that injects faults")
    proxy.add_argument("far_host")
    proxy.add_argument("far_port", type=int)
    proxy.add_argument("--listen", type=int, default=0, help="port for connections (0: any free one, printed)")
    proxy.set_defaults(run=run_proxy)
    for kind in (devices, proxy):
        kind.add_argument("--control", type=int, default=0, help="port for commands (0: any free one, printed)")
    command = kinds.add_parser("say", help="send one command to a control port: say PORT leak-1 set true")
    command.add_argument("control", type=int)
    command.add_argument("words", nargs="+")
    command.set_defaults(run=run_say)
    return parser
