"""What leaves the site: thinned as asked, within the day's bytes, and neither lost nor doubled by a restart."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from process_cosmos_gateway.contract.destinations import Priority
from process_cosmos_gateway.options import Aggregate, ReadingOptions, VolumeRule
from process_cosmos_gateway.outbox import DropReason
from tests.brokers import Broker
from tests.gateway.store.parts import HandClock

from .parts import Hearing, client, hearing, ready

LEVEL = "wot/tank/properties/level"
KEPT = "SELECT count(*) FROM device_reading"
MEAN = VolumeRule(match="wot/*/level", aggregate=Aggregate.MEAN, window=60)


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("process_cosmos_gateway.devices.readings.forwarding._CHECK_SECONDS", 0.02)


def thinning(*rules: VolumeRule, daily: float | None = None) -> ReadingOptions:
    return ReadingOptions(linger=0, volume=rules, daily_megabytes=daily)


def backlog(clock: HandClock, *values: float, ago: float = 0.0, every: float = 1.0) -> list[dict[str, float]]:
    begin = clock.now().timestamp() - ago
    return [
        {"bt": begin, "v": values[0]},
        *({"t": place * every, "v": value} for place, value in enumerate(values) if place),
    ]


async def said(heard: Hearing, count: int) -> list[Any]:
    """The values that left, once there are ``count``."""
    async with asyncio.timeout(10):
        while True:
            events = [event["data"] for event in await heard.drained() if event["type"].endswith("readings.v1")]
            if len(values := [record["v"] for event in events for record in event]) >= count:
                return values
            await asyncio.sleep(0.01)


async def test_raw_readings_stay_and_one_for_each_window_leaves(broker: Broker, tmp_path: Path) -> None:
    clock = HandClock()  # its minute has just begun
    async with (
        hearing(tmp_path, broker.options, clock=clock, readings=thinning(MEAN)) as heard,
        client(broker.options) as tank,
    ):
        await ready(heard, tank)
        await tank.say(LEVEL, backlog(clock, 1, 2, 3))
        await heard.until_rows(KEPT, [(3,)])
        await tank.say(LEVEL, backlog(clock, 8, ago=-30))
        await heard.until_rows(KEPT, [(4,)])
        assert await heard.rows("SELECT count(*) FROM outbox_reading") == [(0,)]
        clock.advance(66)
        assert await said(heard, 1) == [3.5]
        assert heard.devices.counts["thinned"] == 3
        assert not (await heard.outbox.depths()).drops


async def test_an_unfinished_window_survives_a_restart_and_leaves_once(broker: Broker, tmp_path: Path) -> None:
    clock = HandClock()
    async with client(broker.options) as tank:
        async with hearing(tmp_path, broker.options, clock=clock, readings=thinning(MEAN)) as heard:
            await ready(heard, tank)
            await tank.say(LEVEL, backlog(clock, 1, 2))
            await heard.until_rows(KEPT, [(2,)])
        async with hearing(tmp_path, broker.options, clock=clock, readings=thinning(MEAN)) as heard:
            await tank.say(LEVEL, backlog(clock, 6, ago=-10))
            await tank.say(LEVEL, backlog(clock, 1, 2))  # the device repeats itself
            await heard.until_rows("SELECT count FROM device_window", [(3,)])
            clock.advance(66)
            assert await said(heard, 1) == [3]
        async with hearing(tmp_path, broker.options, clock=clock, readings=thinning(MEAN)) as heard:
            await tank.say(LEVEL, backlog(clock, 7))
            await heard.until_rows("SELECT count FROM device_window", [(1,)])
            clock.advance(66)
            assert await said(heard, 1) == [7]


async def test_the_value_sent_last_survives_a_restart(broker: Broker, tmp_path: Path) -> None:
    clock = HandClock()
    rules = thinning(VolumeRule(match="*", deadband=1))
    async with client(broker.options) as tank:
        async with hearing(tmp_path, broker.options, clock=clock, readings=rules) as heard:
            await ready(heard, tank)
            await tank.say(LEVEL, 20)
            assert await said(heard, 1) == [20]
        async with hearing(tmp_path, broker.options, clock=clock, readings=rules) as heard:
            for value in (20.5, 20.9, 21.5):
                clock.advance(1)
                await tank.say(LEVEL, value)
            assert await said(heard, 1) == [21.5]
            assert heard.devices.counts["thinned"] == 2


async def test_what_had_to_wait_for_its_interval_leaves_when_it_is_over_also_after_a_restart(
    broker: Broker, tmp_path: Path
) -> None:
    clock = HandClock()
    rules = thinning(VolumeRule(match="*", every=60))
    async with client(broker.options) as tank:
        async with hearing(tmp_path, broker.options, clock=clock, readings=rules) as heard:
            await ready(heard, tank)
            await tank.say(LEVEL, backlog(clock, 1, 2, 3))
            assert await said(heard, 1) == [1]
            await heard.until_rows(KEPT, [(3,)])
        clock.advance(61)
        async with hearing(tmp_path, broker.options, clock=clock) as heard:  # the rule has gone, what waits has not
            assert await said(heard, 1) == [3]
            assert await heard.rows("SELECT count(*) FROM device_gate WHERE held_time IS NOT NULL") == [(0,)]


async def test_a_backlog_goes_into_the_windows_of_its_own_times(broker: Broker, tmp_path: Path) -> None:
    clock = HandClock()
    async with (
        hearing(tmp_path, broker.options, clock=clock, readings=thinning(MEAN)) as heard,
        client(broker.options) as tank,
    ):
        await ready(heard, tank)
        await tank.say(LEVEL, backlog(clock, 1, 2, 3, 4, 5, 6, ago=3600, every=30))
        await heard.until_rows("SELECT begin % 60, count FROM device_window", [(0, 2)] * 3)
        clock.advance(6)
        assert await said(heard, 3) == [1.5, 3.5, 5.5]


async def test_windows_and_gates_work_together(broker: Broker, tmp_path: Path) -> None:
    clock = HandClock()
    rule = VolumeRule(match="*", aggregate=Aggregate.MAX, window=10, deadband=2)
    async with (
        hearing(tmp_path, broker.options, clock=clock, readings=thinning(rule)) as heard,
        client(broker.options) as tank,
    ):
        await ready(heard, tank)
        await tank.say(LEVEL, backlog(clock, 1, 5, 1, 6, 9, 2, ago=600, every=5))
        await heard.until_rows("SELECT count(*) FROM device_window", [(3,)])
        clock.advance(6)
        assert await said(heard, 2) == [5, 9]
        assert heard.devices.counts["thinned"] == 4


async def test_beyond_the_days_bytes_readings_stay_here_and_are_counted_until_the_next_day(
    broker: Broker, tmp_path: Path
) -> None:
    clock = HandClock()
    options = thinning(daily=0.001)  # a thousand bytes
    async with client(broker.options) as tank:
        async with hearing(tmp_path, broker.options, clock=clock, readings=options) as heard:
            await ready(heard, tank)
            await tank.say(LEVEL, backlog(clock, *range(12)))
            await heard.until_rows(KEPT, [(12,)])
        async with hearing(tmp_path, broker.options, clock=clock, readings=options) as heard:
            await tank.say(LEVEL, backlog(clock, *range(12, 24), ago=-20))
            await heard.until_rows(KEPT, [(24,)])
            left = await said(heard, 1)
            held_back = (await heard.outbox.depths()).drops[Priority.READING, DropReason.VOLUME]
            assert len(left) + held_back == 24
            assert left == list(range(len(left)))
            assert 10 < len(left) < 20
            clock.advance(86_400)
            await tank.say(LEVEL, 99)
            assert (await said(heard, len(left) + 1))[-1] == 99


async def test_a_value_the_budget_held_back_leaves_the_next_day_although_it_does_not_change(
    broker: Broker, tmp_path: Path
) -> None:
    clock = HandClock()
    options = ReadingOptions(linger=0, volume=(VolumeRule(match="*", deadband=1),), daily_megabytes=0.0001)
    async with (
        hearing(tmp_path, broker.options, clock=clock, readings=options) as heard,
        client(broker.options) as tank,
    ):
        await ready(heard, tank)
        await tank.say(LEVEL, backlog(clock, 1, 50, 50.1))
        await heard.until_rows("SELECT count FROM outbox_drop WHERE reason = 'volume'", [(2,)])
        clock.advance(86_400)
        await tank.say(LEVEL, 50.2)
        assert await said(heard, 2) == [1, 50.2]


async def test_nothing_is_thinned_counted_or_held_back_where_no_destination_wants_readings(
    broker: Broker, tmp_path: Path
) -> None:
    options = ReadingOptions(linger=0, volume=(MEAN,), daily_megabytes=0.001)
    async with hearing(tmp_path, broker.options, readings=options) as heard, client(broker.options) as tank:
        await heard.outbox.forget("everything")
        await ready(heard, tank)
        await tank.say(LEVEL, backlog(HandClock(), *range(50)))
        await heard.until_rows(KEPT, [(50,)])
        assert await heard.rows("SELECT count(*) FROM device_window") == [(0,)]
        assert not (await heard.outbox.depths()).drops
