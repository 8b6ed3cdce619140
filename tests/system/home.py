"""A real Home Assistant for tests in the browser: its process, its owner, a phone whose pushes arrive here."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

from process_cosmos_testbed.home_assistant.client import HomeAssistantClient
from process_cosmos_testbed.home_assistant.onboarding import (
    Phone,
    answers_http,
    onboard,
    prepare_folder,
    register_phone,
)
from process_cosmos_testbed.processes import ManagedProcess, free_ports
from process_cosmos_testbed.scenarios.leak_demo.house import HOME_ASSISTANT_ENTITIES, ROOT


@dataclass(slots=True)
class Pushes:
    """The phone's push server: everything that was pushed, newest last."""

    received: list[dict[str, Any]] = field(default_factory=list)
    status: int = 201
    news: asyncio.Event = field(default_factory=asyncio.Event)

    async def take(self, request: web.Request) -> web.Response:
        """Take one push in."""
        self.received.append(await request.json())
        self.news.set()
        return web.json_response({}, status=self.status)

    async def next_ring(self, words: str) -> dict[str, Any]:
        """Return the first notification with buttons whose message holds ``words``, waiting for it at most 30 s."""
        async with asyncio.timeout(30):
            while True:
                self.news.clear()
                for push in self.received:
                    if words in push.get("message", "") and push["data"].get("actions"):
                        return push
                await self.news.wait()


@dataclass(frozen=True, slots=True, kw_only=True)
class Lived:
    """A Home Assistant that runs, with one owner and one phone."""

    url: str
    api: HomeAssistantClient
    phone: Phone
    pushes: Pushes


@asynccontextmanager
async def living_home(folder: Path, environment: Mapping[str, str] | None = None) -> AsyncIterator[Lived]:
    """Start Home Assistant in ``folder`` with a cellar sensor and a cellar valve of its own; stop it at the end.

    ``environment``: what it has beside this process's own.
    """
    [port] = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    prepare_folder(
        folder / "home-assistant", port, ROOT / "custom_components" / "process_cosmos", HOME_ASSISTANT_ENTITIES
    )
    pushes = Pushes()
    app = web.Application()
    app.router.add_post("/push", pushes.take)
    process = ManagedProcess("home-assistant", folder)
    async with TestServer(app) as push_server:
        command = (Path(sys.executable).parent / "hass", "-c", folder / "home-assistant", "--skip-pip")
        await process.start(*command, environment={**os.environ, **environment} if environment else None)
        try:
            await process.until(lambda: answers_http(url), "its frontend", 90)
            async with HomeAssistantClient(url, await onboard(url)) as api:
                await api.until_running()
                phone = await register_phone(api, "ann", str(push_server.make_url("/push")))
                yield Lived(url=url, api=api, phone=phone, pushes=pushes)
        finally:
            await process.stop()
