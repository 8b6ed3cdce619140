r"""A control port on 127.0.0.1 by which another process commands devices, proxies and machines.

A request is a line with a name, a command and its arguments, a reply is a line of JSON: ``leak-1 set true`` →
``{"ok":true,"value":null}``, or ``{"ok":false,"error":"…"}``. ``testbed list`` returns all names and commands.
From Python: ``send_command``; from a shell: ``process-cosmos-testbed say PORT leak-1 set true``.
"""

import asyncio
import shlex
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any

import orjson

from .processes import LOCAL, TestbedError
from .proxy import FaultProxy
from .virtual_devices.device import VirtualDevice
from .virtual_devices.kinds import LeakSensor, TemperatureSensor, Valve

type Command = Callable[..., Awaitable[object] | object]
type Commands = Mapping[str, Command]


class ControlError(TestbedError):
    """A command was refused; the message has the reason."""


@asynccontextmanager
async def controlled(served: Mapping[str, Commands], port: int = 0) -> AsyncIterator[int]:
    """Serve commands by name inside the block on ``port`` (0: a free one); yield the port."""
    commands = dict(served)
    commands["testbed"] = {"list": lambda: {name: sorted(each) for name, each in commands.items()}}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write(orjson.dumps(await _reply(commands, line.decode())) + b"\n")
                await writer.drain()
        except OSError, asyncio.CancelledError:
            pass  # the client has disconnected, or the block ends
        finally:
            writer.close()

    server = await asyncio.start_server(serve, LOCAL, port)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        # ``wait_closed`` also waits for open connections: a client that stays connected would block it.
        server.close_clients()
        await server.wait_closed()


async def _reply(served: Mapping[str, Commands], line: str) -> Mapping[str, object]:
    try:
        name, command, *arguments = shlex.split(line)
        value = served[name][command](*(_argument(word) for word in arguments))
        return {"ok": True, "value": await value if isinstance(value, Awaitable) else value}
    except KeyError as unknown:
        return {"ok": False, "error": f"there is no {unknown}"}
    except (TypeError, ValueError) as error:
        return {"ok": False, "error": str(error)}


async def send_command(port: int, *words: str) -> Any:  # noqa: ANN401 - JSON
    """Send one command to the control port; return its value; raise ``ControlError`` if it was refused."""
    reader, writer = await asyncio.open_connection(LOCAL, port)
    try:
        writer.write(shlex.join(words).encode() + b"\n")
        reply = orjson.loads(await reader.readline() or b'{"ok":false,"error":"the process has ended"}')
    finally:
        writer.close()
        await writer.wait_closed()
    if not reply["ok"]:
        raise ControlError(reply["error"])
    return reply["value"]


def device_commands(device: VirtualDevice) -> Commands:
    """Return the commands of a virtual device: ``values``, ``vanish``, and those of its kind."""
    commands: dict[str, Command] = {"values": lambda: device.values, "vanish": device.vanish}
    match device:
        case LeakSensor() | TemperatureSensor():
            commands["set"] = device.set
        case Valve():
            commands["commands"] = lambda: [asdict(command) for command in device.commands]
        case _:
            pass
    return commands


def proxy_commands(proxy: FaultProxy) -> Commands:
    """Return the commands of a proxy: its faults, ``heal``, ``counts``, ``port``."""
    names = ("latency", "loss", "bandwidth", "half_open", "stall", "blackhole", "swallow_replies", "refuse", "reset")
    return {
        **{name: getattr(proxy, name) for name in (*names, "heal")},
        "counts": lambda: asdict(proxy.counts),
        "port": lambda: proxy.port,
    }


def _argument(word: str) -> object:
    try:
        return orjson.loads(word)
    except orjson.JSONDecodeError:
        return word
