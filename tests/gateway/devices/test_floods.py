"""Floods: one device that never stops, descriptions nobody has asked for, garbage retained."""

import asyncio
from collections import Counter
from pathlib import Path

import orjson
import pytest

from process_cosmos_gateway.contract.devices import DeviceChanged
from process_cosmos_gateway.devices.things.description_intake import DescriptionIntake
from process_cosmos_gateway.devices.things.device_table import DeviceTable
from process_cosmos_gateway.devices.things.rates import DeviceRate, SlidingWindow, TokenBucket
from tests.brokers import Broker

from .parts import Client, Hearing, client, description, description_of, hearing, ready, until

LEVEL = "wot/tank/properties/level"
WORKER = "wot/tank/properties/pump"
OVERFLOW = "wot/tank/events/overflow"


@pytest.fixture
def slow_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten messages at once, two a second."""

    def bucket() -> TokenBucket:
        return TokenBucket(rate=2.0, burst=10.0)

    slow = "process_cosmos_gateway.devices.things.rate_limiter.DeviceRate"
    monkeypatch.setattr(slow, lambda: DeviceRate(bucket(), bucket()))


def full_window() -> SlidingWindow:
    window = SlidingWindow(1)
    window.note(asyncio.get_running_loop().time())
    return window


async def limited(heard: Hearing, tank: Client) -> None:
    for number in range(30):
        await tank.say(LEVEL, number)
    await until(lambda: heard.devices.counts["rate_limited"])


async def test_a_device_beyond_its_rate_is_named_counted_and_acknowledged_and_its_alarms_pass(
    broker: Broker, tmp_path: Path, slow_rate: None, caplog: pytest.LogCaptureFixture
) -> None:
    async with hearing(tmp_path, broker.options) as heard, client(broker.options) as tank:
        await ready(heard, tank)
        await limited(heard, tank)
        await tank.say(OVERFLOW, 5)
        await tank.say(WORKER, payload=True)
        await until(lambda: heard.events("overflow") and heard.value("wot/tank", "pump"))
        link = heard.devices.broker_link
        assert link is not None
        assert link.limited == ("wot/tank",)
        assert caplog.text.count("rate_limited: wot/tank") == 1
        await until(lambda: not heard.devices._writer._unacknowledged)


async def test_the_newest_state_of_a_device_beyond_its_rate_is_taken_once_it_may_speak_again(
    broker: Broker, tmp_path: Path, slow_rate: None
) -> None:
    async with hearing(tmp_path, broker.options) as heard, client(broker.options) as tank:
        await ready(heard, tank)
        for number in range(60):
            await tank.say(WORKER, number % 2 == 0)
        await tank.say(WORKER, payload=True)
        await until(lambda: heard.devices.counts["rate_limited"] and heard.value("wot/tank", "pump") is True)
        await heard.until_rows("SELECT value FROM device_property WHERE name = 'pump'", [(b"true",)])


async def test_another_device_is_not_held_up_by_one_beyond_its_rate(
    broker: Broker, tmp_path: Path, slow_rate: None
) -> None:
    async with hearing(tmp_path, broker.options) as heard, client(broker.options) as tank:
        await ready(heard, tank)
        await tank.say("wot/other/td", description_of("other"), retain=True)
        await until(lambda: heard.device("wot/other"))
        await limited(heard, tank)
        await tank.say("wot/other/properties/level", 3, retain=True)
        await until(lambda: heard.value("wot/other", "level") == 3)


async def test_new_devices_come_in_ten_a_minute_and_known_ones_at_once(broker: Broker, tmp_path: Path) -> None:
    async with hearing(tmp_path, broker.options) as heard, client(broker.options) as anyone:
        for number in range(15):
            await anyone.say(f"wot/t{number}/td", description_of(f"t{number}"), retain=True)
        await until(lambda: len(heard.devices.devices()) == 10)
        await anyone.say("wot/t3/td", description_of("t3", title="Changed"), retain=True)
        await until(lambda: (device := heard.device("wot/t3")) and device.title == "Changed")
        assert len(heard.devices.devices()) == 10
    async with hearing(tmp_path, broker.options) as heard:
        await until(lambda: len(heard.devices.devices()) == 15)


async def test_a_description_that_waits_is_read_in_its_turn_and_its_device_is_heard(
    broker: Broker, tmp_path: Path
) -> None:
    async with hearing(tmp_path, broker.options) as heard, client(broker.options) as tank:
        heard.devices._descriptions._new.window = full_window()
        await tank.say("wot/tank/td", description(), retain=True)
        await until(lambda: heard.devices._descriptions._new.payloads)
        heard.devices._descriptions._new.window = SlidingWindow(1)
        await until(lambda: heard.device("wot/tank"))
        await tank.say(LEVEL, 4, retain=True)  # heard also where the subscription follows it
        await until(lambda: heard.value("wot/tank", "level") == 4)
        await heard.until_rows("SELECT count(*) FROM device WHERE length(description) > 0", [(1,)])


async def test_a_description_that_is_withdrawn_while_it_waits_is_forgotten(broker: Broker, tmp_path: Path) -> None:
    async with hearing(tmp_path, broker.options) as heard, client(broker.options) as tank:
        waiting = heard.devices._descriptions._new
        waiting.window = full_window()
        await tank.say("wot/tank/td", description())
        await until(lambda: waiting.payloads)
        await tank.say("wot/tank/td", b"")
        await until(lambda: not waiting.payloads)
        assert waiting.bytes == 0


async def test_more_descriptions_than_can_wait_are_turned_away_and_counted(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("process_cosmos_gateway.devices.things.description_intake._MAX_QUEUED", 2)
    async with hearing(tmp_path, broker.options) as heard, client(broker.options) as anyone:
        for number in range(15):
            await anyone.say(f"wot/t{number}/td", description_of(f"t{number}"))
        await until(lambda: heard.devices.counts["too_many_devices"] == 3)


async def test_descriptions_have_a_budget_of_bytes(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = len(orjson.dumps(description_of("t0")))
    monkeypatch.setattr("process_cosmos_gateway.devices.things.device_table.MAX_DESCRIPTION_BYTES", 2 * size + 10)
    async with hearing(tmp_path, broker.options) as heard, client(broker.options) as anyone:
        for number in range(3):
            await anyone.say(f"wot/t{number}/td", description_of(f"t{number}"))
        await until(lambda: heard.devices.counts["too_many_devices"] == 1)
        await anyone.say("wot/t1/td", b"")
        await until(lambda: heard.device("wot/t1") is None)
        await anyone.say("wot/t2/td", description_of("t2"))
        await until(lambda: heard.device("wot/t2"))


def test_a_description_that_is_known_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError

    async def play() -> None:
        changes: list[object] = []
        intake = DescriptionIntake(
            device_table=DeviceTable(),
            filters=("wot/+/td",),
            counts=Counter(),
            new_a_minute=10,
            notify=changes.append,
            update_subscriptions=lambda _: None,
            on_removed=lambda _: None,
        )
        payload = orjson.dumps(description())
        assert intake.handle_message("wot/tank/td", payload)
        monkeypatch.setattr("process_cosmos_gateway.devices.things.description_intake.parse_description", fail)
        assert intake.handle_message("wot/tank/td", payload) == []
        assert [type(change) for change in changes] == [DeviceChanged]

    asyncio.run(play())


def test_an_alarm_uses_what_readings_left_and_readings_never_what_is_for_alarms() -> None:
    rate = DeviceRate(TokenBucket(rate=1.0, burst=2.0), TokenBucket(rate=1.0, burst=2.0))
    assert [rate.allow(1, 0.0, may_be_urgent=False) for _ in range(3)] == [True, True, False]
    assert [rate.allow(1, 0.0, may_be_urgent=True) for _ in range(3)] == [True, True, False]
    assert rate.allow(1, 1.0, may_be_urgent=False)
    assert rate.allow(1, 2.0, may_be_urgent=True)


def test_a_long_message_counts_for_many() -> None:
    rate = DeviceRate(TokenBucket(rate=1.0, burst=2.0), TokenBucket(rate=1.0, burst=2.0))
    assert rate.allow(65_536, 0.0, may_be_urgent=False)
    assert not rate.allow(1, 30.0, may_be_urgent=False)
    assert rate.allow(1, 32.0, may_be_urgent=False)


def test_a_window_lets_so_many_pass_within_any_minute() -> None:
    window = SlidingWindow(2)
    for now in (0.0, 10.0):
        assert not window.wait(now)
        window.note(now)
    assert window.wait(20.0) == 40.0
    assert not window.wait(60.0)


async def test_garbage_on_many_topics_silences_no_complaint_about_others(
    broker: Broker, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("process_cosmos_gateway.devices.message_handler._MAX_LOGGED_TOPICS", 5)
    async with hearing(tmp_path, broker.options) as heard, client(broker.options) as tank:
        await ready(heard, tank)
        for number in range(6):
            await tank.say(f"wot/stranger-{number}/td", b"garbage")
        await tank.say(LEVEL, b"garbage")
        await until(lambda: heard.devices.counts["garbage"])
        assert f"Passing over what came at {LEVEL}: garbage" in caplog.text
        assert len(heard.devices._message_handler._logged_topics) == 5


async def test_a_long_topic_is_named_anew_after_a_good_message_too(
    broker: Broker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    topic = "wot/tank/" + "x" * 300
    level = {"type": "number", "readOnly": True, "forms": [{"href": f"mqtt://b/{topic}"}]}
    async with hearing(tmp_path, broker.options) as heard, client(broker.options) as tank:
        await tank.say("wot/tank/td", description(properties={"level": level}), retain=True)
        await tank.say(topic, 0, retain=True)
        await until(lambda: heard.value("wot/tank", "level") == 0)
        for value in (b"garbage", 1, b"garbage", b"garbage", 2):
            await tank.say(topic, value)
        await until(lambda: heard.value("wot/tank", "level") == 2)
        assert caplog.text.count(f"Passing over what came at {topic[:256]}") == 2
