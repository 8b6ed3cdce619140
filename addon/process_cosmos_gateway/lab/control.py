r"""Lets another process command the lab: one line in, one line of JSON out, on 127.0.0.1.

A line is a name, a command, and its arguments: ``leak-1 set true`` → ``{"ok":true,"value":null}``; a mistake →
``{"ok":false,"error":"…"}``. The name ``lab`` and the command ``list`` say what is there. From Python: ``say``; from a
shell: ``python -m process_cosmos_gateway.lab say PORT leak-1 set true``.
"""

import asyncio
import shlex
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from typing import Any, Self

import orjson

from process_cosmos_gateway.errors import GatewayError

from .devices import LeakSensor, TemperatureSensor, Valve
from .proxy import FaultProxy
from .things import Thing

type Command = Callable[..., Awaitable[object] | object]
type Commands = Mapping[str, Command]


class ControlError(GatewayError):
    """The lab refused a command; the message says why."""


class Control:
    """Serves the commands of what it was given, by name; use it with ``async with``; ``port`` 0: any free one."""

    def __init__(self, served: Mapping[str, Commands], port: int = 0) -> None:
        """Take the commands by name."""
        self._served = {**served, "lab": {"list": self._list}}
        self.port = port
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        """Listen; ``port`` is known afterwards."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()
            self._server.close_clients()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write(orjson.dumps(await self._answer(line.decode())) + b"\n")
                await writer.drain()
        except OSError, asyncio.CancelledError:
            pass  # the one who asked has gone, or the lab ends
        finally:
            writer.close()

    async def _answer(self, line: str) -> Mapping[str, object]:
        try:
            name, command, *arguments = shlex.split(line)
            answer = self._served[name][command](*(_argument(word) for word in arguments))
            return {"ok": True, "value": await answer if isinstance(answer, Awaitable) else answer}
        except KeyError as unknown:
            return {"ok": False, "error": f"there is no {unknown}"}
        except (TypeError, ValueError) as error:
            return {"ok": False, "error": str(error)}

    def _list(self) -> Mapping[str, list[str]]:
        return {name: sorted(commands) for name, commands in self._served.items()}


async def say(port: int, *words: str) -> Any:  # noqa: ANN401 - JSON
    """Give one command to the lab on ``port``; return its value; raise ``ControlError``."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(shlex.join(words).encode() + b"\n")
        answer = orjson.loads(await reader.readline() or b'{"ok":false,"error":"the lab has gone"}')
    finally:
        writer.close()
        await writer.wait_closed()
    if not answer["ok"]:
        raise ControlError(answer["error"])
    return answer["value"]


def thing_commands(thing: Thing) -> Commands:
    """Return what can be said to a Thing: ``values``, ``vanish``, and what its kind can do."""
    commands: dict[str, Command] = {"values": lambda: thing.values, "vanish": thing.vanish}
    match thing:
        case LeakSensor() | TemperatureSensor():
            commands["set"] = thing.set
        case Valve():
            commands["commands"] = lambda: [asdict(command) for command in thing.commands]
        case _:
            pass
    return commands


def proxy_commands(proxy: FaultProxy) -> Commands:
    """Return what can be said to a proxy: its faults, ``heal``, ``counts``, ``port``."""
    return {
        "latency": proxy.latency,
        "loss": proxy.loss,
        "bandwidth": proxy.bandwidth,
        "half_open": proxy.half_open,
        "stall": proxy.stall,
        "blackhole": proxy.blackhole,
        "swallow_replies": proxy.swallow_replies,
        "refuse": proxy.refuse,
        "reset": proxy.reset,
        "heal": proxy.heal,
        "counts": lambda: asdict(proxy.counts),
        "port": lambda: proxy.port,
    }


def _argument(word: str) -> object:
    try:
        return orjson.loads(word)
    except orjson.JSONDecodeError:
        return word
