"""A new Home Assistant: its folder, its owner, its phones."""

import json
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import aiohttp

from .client import HomeAssistantClient

OWNER = "demo"
PASSWORD = "process-cosmos"  # noqa: S105 - a made-up owner of a Home Assistant that nobody else reaches

CONFIGURATION = """\
homeassistant:
  name: Demo house
  country: NL
  time_zone: Europe/Amsterdam
  unit_system: metric
frontend:
config:
history:
logbook:
mobile_app:
system_health:
automation: !include automations.yaml
script: !include scripts.yaml
scene: !include scenes.yaml
logger:
  default: warning
  logs:
    custom_components.process_cosmos: info
"""


def prepare_folder(folder: Path, port: int, integration: Path, extra: str) -> None:
    """Make Home Assistant's configuration folder: it listens on ``port`` of 127.0.0.1 and finds ``integration``.

    The address goes into `.storage/http`: an address in YAML is only tried for five minutes. The onboarding's other
    steps are done already: they would set up integrations that need the internet.
    """
    (folder / ".storage").mkdir(parents=True)
    (folder / "custom_components").mkdir()
    (folder / "custom_components" / integration.name).symlink_to(integration)
    (folder / "configuration.yaml").write_text(CONFIGURATION + extra)
    for name in ("automations", "scripts", "scenes"):
        (folder / f"{name}.yaml").write_text("[]\n" if name != "scripts" else "{}\n")
    stable = {
        "server_host": ["127.0.0.1"],
        "server_port": port,
        "cors_allowed_origins": [],
        "login_attempts_threshold": -1,
        "ip_ban_enabled": False,
        "ssl_profile": "intermediate_v6",
        "use_x_frame_options": True,
        "created_at": "2026-01-01T00:00:00+00:00",
        "error": None,
        "error_message": None,
    }
    _store(folder, "http", 3, {"yaml_migration_done": True, "pending": None, "stable": stable})
    _store(folder, "onboarding", 4, {"done": ["core_config", "analytics", "integration"]})


def _store(folder: Path, key: str, version: int, data: dict[str, Any]) -> None:
    document = {"version": version, "minor_version": 1, "key": key, "data": data}
    (folder / ".storage" / key).write_text(json.dumps(document))


async def answers_http(url: str) -> bool | None:
    """Return True when Home Assistant serves its frontend at ``url``, else None."""
    try:
        async with aiohttp.ClientSession() as http, http.get(f"{url}/manifest.json") as response:
            return response.status == HTTPStatus.OK or None
    except aiohttp.ClientError:
        return None


async def onboard(url: str) -> str:
    """Make the owner's account, as the browser does, which ends the onboarding; return a long-lived access token."""
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
    """A registered phone: its device in Home Assistant, and the webhook it speaks to."""

    name: str
    device: str
    webhook: str


async def register_phone(home: HomeAssistantClient, name: str, push_url: str) -> Phone:
    """Register a phone as the companion app does; its pushes go to ``push_url``."""
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
            "supports_encryption": False,
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
