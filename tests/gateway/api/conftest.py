"""What the tests of the API stand on."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from process_cosmos_gateway.api.session import Limits

from .link import SECONDS
from .services import House, serving


@pytest.fixture
async def house(tmp_path: Path, unused_tcp_port: int) -> AsyncIterator[House]:
    limits = Limits(hello=SECONDS, silence=SECONDS, caught_up=SECONDS, receipt=0.05, status=0.01)
    async with serving(tmp_path, unused_tcp_port, limits) as made:
        yield made
