"""Fixtures: a store, a clock and an outbox for each test."""

import pytest

from process_cosmos_gateway.outbox import Outbox
from process_cosmos_gateway.store import Store
from tests.gateway.store.parts import HandClock


@pytest.fixture
def clock() -> HandClock:
    """Return a clock that the test advances."""
    return HandClock()


@pytest.fixture
def outbox(store: Store, clock: HandClock) -> Outbox:
    """Return an outbox with the default limits."""
    return Outbox(store, clock)
