"""Home Assistant's end of a session, simulated by the tests."""

import asyncio
from dataclasses import replace
from typing import Any, cast

from aiohttp import ClientWebSocketResponse, WSMsgType

from process_cosmos_gateway.contract.alerts import Transition
from process_cosmos_gateway.contract.codec import decode, encode
from process_cosmos_gateway.contract.identifiers import Position, Ulid
from process_cosmos_gateway.contract.messages import FROM_GATEWAY, FromGateway, FromHomeAssistant
from process_cosmos_gateway.contract.session import Heartbeat, HomeAssistantHello

RUN = Ulid("01KAQ7B2Z8M4T6V9C3D5F7G9HJ")
SECONDS = 30
"""Timeout of any step of a test, long enough for a busy machine."""


def hello(**changes: object) -> HomeAssistantHello:
    usual = HomeAssistantHello(schema=1, min_schema=1, version="9.8.7", instance="home", run=RUN)
    return replace(usual, **cast("Any", changes))


def transition(n: int) -> Transition:
    return Transition(position=Position(run=RUN, n=n), changes=())


class Link:
    """WebSocket connection of a simulated Home Assistant."""

    def __init__(self, socket: ClientWebSocketResponse) -> None:
        self.socket = socket

    async def send(self, *messages: FromHomeAssistant) -> None:
        for message in messages:
            await self.socket.send_bytes(encode(message))

    async def next(self, *, beats: bool = False) -> FromGateway:
        """Return the next message; skip plain heartbeats unless ``beats``."""
        async with asyncio.timeout(SECONDS):
            while True:
                frame = await self.socket.receive()
                assert frame.type is WSMsgType.TEXT, f"the session ended: {frame}"
                message = decode(frame.data, FROM_GATEWAY)
                if beats or not isinstance(message, Heartbeat):
                    return message

    async def end(self) -> int | None:
        """Skip remaining messages and return the close code of the session."""
        async with asyncio.timeout(SECONDS):
            while (await self.socket.receive()).type in (WSMsgType.TEXT, WSMsgType.BINARY):
                pass
        return self.socket.close_code
