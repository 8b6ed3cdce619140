"""Phones registered with Home Assistant's own ``mobile_app``, and a push service that can fail."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web
from aiohttp.test_utils import TestClient
from homeassistant.config_entries import ConfigEntry
from homeassistant.core import HomeAssistant
from homeassistant.helpers import device_registry as dr

type Client = TestClient[web.Request, web.Application]

REGISTRATION = {
    "app_id": "io.homeassistant.companion.android",
    "app_name": "Home Assistant",
    "app_version": "2026.11",
    "manufacturer": "Google",
    "model": "Pixel",
    "os_name": "Android",
    "os_version": "16",
    "supports_encryption": False,
}


@dataclass
class PushServer:
    """Push service on 127.0.0.1; ``status``: HTTP status of replies, ``bodies``: accepted requests, both by phone."""

    port: int = 0
    status: dict[str, int] = field(default_factory=dict)
    bodies: dict[str, list[bytes]] = field(default_factory=dict)
    tries: dict[str, int] = field(default_factory=dict)
    runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen on the port of the previous start, or on a free one."""
        app = web.Application()
        app.router.add_post("/push/{phone}", self.receive_push)
        self.runner = web.AppRunner(app, access_log=None)
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self.runner.addresses[0][1]

    async def stop(self) -> None:
        """Stop listening, so that connections are refused."""
        if self.runner:
            await self.runner.cleanup()
            self.runner = None

    def url(self, phone: str) -> str:
        return f"http://127.0.0.1:{self.port}/push/{phone}"

    def pushes(self, phone: str) -> list[dict[str, Any]]:
        return [orjson.loads(body) for body in self.bodies.get(phone, [])]

    def messages(self, phone: str) -> list[str]:
        return [push["message"] for push in self.pushes(phone)]

    async def receive_push(self, request: web.Request) -> web.Response:
        phone = request.match_info["phone"]
        self.tries[phone] = self.tries.get(phone, 0) + 1
        status = self.status.get(phone, 201)
        if status == 201:
            self.bodies.setdefault(phone, []).append(await request.read())
        return web.json_response({"errorMessage": "made up"} if status != 201 else {}, status=status)


@asynccontextmanager
async def push_service() -> AsyncIterator[PushServer]:
    """Run a push service."""
    server = PushServer()
    await server.start()
    yield server
    await server.stop()


@dataclass
class Registered:
    """Phone that was registered in the same way as by the companion app."""

    hass: HomeAssistant
    client: Client
    name: str
    webhook_id: str

    @property
    def entry(self) -> ConfigEntry:
        entries = self.hass.config_entries.async_entries("mobile_app")
        return next(entry for entry in entries if entry.data["webhook_id"] == self.webhook_id)

    @property
    def device_id(self) -> str:
        """Id of the phone's device in Home Assistant."""
        (device,) = dr.async_entries_for_config_entry(dr.async_get(self.hass), self.entry.entry_id)
        return device.id

    async def press(self, button: str) -> None:
        """Report a pressed notification button in the same way as the companion app."""
        event = {"event_type": "mobile_app_notification_action", "event_data": {"action": button}}
        body = {"type": "fire_event", "data": event}
        assert (await self.client.post(f"/api/webhook/{self.webhook_id}", json=body)).status == 200


async def register(hass: HomeAssistant, client: Client, name: str, **changed: object) -> Registered:
    """Register a phone called ``name``; the app's device id is the name in lower case."""
    data = {**REGISTRATION, "device_id": name.lower(), "device_name": name, **changed}
    reply = await client.post("/api/mobile_app/registrations", json=data)
    assert reply.status == 201
    registered = await reply.json()
    await hass.async_block_till_done()
    return Registered(hass, client, name, registered["webhook_id"])


def cloud(push_server: PushServer, phone: str) -> dict[str, str]:
    """Return the ``app_data`` of a phone that uses ``push_server``."""
    return {"push_token": f"token of {phone}", "push_url": push_server.url(phone)}
