"""Floods a broker as a foreign device would, in a process of its own so that measurements are not slowed down."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from process_cosmos_gateway.devices.mqtt.connection import Connection, Message
from process_cosmos_gateway.options import BrokerOptions

_RECORDS = b"[" + b",".join([b'{"v":1}'] * 2000) + b"]"
_TOO_MANY_RECORDS = b"[" + b",".join([b'{"v":1}'] * 8000) + b"]"
_GARBAGE = b'{"title":"x","forms":' + b"[0," * 5000
_LONG = "x" * 65_000
_MEGABYTE = 1_000_000

_MESSAGES_A_SECOND = 5_000
_BYTES_A_SECOND = 20 * _MEGABYTE
"""25 times the rate of one device. At higher rates than the gateway reads the broker's own queue overflows: it drops
acknowledged messages of all devices, and counts them in ``$SYS``."""


@dataclass(slots=True)
class FloodingClient:
    """A client that floods the broker. ``sent``: messages that the broker has acknowledged."""

    _connection: Connection
    _due: float = 0.0
    sent: int = 0

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish; return when the broker has acknowledged."""
        await self._wait(1, len(topic) + len(payload))
        await self._connection.publish(topic, payload, retain=retain)
        self.sent += 1

    async def publish_all(self, topic: str, payloads: Sequence[bytes]) -> None:
        """Publish several messages without waiting for each acknowledgement."""
        await self._wait(len(payloads), sum(map(len, payloads)))
        await asyncio.gather(*(self._connection.send(topic, payload) for payload in payloads))
        self.sent += len(payloads)

    async def _wait(self, messages: int, size: int) -> None:
        """Wait until this much may be sent."""
        now = time.monotonic()
        self._due = max(self._due, now) + max(messages / _MESSAGES_A_SECOND, size / _BYTES_A_SECOND)
        await asyncio.sleep(self._due - now)


async def _values(client: FloodingClient, seconds: float) -> None:
    """Send values of a number and of a boolean at 25 times the rate of one device."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        await client.publish_all("wot/flood/flow", [b"%d" % number for number in range(200)])
        await client.publish_all("wot/flood/wet", [b"true", b"false"] * 100)


async def _records(client: FloodingClient, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        # Of messages that arrive at once only the first is within the device's rate.
        await client.publish_all("wot/flood/flow", [_RECORDS] * 10)
        await client.publish_all("wot/flood/flow", [_TOO_MANY_RECORDS] * 10)


async def _topics(client: FloodingClient, seconds: float) -> None:
    until = time.monotonic() + seconds
    number = 0
    while time.monotonic() < until:
        number += 1
        await client.publish(f"wot/{number}{_LONG}/td", b"no description")


async def _changes(client: FloodingClient, seconds: float) -> None:
    """Change the description of one device repeatedly."""
    until = time.monotonic() + seconds
    number = 0
    while time.monotonic() < until:
        number += 1
        await client.publish("wot/flood/td", orjson.dumps(description("flood", f"Flood {number}")), retain=True)


async def _descriptions(client: FloodingClient, count: float) -> None:
    """Retain ``count`` descriptions of 4 kB, each of another device."""
    for number in range(int(count)):
        payload = orjson.dumps({**description(f"new-{number}"), "padding": "x" * 4000})
        await client.publish(f"wot/new-{number}/td", payload, retain=True)


async def _withdrawn(client: FloodingClient, count: float) -> None:
    """Remove the descriptions of many devices: they would use the quota in which garbage must be read."""
    for number in range(int(count)):
        await client.publish(f"wot/new-{number}/td", b"", retain=True)


async def _garbage(client: FloodingClient, count: float) -> None:
    """Retain garbage that looks like descriptions, half of it at topics of 65 kB."""
    for number in range(int(count) // 2):
        await client.publish(f"wot/garbage-{number}/td", _GARBAGE, retain=True)
        await client.publish(f"wot/{number}{_LONG}/td", b"no description", retain=True)


async def _large(client: FloodingClient, megabytes: float) -> None:
    await client.publish("wot/flood/flow", b"1" * int(megabytes) * _MEGABYTE)


FLOODS: Mapping[str, Callable[[FloodingClient, float], Awaitable[None]]] = {
    "values": _values,
    "records": _records,
    "topics": _topics,
    "changed": _changes,
    "descriptions": _descriptions,
    "withdrawn": _withdrawn,
    "garbage": _garbage,
    "large": _large,
}
"""The floods; their amount is seconds for the first four, else a number of messages or megabytes."""


def description(name: str, title: str = "Flood") -> Mapping[str, Any]:
    """Describe a device with a number and a boolean."""
    base = f"mqtt://broker/wot/{name}"
    return {
        "title": title,
        "properties": {
            "flow": {"type": "number", "readOnly": True, "forms": [{"href": f"{base}/flow"}]},
            "wet": {"type": "boolean", "readOnly": True, "forms": [{"href": f"{base}/wet"}]},
        },
    }


def flood(kind: str, port: int, amount: float) -> int:
    """Flood the broker at ``port``; return how many messages it has acknowledged."""
    return asyncio.run(_flood(kind, port, amount))


async def _flood(kind: str, port: int, amount: float) -> int:
    broker = BrokerOptions(host="127.0.0.1", port=port)
    connection = await Connection.open(broker, client_id=f"flood-{kind}", on_message=_ignore)
    client = FloodingClient(connection)
    await connection.publish("wot/flood/td", orjson.dumps(description("flood")), retain=True)
    await FLOODS[kind](client, amount)
    connection.close()
    return client.sent


def _ignore(connection: Connection, message: Message) -> None:
    connection.acknowledge(message)
