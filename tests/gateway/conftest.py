"""What many tests of the gateway stand on: a real broker."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.brokers import Broker, running_broker


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    """A Mosquitto with a folder of its own; ``stop``, ``kill`` and ``start`` again at will."""
    folder = tmp_path / "broker"
    folder.mkdir()
    async with running_broker(folder) as running:
        yield running
