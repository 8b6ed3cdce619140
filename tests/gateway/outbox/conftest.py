"""An outbox for each test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from process_cosmos_gateway.outbox import Outbox
from process_cosmos_gateway.store import Store
from tests.gateway.store.parts import HandClock, opened


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    """Return a store in a folder of its own."""
    async with opened(tmp_path) as store:
        yield store


@pytest.fixture
def clock() -> HandClock:
    """Return the clock of the test."""
    return HandClock()


@pytest.fixture
def outbox(store: Store, clock: HandClock) -> Outbox:
    """Return an outbox with the usual limits."""
    return Outbox(store, clock)
