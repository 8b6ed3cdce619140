"""Fixtures for the tests of the HTTP API."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from process_cosmos_gateway.api.session import Limits
from process_cosmos_gateway.contract.destinations import EventKind

from .endpoints import Endpoints, with_endpoints
from .link import SECONDS
from .services import ServerHarness, serving


@pytest.fixture
async def server(tmp_path: Path, unused_tcp_port: int) -> AsyncIterator[ServerHarness]:
    limits = Limits(
        hello=SECONDS, silence=SECONDS, caught_up=SECONDS, heartbeat=0.05, status=0.01, status_unchanged=0.01
    )
    async with serving(tmp_path, unused_tcp_port, limits) as made:
        yield made


@pytest.fixture
async def endpoints(tmp_path: Path, unused_tcp_port: int) -> AsyncIterator[Endpoints]:
    """The endpoints of local programs, and a destination that takes their events."""
    async with with_endpoints(tmp_path, unused_tcp_port) as made:
        await made.outbox.register("cloud", [EventKind.DEVICE])
        yield made
