"""Floods: a device that never stops, descriptions in large numbers, retained garbage."""

import asyncio
from collections import Counter
from pathlib import Path

import orjson
import pytest

from process_cosmos_gateway.contract.devices import DeviceChanged
from process_cosmos_gateway.devices.things.description_intake import DescriptionIntake
from process_cosmos_gateway.devices.things.device_table import DeviceTable
from process_cosmos_gateway.devices.things.rates import DeviceRate, SlidingWindow, TokenBucket
from process_cosmos_testbed.broker import Broker
from tests.support.waiting import until

from .parts import Client, RunningDevices, client, description, description_of, running_devices, set_up_tank

LEVEL = "wot/tank/properties/level"
PUMP = "wot/tank/properties/pump"
OVERFLOW = "wot/tank/events/overflow"


@pytest.fixture
def slow_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limit a device to ten messages at once and two a second."""

    def bucket() -> TokenBucket:
        return TokenBucket(rate=2.0, burst=10.0)

    slow = "process_cosmos_gateway.devices.things.rate_limiter.DeviceRate"
    monkeypatch.setattr(slow, lambda: DeviceRate(bucket(), bucket()))


def full_window() -> SlidingWindow:
    window = SlidingWindow(1)
    window.note(asyncio.get_running_loop().time())
    return window


async def exceed_rate(gateway: RunningDevices, tank: Client) -> None:
    for number in range(30):
        await tank.publish(LEVEL, number)
    await until(lambda: gateway.devices.counts["rate_limited"])


async def test_a_device_above_its_rate_is_logged_counted_and_acknowledged_and_its_urgent_messages_pass(
    broker: Broker, tmp_path: Path, slow_rate: None, caplog: pytest.LogCaptureFixture
) -> None:
    async with running_devices(tmp_path, broker.options) as gateway, client(broker.options) as tank:
        await set_up_tank(gateway, tank)
        await exceed_rate(gateway, tank)
        await tank.publish(OVERFLOW, 5)
        await tank.publish(PUMP, payload=True)
        await until(lambda: gateway.events("overflow") and gateway.value("wot/tank", "pump"))
        link = gateway.devices.broker_link
        assert link is not None
        assert link.limited == ("wot/tank",)
        assert caplog.text.count("rate_limited: wot/tank") == 1
        await until(lambda: not gateway.devices._writer._unacknowledged)


async def test_the_newest_state_of_a_device_above_its_rate_is_handled_when_the_rate_allows(
    broker: Broker, tmp_path: Path, slow_rate: None
) -> None:
    async with running_devices(tmp_path, broker.options) as gateway, client(broker.options) as tank:
        await set_up_tank(gateway, tank)
        for _ in range(60):
            await tank.publish(PUMP, payload=True)
        await tank.publish(PUMP, payload=False)  # above the rate, and the first of its kind
        await until(lambda: gateway.devices.counts["rate_limited"] and gateway.value("wot/tank", "pump") is True)
        await until(lambda: gateway.value("wot/tank", "pump") is False)
        await gateway.wait_for_rows("SELECT value FROM device_property WHERE name = 'pump'", [(b"false",)])


async def test_a_device_above_its_rate_does_not_delay_another(broker: Broker, tmp_path: Path, slow_rate: None) -> None:
    async with running_devices(tmp_path, broker.options) as gateway, client(broker.options) as tank:
        await set_up_tank(gateway, tank)
        await tank.publish("wot/other/td", description_of("other"), retain=True)
        await until(lambda: gateway.device("wot/other"))
        await exceed_rate(gateway, tank)
        await tank.publish("wot/other/properties/level", 3, retain=True)
        await until(lambda: gateway.value("wot/other", "level") == 3)


async def test_new_devices_are_limited_to_ten_a_minute_and_known_ones_are_not(broker: Broker, tmp_path: Path) -> None:
    async with running_devices(tmp_path, broker.options) as gateway, client(broker.options) as publisher:
        for number in range(15):
            await publisher.publish(f"wot/t{number}/td", description_of(f"t{number}"), retain=True)
        await until(lambda: len(gateway.devices.devices()) == 10)
        await publisher.publish("wot/t3/td", description_of("t3", title="Changed"), retain=True)
        await until(lambda: (device := gateway.device("wot/t3")) and device.title == "Changed")
        assert len(gateway.devices.devices()) == 10
    async with running_devices(tmp_path, broker.options) as gateway:
        await until(lambda: len(gateway.devices.devices()) == 15)


async def test_a_queued_description_is_handled_later_and_its_device_subscribed(broker: Broker, tmp_path: Path) -> None:
    async with running_devices(tmp_path, broker.options) as gateway, client(broker.options) as tank:
        gateway.devices._descriptions._new.window = full_window()
        await tank.publish("wot/tank/td", description(), retain=True)
        await until(lambda: gateway.devices._descriptions._new.payloads)
        gateway.devices._descriptions._new.window = SlidingWindow(1)
        await until(lambda: gateway.device("wot/tank"))
        await tank.publish(LEVEL, 4, retain=True)  # retained, in case the subscription is made later
        await until(lambda: gateway.value("wot/tank", "level") == 4)
        await gateway.wait_for_rows("SELECT count(*) FROM device WHERE length(description) > 0", [(1,)])


async def test_a_queued_description_that_is_withdrawn_is_discarded(broker: Broker, tmp_path: Path) -> None:
    async with running_devices(tmp_path, broker.options) as gateway, client(broker.options) as tank:
        waiting = gateway.devices._descriptions._new
        waiting.window = full_window()
        await tank.publish("wot/tank/td", description())
        await until(lambda: waiting.payloads)
        await tank.publish("wot/tank/td", b"")
        await until(lambda: not waiting.payloads)
        assert waiting.bytes == 0


async def test_descriptions_beyond_the_queue_limit_are_refused_and_counted(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("process_cosmos_gateway.devices.things.description_intake._MAX_QUEUED", 2)
    async with running_devices(tmp_path, broker.options) as gateway, client(broker.options) as publisher:
        for number in range(15):
            await publisher.publish(f"wot/t{number}/td", description_of(f"t{number}"))
        await until(lambda: gateway.devices.counts["too_many_devices"] == 3)


async def test_descriptions_have_a_budget_of_bytes(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = len(orjson.dumps(description_of("t0")))
    monkeypatch.setattr("process_cosmos_gateway.devices.things.device_table.MAX_DESCRIPTION_BYTES", 2 * size + 10)
    async with running_devices(tmp_path, broker.options) as gateway, client(broker.options) as publisher:
        for number in range(3):
            await publisher.publish(f"wot/t{number}/td", description_of(f"t{number}"))
        await until(lambda: gateway.devices.counts["too_many_devices"] == 1)
        await publisher.publish("wot/t1/td", b"")
        await until(lambda: gateway.device("wot/t1") is None)
        await publisher.publish("wot/t2/td", description_of("t2"))
        await until(lambda: gateway.device("wot/t2"))


def test_a_known_description_is_not_parsed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError

    async def handle_twice() -> None:
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

    asyncio.run(handle_twice())


def test_urgent_messages_may_use_the_budget_of_readings_but_not_the_reverse() -> None:
    rate = DeviceRate(TokenBucket(rate=1.0, burst=2.0), TokenBucket(rate=1.0, burst=2.0))
    assert [rate.allow(1, 0.0, may_be_urgent=False) for _ in range(3)] == [True, True, False]
    assert [rate.allow(1, 0.0, may_be_urgent=True) for _ in range(3)] == [True, True, False]
    assert rate.allow(1, 1.0, may_be_urgent=False)
    assert rate.allow(1, 2.0, may_be_urgent=True)


def test_a_long_message_costs_several() -> None:
    rate = DeviceRate(TokenBucket(rate=1.0, burst=2.0), TokenBucket(rate=1.0, burst=2.0))
    assert rate.allow(65_536, 0.0, may_be_urgent=False)
    assert not rate.allow(1, 30.0, may_be_urgent=False)
    assert rate.allow(1, 32.0, may_be_urgent=False)


def test_a_sliding_window_limits_events_within_any_minute() -> None:
    window = SlidingWindow(2)
    for now in (0.0, 10.0):
        assert not window.wait(now)
        window.note(now)
    assert window.wait(20.0) == 40.0
    assert not window.wait(60.0)


async def test_garbage_on_many_topics_does_not_suppress_log_lines_about_others(
    broker: Broker, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("process_cosmos_gateway.devices.message_handler._MAX_LOGGED_TOPICS", 5)
    async with running_devices(tmp_path, broker.options) as gateway, client(broker.options) as tank:
        await set_up_tank(gateway, tank)
        for number in range(6):
            await tank.publish(f"wot/stranger-{number}/td", b"garbage")
        await tank.publish(LEVEL, b"garbage")
        await until(lambda: gateway.devices.counts["garbage"])
        assert f"Ignored a message on {LEVEL}: garbage" in caplog.text
        assert len(gateway.devices._message_handler._logged_topics) == 5


async def test_a_long_topic_is_logged_again_after_a_valid_message(
    broker: Broker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    topic = "wot/tank/" + "x" * 300
    level = {"type": "number", "readOnly": True, "forms": [{"href": f"mqtt://b/{topic}"}]}
    async with running_devices(tmp_path, broker.options) as gateway, client(broker.options) as tank:
        await tank.publish("wot/tank/td", description(properties={"level": level}), retain=True)
        await tank.publish(topic, 0, retain=True)
        await until(lambda: gateway.value("wot/tank", "level") == 0)
        for value in (b"garbage", 1, b"garbage", b"garbage", 2):
            await tank.publish(topic, value)
        await until(lambda: gateway.value("wot/tank", "level") == 2)
        assert caplog.text.count(f"Ignored a message on {topic[:256]}") == 2
