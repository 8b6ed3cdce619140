"""Fixtures with a gateway and a clock for each test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.gateway.store.parts import HandClock

from .parts import Gateway, gateway


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> HandClock:
    """Return a clock set by the test, which the service reads again soon."""
    monkeypatch.setattr("process_cosmos_gateway.alerts.service._LONGEST_WAIT", 0.1)
    return HandClock()


@pytest.fixture
async def site(tmp_path: Path, clock: HandClock) -> AsyncIterator[Gateway]:
    """Yield a gateway with a cloud endpoint and a webhook, in a session that has caught up."""
    async with gateway(tmp_path, clock, ("cloud", "hook")) as started:
        await started.opens_session()
        yield started
