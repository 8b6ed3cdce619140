"""Fixtures with a real store, a real outbox and real servers; only alerts are a stand-in."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from process_cosmos_gateway.clock import SystemClock
from process_cosmos_gateway.contract.destinations import EventKind, Link, SetCloud, SetWebhook
from process_cosmos_gateway.contract.identifiers import UlidFactory
from process_cosmos_gateway.destinations import Destinations
from process_cosmos_gateway.outbox import Limits, Outbox
from process_cosmos_gateway.store import Store
from tests.cloud.endpoint import EndpointProcess, endpoint_process

from .parts import FakeAlerts, Receiver, event, receiver


@dataclass
class Site:
    """The components of a gateway around its destinations."""

    store: Store
    outbox: Outbox
    alerts: FakeAlerts
    destinations: Destinations = field(init=False)
    running: asyncio.Task[None] = field(init=False)
    link_changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def set_webhook(self, url: str, name: str = "hook", **settings: Any) -> None:  # noqa: ANN401 - those of ``SetWebhook``
        """Set a webhook with ``SetWebhook``'s other fields."""
        await self.destinations.set_webhook(SetWebhook(id="1", name=name, url=url, **settings))

    async def set_cloud(self, code: str, name: str = "cloud") -> None:
        """Enrol at a cloud endpoint."""
        kinds = (EventKind.ALERT,)
        await self.destinations.set_cloud(SetCloud(id="1", name=name, code=code, kinds=kinds))

    async def accept(self, *numbers: int) -> None:
        """Enqueue events by number."""
        for number in numbers:
            await self.outbox.accept(event(number))

    async def restart(self) -> None:
        """Stop the destinations and start them again with the same store."""
        self.running.cancel()
        await asyncio.wait({self.running})
        self.start()

    def start(self) -> None:
        """Start the destinations in a task."""
        alerts: Any = self.alerts
        self.destinations = Destinations(
            self.store,
            self.outbox,
            alerts,
            SystemClock(),
            jitter_fn=lambda: 0.0,
            on_link_change=self.link_changed.set,
        )
        self.running = asyncio.create_task(self.destinations.run())

    def link(self, name: str) -> Link:
        """Return the state of a link."""
        [link] = [link for link in self.destinations.links() if link.name == name]
        return link

    async def waiting(self) -> int:
        """Return the number of waiting urgent events."""
        return (await self.outbox.depths()).waiting.urgent


@asynccontextmanager
async def running_site(folder: Path, limits: Limits | None = None) -> AsyncIterator[Site]:
    """Run a site's store, outbox and destinations for as long as the block runs."""
    store = await Store.open(folder, UlidFactory(lambda: time.time_ns() // 1_000_000, os.urandom))
    outbox = Outbox(store, SystemClock(), limits)
    site = Site(store, outbox, FakeAlerts())
    site.start()
    try:
        yield site
    finally:
        site.running.cancel()
        await asyncio.wait({site.running})
        await store.close()
        assert site.running.cancelled() or site.running.result()


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with running_site(tmp_path / "gateway") as site:
        yield site


@pytest.fixture
async def hook() -> AsyncIterator[Receiver]:
    async with receiver() as server:
        yield server


@pytest.fixture
async def cloud(tmp_path: Path) -> AsyncIterator[EndpointProcess]:
    """A cloud endpoint as a process."""
    async with endpoint_process(tmp_path / "cloud") as endpoint:
        yield endpoint
