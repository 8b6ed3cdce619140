"""Fixtures shared by the tests of all packages: a free port, a real broker."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from process_cosmos_testbed.broker import Broker, running_broker
from process_cosmos_testbed.processes import free_port


@pytest.fixture
def unused_tcp_port() -> int:
    """Return a port that no outgoing connection is assigned: asyncio's fixture of this name may return one that is."""
    return free_port()


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    """Run a Mosquitto with its own folder; tests may ``stop``, ``kill`` and ``start`` it."""
    folder = tmp_path / "broker"
    folder.mkdir()
    async with running_broker(folder) as running:
        yield running
