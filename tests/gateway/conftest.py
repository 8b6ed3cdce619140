"""Fixtures shared by the gateway's tests: a real broker."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.brokers import Broker, running_broker


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    """Run a Mosquitto with its own folder; tests may ``stop``, ``kill`` and ``start`` it."""
    folder = tmp_path / "broker"
    folder.mkdir()
    async with running_broker(folder) as running:
        yield running
