"""The first steps at a new Home Assistant: the owner's account, and phones with the companion app."""

from dataclasses import dataclass

import aiohttp

from .client import HomeAssistantClient

OWNER = "demo"
PASSWORD = "process-cosmos"  # noqa: S105 - a made-up owner of a Home Assistant that listens on 127.0.0.1 only


async def onboard(url: str) -> str:
    """Create the owner's account as the frontend does, which ends the onboarding; return a long-lived access token."""
    # Home Assistant accepts only a URL as the id of a client (IndieAuth, section 3.2).
    client = f"{url}/"
    account = {"client_id": client, "name": "Demo", "username": OWNER, "password": PASSWORD, "language": "en"}
    async with aiohttp.ClientSession(url, raise_for_status=True) as http:
        async with http.post("/api/onboarding/users", json=account) as response:
            code = (await response.json())["auth_code"]
        form = {"client_id": client, "code": code, "grant_type": "authorization_code"}
        async with http.post("/auth/token", data=form) as response:
            token = (await response.json())["access_token"]
    async with HomeAssistantClient(url, token) as home:
        return str(await home.command("auth/long_lived_access_token", client_name="Demo", lifespan=30))


@dataclass(frozen=True, slots=True, kw_only=True)
class Phone:
    """A registered phone: its device in Home Assistant, and the webhook it sends to."""

    name: str
    device: str
    webhook: str


async def register_phone(home: HomeAssistantClient, name: str, push_url: str) -> Phone:
    """Register a phone as the companion app does; its notifications are pushed to ``push_url``."""
    registration = await home.post(
        "/api/mobile_app/registrations",
        {
            "app_id": "process_cosmos.demo",
            "app_name": "Process Cosmos demo",
            "app_version": "1.0",
            "device_id": name,
            "device_name": name,
            "manufacturer": "Process Cosmos",
            "model": "Demo phone",
            "os_name": "Android",
            "os_version": "16",
            "supports_encryption": False,  # otherwise the webhook refuses the plain JSON of ``press``
            "app_data": {"push_url": push_url, "push_token": f"token of {name}"},
        },
    )
    devices = await home.command("config/device_registry/list")
    device = next(device["id"] for device in devices if ["mobile_app", name] in device["identifiers"])
    return Phone(name=name, device=device, webhook=registration["webhook_id"])


async def press(home: HomeAssistantClient, phone: Phone, button: str) -> None:
    """Press a button of a notification, as the companion app reports it."""
    event = {"event_type": "mobile_app_notification_action", "event_data": {"action": button}}
    await home.post(f"/api/webhook/{phone.webhook}", {"type": "fire_event", "data": event})
