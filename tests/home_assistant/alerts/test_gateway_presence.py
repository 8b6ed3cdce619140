"""Since when destinations count as not reached, because the gateway is away or does not answer."""

from datetime import timedelta

import pytest

from .gateway import Gateway
from .site import Site


@pytest.fixture
def gateway(linked: Site) -> Gateway:
    return Gateway(linked)


async def test_the_gateway_is_away_two_seconds_after_its_session(linked: Site, gateway: Gateway) -> None:
    await gateway.connect()
    presence = linked.alerts.gateway_presence
    await linked.pass_time(timedelta(seconds=1), seconds=20)
    assert presence.away_since is None
    gateway.disconnect()
    await linked.pass_time(timedelta(seconds=1), seconds=1)
    await gateway.connect()
    await linked.pass_time(timedelta(seconds=1), seconds=2)
    assert presence.away_since is None
    gateway.disconnect()
    await linked.pass_time(timedelta(seconds=1), seconds=2)
    away_since = presence.away_since
    assert away_since is not None
    gateway.disconnect()
    await linked.pass_time(timedelta(seconds=1), seconds=2)
    assert presence.away_since == away_since
    await gateway.connect()
    assert presence.away_since is None


async def test_a_gateway_that_does_not_confirm_a_transition_is_away_after_five_seconds(
    linked: Site, gateway: Gateway
) -> None:
    await gateway.connect()
    presence = linked.alerts.gateway_presence
    await linked.raise_alert()
    await linked.pass_time(timedelta(seconds=1), seconds=4)
    assert presence.away_since is None
    await linked.pass_time(timedelta(seconds=1), seconds=1)
    assert presence.away_since is not None
    await gateway.send_committed()
    assert presence.away_since is None


async def test_a_confirmed_transition_does_not_excuse_the_next_one(linked: Site, gateway: Gateway) -> None:
    await gateway.connect()
    presence = linked.alerts.gateway_presence
    await linked.raise_alert()
    first = gateway.cursor
    await linked.raise_alert("Water in the hall")
    assert first != gateway.cursor
    gateway.cursor = first
    await gateway.send_committed()
    await linked.pass_time(timedelta(seconds=1), seconds=5)
    assert presence.away_since is not None
