"""What the Supervisor knows of an app: its configuration in the store, and how it stands on this machine."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

import yaml

TOP = Path(__file__).resolve().parents[3]


class State(StrEnum):
    """How an installed app stands."""

    STARTUP = "startup"
    STARTED = "started"
    STOPPED = "stopped"
    ERROR = "error"


def repository_slug(url: str) -> str:
    """Name a repository as the Supervisor does."""
    return hashlib.sha1(url.lower().encode(), usedforsecurity=False).hexdigest()[:8]


@dataclass(slots=True)
class App:
    """An app of the store; ``state`` None: not installed. ``token``: what it may ask the Supervisor with."""

    config: Mapping[str, Any]
    repository: str
    state: State | None = None
    token: str | None = None
    options: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def ours(cls, state: State | None = None, token: str | None = None) -> Self:
        """Read this repository's app."""
        config = yaml.safe_load((TOP / "addon/config.yaml").read_text())
        return cls(config=config, repository=repository_slug(config["url"]), state=state, token=token)

    @classmethod
    def mosquitto(cls) -> Self:
        """Return the broker as it is installed."""
        config = {
            "name": "Mosquitto broker",
            "slug": "mosquitto",
            "version": "7.0.0",
            "description": "An Open Source MQTT broker",
            "arch": ["aarch64", "amd64"],
            "discovery": ["mqtt"],
            "services": ["mqtt:provide"],
        }
        return cls(config=config, repository="core", state=State.STARTED, token="made-up-token-of-the-broker")

    @property
    def slug(self) -> str:
        """The app's name everywhere but in its repository."""
        return f"{self.repository}_{self.config['slug']}"

    @property
    def hostname(self) -> str:
        """The app's name in the Supervisor's network."""
        return self.slug.replace("_", "-")

    @property
    def services(self) -> dict[str, str]:
        """What the app may do with a service: ``want``, ``need`` or ``provide``."""
        pairs = (service.split(":") for service in self.config.get("services", []))
        return dict(pairs)

    def effective_options(self) -> dict[str, Any]:
        """Return what stands in ``/data/options.json`` at a start."""
        return {**self.config.get("options", {}), **self.options}

    def listed(self) -> dict[str, Any]:
        """Return what every list of apps says of it."""
        version = self.config["version"]
        return {
            "advanced": False,
            "available": True,
            "build": "image" not in self.config,
            "description": self.config["description"],
            "homeassistant": self.config.get("homeassistant"),
            "icon": True,
            "logo": True,
            "name": self.config["name"],
            "repository": self.repository,
            "slug": self.slug,
            "stage": self.config.get("stage", "stable"),
            "update_available": False,
            "url": self.config.get("url"),
            "version": version if self.state else None,
            "version_latest": version,
        }

    def in_store(self) -> dict[str, Any]:
        """Return the app in a list of the store."""
        return {**self.listed(), "arch": self.config["arch"], "documentation": True, "installed": bool(self.state)}

    def of_store(self) -> dict[str, Any]:
        """Return what the store says of this one app."""
        ingress = self.config.get("ingress", False)
        return {
            **self.in_store(),
            "apparmor": "profile",
            "auth_api": False,
            "detached": False,
            "docker_api": False,
            "full_access": False,
            "hassio_api": self.config.get("hassio_api", False),
            "hassio_role": self.config.get("hassio_role", "default"),
            "homeassistant_api": False,
            "host_network": False,
            "host_pid": False,
            "ingress": ingress,
            "long_description": None,
            "rating": 8 if ingress else 6,
            "signed": False,
        }

    def installed(self) -> dict[str, Any]:
        """Return the app in the list of those that are installed."""
        return {**self.listed(), "detached": False, "state": self.state, "system_managed": False}

    def info(self) -> dict[str, Any]:
        """Return everything of an installed app, as Home Assistant and the app itself may see it."""
        ingress = self.config.get("ingress", False)
        entry = f"/api/hassio_ingress/{self.slug}" if ingress else None
        document = self.of_store()
        del document["installed"]
        return {
            **document,
            **self.installed(),
            **dict.fromkeys(("webui", "audio_input", "audio_output", "network", "network_description"), None),
            **dict.fromkeys(("host_ipc", "host_uts", "host_dbus", "stdin", "gpio", "usb", "uart", "udev"), False),
            **dict.fromkeys(("kernel_modules", "devicetree", "video", "audio", "auto_update", "watchdog"), False),
            "hostname": self.hostname,
            "dns": [f"{self.hostname}.local.hass.io"],
            "protected": True,
            "boot": "auto",
            "boot_config": self.config.get("boot", "auto"),
            "options": self.effective_options(),
            "schema": [],
            "machine": [],
            "privileged": [],
            "changelog": True,
            "startup": self.config.get("startup", "application"),
            "services": [f"{name}:{role}" for name, role in self.services.items()],
            "discovery": self.config.get("discovery", []),
            "translations": {},
            "ingress_entry": entry,
            "ingress_url": f"{entry}/" if ingress else None,
            "ingress_port": self.config.get("ingress_port", 8099) if ingress else None,
            "ingress_panel": False if ingress else None,
            "ip_address": "172.30.33.5",
            "devices": [],
            "system_managed_config_entry": None,
        }
