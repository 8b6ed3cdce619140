"""A fake Supervisor over HTTP for Home Assistant's own client and app manager, and an app that the test controls."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

from homeassistant.components.hassio.const import DATA_COMPONENT
from homeassistant.components.hassio.handler import HassIO
from homeassistant.core import HomeAssistant
from homeassistant.helpers.aiohttp_client import async_get_clientsession

from custom_components.process_cosmos.const import DOMAIN
from custom_components.process_cosmos.flows import app_installation
from tests.support.supervisor.apps import App, State
from tests.support.supervisor.discovery import Message
from tests.support.supervisor.fake import HOME_TOKEN, FakeSupervisor


@dataclass
class Supervised(FakeSupervisor):
    """A fake Supervisor. ``announced``: discovery message of the started app; ``stuck``: why the app does not start."""

    announced: dict[str, Any] | None = None
    stuck: OSError | None = None
    elsewhere: dict[str, list[App]] = field(default_factory=lambda: {app_installation.REPOSITORY: [App.ours()]})

    def __post_init__(self) -> None:
        self.host = self

    async def start(self, app: App, url: str) -> None:
        if self.stuck:
            raise self.stuck
        self.messages = [message for message in self.messages if message.app != app.slug]
        if self.announced:
            self.messages.append(Message(app.slug, DOMAIN, self.announced))

    async def stop(self, app: App) -> None:
        """Do nothing: no process was started."""

    async def set_app_state(self, state: State) -> None:
        """Mark the app as installed, and announce it if it runs."""
        self._add_repository(app_installation.REPOSITORY)
        [app] = (app for app in self.apps if app.slug == app_installation.SLUG)
        app.state = state
        if state is State.STARTED:
            await self.start(app, "")

    def done(self) -> list[str]:
        """Return the requests that change something, in order."""
        return [line.rpartition("/")[2] for line in self.said if line.startswith("POST")]


@asynccontextmanager
async def supervised(hass: HomeAssistant) -> AsyncIterator[Supervised]:
    """Provide a Supervisor with no app installed."""
    there = Supervised()
    async with there.listening() as url:
        hass.config.components.add("hassio")
        address = url.removeprefix("http://").rstrip("/")
        hass.data[DATA_COMPONENT] = HassIO(hass.loop, async_get_clientsession(hass), address)
        with (
            patch.dict(os.environ, {"SUPERVISOR_TOKEN": HOME_TOKEN}),
            patch.object(app_installation, "LOOK_AGAIN", 0.01),
        ):
            yield there
        assert not there.unknown
