"""A client of Home Assistant's own API: REST, and one WebSocket."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from typing import Any, Self

import aiohttp

from process_cosmos_testbed.processes import TestbedError

MAX_MESSAGE = 16 << 20


class HomeAssistantError(TestbedError):
    """Home Assistant refused a request; the message has its reason."""


class HomeAssistantUnreachableError(TestbedError):
    """Home Assistant cannot be reached, or ended before it replied."""


class HomeAssistantClient:
    """Home Assistant at ``url``; an ``async with`` block is one connection."""

    def __init__(self, url: str, token: str) -> None:
        """Use a long-lived access token."""
        self._url = url
        self._token = token
        self._ids = count(1)
        self._replies: dict[int, asyncio.Future[Any]] = {}
        self._listeners: dict[int, Callable[[Any], None]] = {}
        self._http: aiohttp.ClientSession
        self._socket: aiohttp.ClientWebSocketResponse
        self._reader: asyncio.Task[None]

    async def __aenter__(self) -> Self:
        """Connect and log in; raise ``HomeAssistantUnreachableError`` if it does not listen yet."""
        self._http = aiohttp.ClientSession(self._url, headers={"Authorization": f"Bearer {self._token}"})
        try:
            await self._log_in()
        except BaseException:  # also when it is cancelled
            await self._http.close()
            raise
        self._reader = asyncio.create_task(self._read(), name="home-assistant-reader")
        return self

    async def _log_in(self) -> None:
        try:
            self._socket = await self._http.ws_connect("/api/websocket", max_msg_size=MAX_MESSAGE)
            await self._socket.receive_json()
            await self._socket.send_json({"type": "auth", "access_token": self._token})
            welcome = await self._socket.receive_json()
        # ``receive_json`` raises TypeError for a frame that closes the connection.
        except (aiohttp.ClientError, OSError, TypeError) as error:
            raise HomeAssistantUnreachableError(str(error)) from error
        if welcome["type"] != "auth_ok":
            raise HomeAssistantError(welcome.get("message", "not logged in"))

    async def __aexit__(self, *_: object) -> None:
        """Close the connection."""
        self._reader.cancel()
        with suppress(asyncio.CancelledError):
            await self._reader
        await self._socket.close()
        await self._http.close()

    async def until_gone(self) -> None:
        """Return when Home Assistant has closed the connection."""
        await asyncio.wait([self._reader])

    async def command(self, type_: str, **fields: Any) -> Any:  # noqa: ANN401 - Home Assistant's JSON
        """Send one WebSocket command and return its result."""
        message = {"id": next(self._ids), "type": type_, **fields}
        if self._reader.done():
            raise HomeAssistantUnreachableError("the connection has ended")
        reply = self._replies[message["id"]] = asyncio.get_running_loop().create_future()
        try:
            await self._socket.send_json(message)
            return await reply
        except (aiohttp.ClientError, OSError) as error:
            raise HomeAssistantUnreachableError(str(error)) from error
        finally:
            del self._replies[message["id"]]

    async def subscribe(self, listener: Callable[[Any], None], type_: str, **fields: Any) -> None:  # noqa: ANN401
        """Send a command that subscribes; ``listener`` gets each event of it, until the connection ends."""
        number = next(self._ids)
        # Added before the command is sent: the first event may follow its result at once.
        self._listeners[number] = listener
        await self.command(type_, id=number, **fields)

    async def action(
        self,
        name: str,
        data: dict[str, Any] | None = None,
        target: dict[str, Any] | None = None,
        *,
        reply: bool = False,
    ) -> Any:  # noqa: ANN401
        """Run the action ``domain.name`` and return its response, if ``reply`` asks for one."""
        domain, service = name.split(".")
        result = await self.command(
            "call_service",
            domain=domain,
            service=service,
            service_data=data or {},
            target=target or {},
            return_response=reply,
        )
        return result.get("response")

    async def get(self, path: str) -> Any:  # noqa: ANN401
        """Return the JSON at ``path``."""
        return await self._request("GET", path, None)

    async def post(self, path: str, body: dict[str, Any]) -> Any:  # noqa: ANN401
        """Post ``body`` to ``path`` and return the JSON reply."""
        return await self._request("POST", path, body)

    async def delete(self, path: str) -> Any:  # noqa: ANN401
        """Delete what is at ``path`` and return the JSON reply."""
        return await self._request("DELETE", path, None)

    async def state(self, entity: str) -> str | None:
        """Return an entity's state, None if there is no such entity."""
        try:
            return str((await self.get(f"/api/states/{entity}"))["state"])
        except HomeAssistantError:
            return None

    async def until_running(self) -> None:
        """Return when Home Assistant has started everything; the caller limits the time."""
        # Home Assistant accepts connections before its integrations are set up.
        while (await self.command("get_config"))["state"] != "RUNNING":  # noqa: ASYNC110 - it is in another process
            await asyncio.sleep(0.05)

    async def _request(self, method: str, path: str, body: dict[str, Any] | None) -> Any:  # noqa: ANN401
        try:
            async with self._http.request(method, path, json=body) as response:
                if not response.ok:
                    raise HomeAssistantError(f"{method} {path}: {response.status} {await response.text()}")
                return await response.json()
        except (aiohttp.ClientConnectionError, TimeoutError) as error:
            raise HomeAssistantUnreachableError(str(error)) from error

    async def _read(self) -> None:
        try:
            async for frame in self._socket:
                document = frame.json()
                for message in document if isinstance(document, list) else [document]:
                    self._take(message)
        finally:
            for reply in self._replies.values():
                if not reply.done():
                    reply.set_exception(HomeAssistantUnreachableError("the connection ended before the reply"))

    def _take(self, message: dict[str, Any]) -> None:
        number = message.get("id", 0)
        if message["type"] == "event" and number in self._listeners:
            self._listeners[number](message["event"])
        elif message["type"] == "result" and (reply := self._replies.get(number)) and not reply.done():
            if message["success"]:
                reply.set_result(message["result"])
            else:
                reply.set_exception(HomeAssistantError(message["error"]["message"]))
