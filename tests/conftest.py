"""What the tests of all parts stand on."""

import pytest

from process_cosmos_testbed.processes import free_ports


@pytest.fixture
def unused_tcp_port() -> int:
    """A port that no connection is given meanwhile: asyncio's fixture of this name returns one that may be."""
    return free_ports(1)[0]
