"""Home Assistant beside a Supervisor, as the integration meets it: the border is Home Assistant's own, autospecced."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import AsyncMock, create_autospec, patch
from uuid import uuid4

from aiohasupervisor import SupervisorClient
from aiohasupervisor.models import Discovery, Repository, StoreAddRepository
from homeassistant.components.hassio import AddonInfo, AddonManager, AddonState
from homeassistant.core import HomeAssistant

from custom_components.process_cosmos import flow_app
from custom_components.process_cosmos.const import DOMAIN


@dataclass
class Supervised:
    """What the Supervisor has, and what it was asked for, in order; a test sets its fields at any time."""

    state: AddonState = AddonState.NOT_INSTALLED
    options: dict[str, Any] = field(default_factory=dict)
    messages: list[Discovery] = field(default_factory=list)
    announced: Discovery | None = None
    """The message of the app, there once it has started."""
    repositories: list[Repository] = field(default_factory=list)
    refused: dict[str, Exception] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)

    def do(self, name: str) -> None:
        self.done.append(name)
        if error := self.refused.get(name):
            raise error

    async def info(self, _: AddonManager) -> AddonInfo:
        if error := self.refused.get("info"):
            raise error
        return AddonInfo(
            available=True,
            hostname="cosmos",
            options=self.options,
            state=self.state,
            update_available=False,
            version="0.1.0",
        )

    async def install(self, _: AddonManager) -> None:
        self.do("install")
        self.state = AddonState.NOT_RUNNING

    async def start(self, _: AddonManager) -> None:
        self.do("start")
        self.state = AddonState.RUNNING
        if self.announced:
            self.messages.append(self.announced)

    async def list_repositories(self) -> list[Repository]:
        return self.repositories

    async def add_repository(self, asked: StoreAddRepository) -> None:
        self.list_repository(asked.repository)
        self.do("add_repository")

    def list_repository(self, url: str) -> None:
        slug = flow_app.SLUG.removesuffix("_process_cosmos")
        self.repositories.append(Repository(slug=slug, name="", source=url, url=url, maintainer=""))

    async def list_messages(self) -> list[Discovery]:
        if error := self.refused.get("discovery"):
            raise error
        return self.messages


def message(service: str = DOMAIN, **config: object) -> Discovery:
    """What an app has told the Supervisor."""
    return Discovery(addon="any", service=service, uuid=uuid4(), config=config)


@contextmanager
def supervised(hass: HomeAssistant) -> Iterator[Supervised]:
    """Let there be a Supervisor."""
    hass.config.components.add("hassio")
    there = Supervised()
    client = create_autospec(SupervisorClient, instance=True)
    client.store = AsyncMock()
    client.discovery = AsyncMock()
    client.store.repositories_list = there.list_repositories
    client.store.add_repository = there.add_repository
    client.discovery.list = there.list_messages
    with (
        patch.object(flow_app, "get_supervisor_client", autospec=True, return_value=client),
        patch("homeassistant.components.hassio.addon_manager.get_supervisor_client", autospec=True),
        patch.object(AddonManager, "async_get_addon_info", autospec=True, side_effect=there.info),
        patch.object(AddonManager, "async_install_addon", autospec=True, side_effect=there.install),
        patch.object(AddonManager, "async_start_addon", autospec=True, side_effect=there.start),
        patch.object(flow_app, "LOOK_AGAIN", 0.01),
    ):
        yield there
