"""Forwarding: downsampled by rules, within the daily budget, neither lost nor duplicated by a restart."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from process_cosmos_gateway.contract.destinations import Priority
from process_cosmos_gateway.options import Aggregate, ReadingOptions, VolumeRule
from process_cosmos_gateway.outbox import DropReason
from tests.gateway.store.parts import HandClock
from tests.support.brokers import Broker

from .parts import RunningDevices, client, running_devices, set_up_tank

LEVEL = "wot/tank/properties/level"
KEPT = "SELECT count(*) FROM device_reading"
MEAN = VolumeRule(match="wot/*/level", aggregate=Aggregate.MEAN, window=60)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("process_cosmos_gateway.devices.readings.forwarding._CHECK_SECONDS", 0.02)


def thinning(*rules: VolumeRule, daily: float | None = None) -> ReadingOptions:
    return ReadingOptions(linger=0, volume=rules, daily_megabytes=daily)


def backlog(clock: HandClock, *values: float, ago: float = 0.0, every: float = 1.0) -> list[dict[str, float]]:
    begin = clock.now().timestamp() - ago
    return [
        {"bt": begin, "v": values[0]},
        *({"t": place * every, "v": value} for place, value in enumerate(values) if place),
    ]


async def forwarded_values(gateway: RunningDevices, count: int) -> list[Any]:
    """Return the forwarded values, once there are ``count``."""
    async with asyncio.timeout(10):
        while True:
            events = [event["data"] for event in await gateway.drain() if event["type"].endswith("readings.v1")]
            if len(values := [record["v"] for event in events for record in event]) >= count:
                return values
            await asyncio.sleep(0.01)


async def test_raw_readings_stay_stored_and_one_for_each_window_is_forwarded(broker: Broker, tmp_path: Path) -> None:
    clock = HandClock()  # at the start of a minute
    async with (
        running_devices(tmp_path, broker.options, clock=clock, readings=thinning(MEAN)) as gateway,
        client(broker.options) as tank,
    ):
        await set_up_tank(gateway, tank)
        await tank.publish(LEVEL, backlog(clock, 1, 2, 3))
        await gateway.wait_for_rows(KEPT, [(3,)])
        await tank.publish(LEVEL, backlog(clock, 8, ago=-30))
        await gateway.wait_for_rows(KEPT, [(4,)])
        assert await gateway.rows("SELECT count(*) FROM outbox_reading") == [(0,)]
        clock.advance(66)
        assert await forwarded_values(gateway, 1) == [3.5]
        assert gateway.devices.counts["thinned"] == 3
        assert not (await gateway.outbox.depths()).drops


async def test_an_open_window_survives_a_restart_and_is_forwarded_once(broker: Broker, tmp_path: Path) -> None:
    clock = HandClock()
    async with client(broker.options) as tank:
        async with running_devices(tmp_path, broker.options, clock=clock, readings=thinning(MEAN)) as gateway:
            await set_up_tank(gateway, tank)
            await tank.publish(LEVEL, backlog(clock, 1, 2))
            await gateway.wait_for_rows(KEPT, [(2,)])
        async with running_devices(tmp_path, broker.options, clock=clock, readings=thinning(MEAN)) as gateway:
            await tank.publish(LEVEL, backlog(clock, 6, ago=-10))
            await tank.publish(LEVEL, backlog(clock, 1, 2))  # a repeat of stored readings
            await gateway.wait_for_rows("SELECT count FROM device_window", [(3,)])
            clock.advance(66)
            assert await forwarded_values(gateway, 1) == [3]
        async with running_devices(tmp_path, broker.options, clock=clock, readings=thinning(MEAN)) as gateway:
            await tank.publish(LEVEL, backlog(clock, 7))
            await gateway.wait_for_rows("SELECT count FROM device_window", [(1,)])
            clock.advance(66)
            assert await forwarded_values(gateway, 1) == [7]


async def test_the_value_forwarded_last_survives_a_restart(broker: Broker, tmp_path: Path) -> None:
    clock = HandClock()
    rules = thinning(VolumeRule(match="*", deadband=1))
    async with client(broker.options) as tank:
        async with running_devices(tmp_path, broker.options, clock=clock, readings=rules) as gateway:
            await set_up_tank(gateway, tank)
            await tank.publish(LEVEL, 20)
            assert await forwarded_values(gateway, 1) == [20]
        async with running_devices(tmp_path, broker.options, clock=clock, readings=rules) as gateway:
            for value in (20.5, 20.9, 21.5):
                clock.advance(1)
                await tank.publish(LEVEL, value)
            assert await forwarded_values(gateway, 1) == [21.5]
            assert gateway.devices.counts["thinned"] == 2


async def test_a_held_reading_is_forwarded_after_its_interval_also_after_a_restart(
    broker: Broker, tmp_path: Path
) -> None:
    clock = HandClock()
    rules = thinning(VolumeRule(match="*", every=60))
    async with client(broker.options) as tank:
        async with running_devices(tmp_path, broker.options, clock=clock, readings=rules) as gateway:
            await set_up_tank(gateway, tank)
            await tank.publish(LEVEL, backlog(clock, 1, 2, 3))
            assert await forwarded_values(gateway, 1) == [1]
            await gateway.wait_for_rows(KEPT, [(3,)])
        clock.advance(61)
        async with running_devices(
            tmp_path, broker.options, clock=clock
        ) as gateway:  # without the rule, but with the held reading
            assert await forwarded_values(gateway, 1) == [3]
            assert await gateway.rows("SELECT count(*) FROM device_gate WHERE held_time IS NOT NULL") == [(0,)]


async def test_a_backlog_is_added_to_the_windows_of_its_own_times(broker: Broker, tmp_path: Path) -> None:
    clock = HandClock()
    async with (
        running_devices(tmp_path, broker.options, clock=clock, readings=thinning(MEAN)) as gateway,
        client(broker.options) as tank,
    ):
        await set_up_tank(gateway, tank)
        await tank.publish(LEVEL, backlog(clock, 1, 2, 3, 4, 5, 6, ago=3600, every=30))
        await gateway.wait_for_rows("SELECT begin % 60, count FROM device_window", [(0, 2)] * 3)
        clock.advance(6)
        assert await forwarded_values(gateway, 3) == [1.5, 3.5, 5.5]


async def test_windows_and_deadband_work_together(broker: Broker, tmp_path: Path) -> None:
    clock = HandClock()
    rule = VolumeRule(match="*", aggregate=Aggregate.MAX, window=10, deadband=2)
    async with (
        running_devices(tmp_path, broker.options, clock=clock, readings=thinning(rule)) as gateway,
        client(broker.options) as tank,
    ):
        await set_up_tank(gateway, tank)
        await tank.publish(LEVEL, backlog(clock, 1, 5, 1, 6, 9, 2, ago=600, every=5))
        await gateway.wait_for_rows("SELECT count(*) FROM device_window", [(3,)])
        clock.advance(6)
        assert await forwarded_values(gateway, 2) == [5, 9]
        assert gateway.devices.counts["thinned"] == 4


async def test_above_the_daily_budget_readings_are_counted_and_not_forwarded_until_the_next_day(
    broker: Broker, tmp_path: Path
) -> None:
    clock = HandClock()
    options = thinning(daily=0.001)  # a thousand bytes
    async with client(broker.options) as tank:
        async with running_devices(tmp_path, broker.options, clock=clock, readings=options) as gateway:
            await set_up_tank(gateway, tank)
            await tank.publish(LEVEL, backlog(clock, *range(12)))
            await gateway.wait_for_rows(KEPT, [(12,)])
        async with running_devices(tmp_path, broker.options, clock=clock, readings=options) as gateway:
            await tank.publish(LEVEL, backlog(clock, *range(12, 24), ago=-20))
            await gateway.wait_for_rows(KEPT, [(24,)])
            left = await forwarded_values(gateway, 1)
            held_back = (await gateway.outbox.depths()).drops[Priority.READING, DropReason.VOLUME]
            assert len(left) + held_back == 24
            assert left == list(range(len(left)))
            assert 10 < len(left) < 20
            clock.advance(86_400)
            await tank.publish(LEVEL, 99)
            assert (await forwarded_values(gateway, len(left) + 1))[-1] == 99


async def test_a_value_above_the_budget_is_forwarded_the_next_day_although_unchanged(
    broker: Broker, tmp_path: Path
) -> None:
    clock = HandClock()
    options = ReadingOptions(linger=0, volume=(VolumeRule(match="*", deadband=1),), daily_megabytes=0.0001)
    async with (
        running_devices(tmp_path, broker.options, clock=clock, readings=options) as gateway,
        client(broker.options) as tank,
    ):
        await set_up_tank(gateway, tank)
        await tank.publish(LEVEL, backlog(clock, 1, 50, 50.1))
        await gateway.wait_for_rows("SELECT count FROM outbox_drop WHERE reason = 'volume'", [(2,)])
        clock.advance(86_400)
        await tank.publish(LEVEL, 50.2)
        assert await forwarded_values(gateway, 2) == [1, 50.2]


async def test_nothing_is_thinned_counted_or_held_if_no_destination_subscribes_to_readings(
    broker: Broker, tmp_path: Path
) -> None:
    options = ReadingOptions(linger=0, volume=(MEAN,), daily_megabytes=0.001)
    async with running_devices(tmp_path, broker.options, readings=options) as gateway, client(broker.options) as tank:
        await gateway.outbox.unregister("everything")
        await set_up_tank(gateway, tank)
        await tank.publish(LEVEL, backlog(HandClock(), *range(50)))
        await gateway.wait_for_rows(KEPT, [(50,)])
        assert await gateway.rows("SELECT count(*) FROM device_window") == [(0,)]
        assert not (await gateway.outbox.depths()).drops
