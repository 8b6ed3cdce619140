"""Fixtures: a store, a clock and an outbox for each test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from process_cosmos_gateway.outbox import Outbox
from process_cosmos_gateway.store import Store
from tests.gateway.store.parts import HandClock, opened


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    """Yield a store in a temporary folder."""
    async with opened(tmp_path) as store:
        yield store


@pytest.fixture
def clock() -> HandClock:
    """Return a clock that the test advances."""
    return HandClock()


@pytest.fixture
def outbox(store: Store, clock: HandClock) -> Outbox:
    """Return an outbox with the default limits."""
    return Outbox(store, clock)
