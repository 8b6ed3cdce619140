"""Fixtures for the tests of the HTTP API."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from process_cosmos_gateway.api.session import Limits

from .link import SECONDS
from .services import ServerHarness, serving


@pytest.fixture
async def server(tmp_path: Path, unused_tcp_port: int) -> AsyncIterator[ServerHarness]:
    limits = Limits(
        hello=SECONDS, silence=SECONDS, caught_up=SECONDS, heartbeat=0.05, status=0.01, status_unchanged=0.01
    )
    async with serving(tmp_path, unused_tcp_port, limits) as made:
        yield made
