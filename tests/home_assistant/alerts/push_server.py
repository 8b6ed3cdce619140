"""The mobile app's own integration with a push service that can fail: phones as they are in a real home."""

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
    """A push service on 127.0.0.1; ``status`` is what it answers, by phone; ``bodies`` what it took, by phone."""

    port: int = 0
    status: dict[str, int] = field(default_factory=dict)
    bodies: dict[str, list[bytes]] = field(default_factory=dict)
    tries: dict[str, int] = field(default_factory=dict)
    runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen, on the same port as before."""
        app = web.Application()
        app.router.add_post("/push/{phone}", self.take)
        self.runner = web.AppRunner(app, access_log=None)
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self.runner.addresses[0][1]

    async def stop(self) -> None:
        """Refuse connections."""
        if self.runner:
            await self.runner.cleanup()
            self.runner = None

    def url(self, phone: str) -> str:
        return f"http://127.0.0.1:{self.port}/push/{phone}"

    def pushes(self, phone: str) -> list[dict[str, Any]]:
        return [orjson.loads(body) for body in self.bodies.get(phone, [])]

    def messages(self, phone: str) -> list[str]:
        return [push["message"] for push in self.pushes(phone)]

    async def take(self, request: web.Request) -> web.Response:
        phone = request.match_info["phone"]
        self.tries[phone] = self.tries.get(phone, 0) + 1
        status = self.status.get(phone, 201)
        if status == 201:
            self.bodies.setdefault(phone, []).append(await request.read())
        return web.json_response({"errorMessage": "made up"} if status != 201 else {}, status=status)


@asynccontextmanager
async def push_service() -> AsyncIterator[PushServer]:
    """Start a push service."""
    server = PushServer()
    await server.start()
    yield server
    await server.stop()


@dataclass
class Registered:
    """A phone that was registered as the companion app does it."""

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
        """The id of its device in Home Assistant."""
        (device,) = dr.async_entries_for_config_entry(dr.async_get(self.hass), self.entry.entry_id)
        return device.id

    async def press(self, button: str) -> None:
        """Press a button of a notification, as the companion app reports it."""
        event = {"event_type": "mobile_app_notification_action", "event_data": {"action": button}}
        body = {"type": "fire_event", "data": event}
        assert (await self.client.post(f"/api/webhook/{self.webhook_id}", json=body)).status == 200


async def register(hass: HomeAssistant, client: Client, name: str, **changed: object) -> Registered:
    """Register a phone called ``name``; its app's own device id is its name in lower case."""
    data = {**REGISTRATION, "device_id": name.lower(), "device_name": name, **changed}
    reply = await client.post("/api/mobile_app/registrations", json=data)
    assert reply.status == 201
    registered = await reply.json()
    await hass.async_block_till_done()
    return Registered(hass, client, name, registered["webhook_id"])


def cloud(push_server: PushServer, phone: str) -> dict[str, str]:
    """The ``app_data`` of a phone whose push service is ``push_server``."""
    return {"push_token": f"token of {phone}", "push_url": push_server.url(phone)}
