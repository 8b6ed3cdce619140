"""Fixtures shared by the gateway's tests: a store."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from process_cosmos_gateway.store import Store
from tests.gateway.store.parts import opened


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    """Yield a store in a temporary folder."""
    async with opened(tmp_path) as store:
        yield store
