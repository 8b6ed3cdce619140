"""A real Home Assistant as a managed process, in a configuration folder that is made for it."""

import json
import os
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

import aiohttp

from process_cosmos_testbed.processes import BIN, LOCAL, ROOT, ManagedProcess, free_port

INTEGRATION = ROOT / "custom_components" / "process_cosmos"
EXIT_TO_RESTART = 100
"""The exit code by which Home Assistant asks to be started again."""

_CONFIGURATION = """\
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


class HomeAssistantProcess(ManagedProcess):
    """Home Assistant at ``url``, with the integration of the checkout; ``yaml`` is added to its configuration.

    ``environment``: variables beside those of this process; with any, those that configure a gateway are kept, too.
    """

    def __init__(self, folder: Path, yaml: str = "", environment: Mapping[str, str] | None = None) -> None:
        """Prepare the process; its configuration is in ``folder``/home-assistant."""
        super().__init__("home-assistant", folder)
        self.configuration = folder / "home-assistant"
        self.port = free_port()
        self.url = f"http://{LOCAL}:{self.port}"
        self._yaml = yaml
        self._environment = {**os.environ, **environment} if environment else None

    async def start(self) -> None:
        """Start Home Assistant, in a new configuration folder if there is none; return when it serves its frontend."""
        if not self.configuration.exists():
            prepare_folder(self.configuration, self.port, self._yaml)
        await self.launch_here()
        await self.until_ready(self._serves_frontend, "its frontend", 90)

    async def launch_here(self) -> None:
        """Start the process without waiting for it."""
        await self.launch(BIN / "hass", "-c", self.configuration, "--skip-pip", environment=self._environment)

    async def _serves_frontend(self) -> bool:
        try:
            async with aiohttp.ClientSession() as http, http.get(f"{self.url}/manifest.json") as response:
                return response.status == HTTPStatus.OK
        except aiohttp.ClientError:
            return False


def prepare_folder(folder: Path, port: int, yaml: str) -> None:
    """Make a configuration folder: Home Assistant will listen on ``port`` of 127.0.0.1 and find the integration.

    The address goes into `.storage/http`: an address in YAML is only tried for five minutes. The later steps of the
    onboarding are marked as done: they would set up integrations that need the internet.
    """
    (folder / ".storage").mkdir(parents=True)
    (folder / "custom_components").mkdir()
    (folder / "custom_components" / INTEGRATION.name).symlink_to(INTEGRATION)
    (folder / "configuration.yaml").write_text(_CONFIGURATION + yaml)
    for name, empty in (("automations", "[]"), ("scripts", "{}"), ("scenes", "[]")):
        (folder / f"{name}.yaml").write_text(f"{empty}\n")
    stable = {
        "server_host": [LOCAL],
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
