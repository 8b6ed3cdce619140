"""Fixtures shared by the gateway's tests: a real broker."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from process_cosmos_gateway.store import Store
from tests.gateway.store.parts import opened
from tests.support.brokers import Broker, running_broker


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    """Run a Mosquitto with its own folder; tests may ``stop``, ``kill`` and ``start`` it."""
    folder = tmp_path / "broker"
    folder.mkdir()
    async with running_broker(folder) as running:
        yield running


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    """Yield a store in a temporary folder."""
    async with opened(tmp_path) as store:
        yield store
