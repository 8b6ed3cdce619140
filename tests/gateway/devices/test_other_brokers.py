"""Other brokers: they hang up, stay silent, deny, shorten the keep-alive, or send invalid data."""

import asyncio
import struct
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from process_cosmos_gateway.contract.destinations import BrokerLink
from process_cosmos_gateway.contract.errors import Code
from process_cosmos_gateway.devices.mqtt.broker_state import BrokerState
from process_cosmos_gateway.devices.mqtt.connection import Connection, Message
from process_cosmos_gateway.devices.mqtt.errors import MqttError
from process_cosmos_gateway.devices.mqtt.packets import MAX_PACKET
from process_cosmos_gateway.devices.mqtt.versions import TRY_5_AGAIN, Version, VersionOrder
from process_cosmos_gateway.errors import RequestRefusedError
from process_cosmos_gateway.options import BrokerOptions
from process_cosmos_testbed.broker import Broker, running_broker
from process_cosmos_testbed.mqtt_proxy import Manners, MqttProxy, Reaction
from tests.support.waiting import until

from .parts import RunningDevices, client, description, running_devices, set_up_tank

LEVEL = "wot/tank/properties/level"


@pytest.fixture
async def proxy(broker: Broker) -> AsyncIterator[MqttProxy]:
    async with MqttProxy(broker.options.port) as running:
        yield running


def through(broker: Broker, proxy: MqttProxy) -> BrokerOptions:
    return replace(broker.options, port=proxy.port)


def link(gateway: RunningDevices) -> BrokerLink:
    found = gateway.devices.broker_link
    assert found is not None
    return found


def ignore(connection: Connection, message: Message) -> None:
    connection.acknowledge(message)


async def test_a_broker_that_hangs_up_at_mqtt_5_gets_3_1_1_at_once_and_is_remembered(
    broker: Broker, proxy: MqttProxy, tmp_path: Path
) -> None:
    proxy.manners = Manners(to_5=Reaction.HANG_UP)
    async with running_devices(tmp_path, through(broker, proxy)) as gateway, client(broker.options) as tank:
        await set_up_tank(gateway, tank)
        assert link(gateway) == BrokerLink(version="3.1.1")
        await proxy.reset()
        await until(lambda: proxy.counts["connects_311"] == 2 and gateway.devices.broker_connected)
        assert (proxy.counts["hang_up_at_5"], gateway.devices.gaps) == (1, 0)


async def test_a_broker_that_is_silent_at_mqtt_5_gets_3_1_1(
    broker: Broker, proxy: MqttProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("process_cosmos_gateway.devices.mqtt.connection._ANSWER_SECONDS", 0.3)
    proxy.manners = Manners(to_5=Reaction.SILENCE)
    connection = await Connection.open(through(broker, proxy), client_id="x", on_message=ignore)
    assert connection.version is Version.V311
    connection.close()


async def test_a_broker_that_answers_mqtt_5_like_3_1_1_gets_3_1_1() -> None:
    seen: list[int] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append((await reader.read(1000))[8])
        writer.write(b"\x20\x02\x00\x00")
        await reader.read()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        options = BrokerOptions(host="127.0.0.1", port=server.sockets[0].getsockname()[1])
        connection = await Connection.open(options, client_id="x", on_message=ignore)
        assert (connection.version, seen) == (Version.V311, [5, 4])
        connection.close()


async def test_a_broker_that_hangs_up_at_both_versions_is_not_remembered(broker: Broker, proxy: MqttProxy) -> None:
    version_order = VersionOrder()
    proxy.manners = Manners(to_5=Reaction.HANG_UP)
    await broker.stop()
    with pytest.raises(MqttError):
        await Connection.open(through(broker, proxy), client_id="x", on_message=ignore, version_order=version_order)
    assert version_order.in_order(asyncio.get_running_loop().time())[0] is Version.V5


def test_mqtt_5_is_tried_again_every_24_hours() -> None:
    version_order = VersionOrder()
    version_order.note_answer(Version.V311, 100.0)
    assert version_order.in_order(100.0 + TRY_5_AGAIN - 1)[0] is Version.V311
    version_order.note_answer(Version.V311, 200.0)
    assert version_order.in_order(100.0 + TRY_5_AGAIN)[0] is Version.V5
    version_order.note_answer(Version.V5, 300.0)
    assert version_order.in_order(301.0)[0] is Version.V5


async def test_a_refused_login_is_no_reason_to_try_another_version(tmp_path: Path) -> None:
    async with running_broker(tmp_path, ("allow_anonymous false",)) as broker, MqttProxy(broker.options.port) as proxy:
        with pytest.raises(MqttError) as refused:
            await Connection.open(through(broker, proxy), client_id="x", on_message=ignore)
        assert refused.value.code == "login_refused"
        assert (proxy.counts["connects_5"], proxy.counts["connects_311"]) == (1, 0)


@pytest.mark.parametrize("reaction", [Reaction.HANG_UP, Reaction.SILENCE])
async def test_the_count_of_dropped_messages_is_left_out_if_the_broker_does_not_publish_it(
    broker: Broker, proxy: MqttProxy, tmp_path: Path, reaction: Reaction, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("process_cosmos_gateway.devices.mqtt.connection._ANSWER_SECONDS", 0.5)
    proxy.manners = Manners(to_sys=reaction)
    async with running_devices(tmp_path, through(broker, proxy)) as gateway, client(broker.options) as tank:
        await until(lambda: gateway.devices._dropped_topic_from)
        await until(lambda: gateway.devices.broker_connected)
        await set_up_tank(gateway, tank)
        assert proxy.counts[f"{reaction}_at_sys"] == 1
        assert proxy.counts["connects_5"] == (2 if reaction is Reaction.HANG_UP else 1)


async def test_a_denied_write_is_reported_to_the_caller_and_not_repeated(
    broker: Broker, proxy: MqttProxy, tmp_path: Path
) -> None:
    proxy.manners = Manners(denied="wot/tank/properties/pump/writeproperty")
    async with running_devices(tmp_path, through(broker, proxy)) as gateway, client(broker.options) as tank:
        await set_up_tank(gateway, tank)
        with pytest.raises(RequestRefusedError) as refused:
            await gateway.write("wot/tank", "pump", value=True)
        assert refused.value.code is Code.WRITE_DENIED
        assert link(gateway).denied == ("wot/tank/properties/pump/writeproperty",)
        await gateway.wait_for_rows("SELECT * FROM device_write", [])
        assert gateway.devices.counts["writes_denied"] == 1
        proxy.manners = Manners()
        await proxy.reset()
        await until(lambda: gateway.devices.broker_connected)
        await gateway.write("wot/tank", "pump", value=True)
        await until(lambda: not link(gateway).denied)


async def test_a_denied_subscription_is_listed(broker: Broker, proxy: MqttProxy, tmp_path: Path) -> None:
    proxy.manners = Manners(denied="wot/tank/events")
    async with running_devices(tmp_path, through(broker, proxy)) as gateway, client(broker.options) as tank:
        await set_up_tank(gateway, tank)
        await until(lambda: link(gateway).denied)
        assert link(gateway).denied == ("wot/tank/events/overflow",)
        await tank.publish("wot/tank/td", b"", retain=True)
        await until(lambda: not link(gateway).denied)


async def test_an_unanswered_subscription_is_made_by_a_new_connection(
    broker: Broker, proxy: MqttProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("process_cosmos_gateway.devices.mqtt.connection._ANSWER_SECONDS", 0.5)
    proxy.manners = Manners(lost="wot/tank/properties")
    async with running_devices(tmp_path, through(broker, proxy)) as gateway, client(broker.options) as tank:
        proxy.manners = Manners()
        await set_up_tank(gateway, tank)
        assert (proxy.counts["silence_at_topic"], proxy.counts["connects_5"]) == (1, 2)
    assert "subscription_unanswered" in caplog.text


@pytest.mark.parametrize("old", [False, True])
async def test_a_broker_that_supports_only_qos_0_gets_qos_0(
    broker: Broker, proxy: MqttProxy, tmp_path: Path, *, old: bool
) -> None:
    proxy.manners = Manners(max_qos=0, to_5=Reaction.HANG_UP if old else Reaction.NONE)
    async with (
        running_devices(tmp_path, through(broker, proxy)) as gateway,
        client(broker.options, topics=["wot/tank/properties/pump/writeproperty"]) as tank,
    ):
        await set_up_tank(gateway, tank)
        await gateway.write("wot/tank", "pump", value=True)
        await until(lambda: tank.received)
        assert (link(gateway).max_qos, proxy.counts["qos_not_supported"]) == (0, 0)


async def test_a_server_keep_alive_is_applied(broker: Broker, proxy: MqttProxy) -> None:
    proxy.manners = Manners(keep_alive=1)
    connection = await Connection.open(through(broker, proxy), client_id="x", on_message=ignore)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(4):
            await connection.ended()
    assert proxy.counts["keep_alive_missed"] == 0
    connection.close()


GARBAGE = {
    "a length that never ends": b"\x30\xff\xff\xff\xff\xff",
    "a publish without a topic": b"\x32\x01\x00",
    "properties that are cut off": b"\x32\x09\x00\x01x\x00\x01\x7f\x26\x00\x01",
    "an unknown property": b"\x32\x09\x00\x01x\x00\x01\x03\xf7\x00\x01",
    "an unknown packet": b"\x00\x00",
    "an unknown reason": b"\x90\x04\x00\x01\x00\x55",
    "a puback that is cut off": b"\x40\x01\x00",
    "a large packet that is no message": b"\x90\xff\xff\xff\x7f",
    "text": b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 200,
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE.keys())
async def test_invalid_mqtt_data_ends_the_connection_and_the_next_one_works(
    broker: Broker, proxy: MqttProxy, tmp_path: Path, garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    proxy.manners = Manners(garbage=garbage)
    async with (
        running_devices(tmp_path, through(broker, proxy), connected=False) as gateway,
        client(broker.options) as tank,
    ):
        await until(lambda: proxy.counts["garbage"] >= 2)
        proxy.manners = Manners()
        await until(lambda: gateway.devices.broker_connected)
        await set_up_tank(gateway, tank)
    assert sum("The MQTT broker is not connected" in line for line in caplog.text.splitlines()) <= 2


async def test_an_exception_in_the_message_callback_ends_the_connection_too(broker: Broker) -> None:
    def fail(_: Connection, __: Message) -> None:
        raise RuntimeError("a bug")

    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda *_: None)
    connection = await Connection.open(broker.options, client_id="x", on_message=fail)
    await connection.subscribe(["x"])
    async with client(broker.options) as other:
        await other.publish("x", 1)
    assert await connection.ended() == "protocol_error"


@pytest.mark.parametrize("old", [False, True])
async def test_a_message_that_is_too_large_is_acknowledged_and_counted(
    broker: Broker, proxy: MqttProxy, tmp_path: Path, *, old: bool
) -> None:
    proxy.manners = Manners(to_5=Reaction.HANG_UP if old else Reaction.NONE)
    async with running_devices(tmp_path, through(broker, proxy)) as gateway, client(broker.options) as tank:
        await set_up_tank(gateway, tank)
        await tank.publish(LEVEL, b"1" * (3 * MAX_PACKET))
        await tank.publish(LEVEL, 7)
        await until(lambda: gateway.value("wot/tank", "level") == 7)
        assert gateway.devices.counts["oversized"] == old, "a broker with MQTT 5 drops it"
        await gateway.wait_until_acknowledged(tank, LEVEL, 8)


async def test_a_packet_of_exactly_the_limit_is_accepted(broker: Broker) -> None:
    received: list[Message] = []
    connection = await Connection.open(broker.options, client_id="x", on_message=lambda _, each: received.append(each))
    await connection.subscribe(["x"])
    overhead = len(struct.pack("!BBBB", 0, 0, 0, 0)) + 2 + 1 + 2 + 1  # header, topic, id, no properties
    async with client(broker.options) as other:
        await other.publish("x", b"1" * (MAX_PACKET - overhead))
    await until(lambda: received)
    assert received[0].oversized == 0
    assert len(received[0].payload) == MAX_PACKET - overhead
    connection.close()


async def test_a_description_of_the_largest_size_fits_into_a_packet(broker: Broker, tmp_path: Path) -> None:
    async with running_devices(tmp_path, broker.options) as gateway, client(broker.options) as tank:
        await tank.publish("wot/tank/td", description(padding="x" * 260_000), retain=True)
        await until(lambda: gateway.device("wot/tank"))


class FakeTime:
    """Monotonic seconds, set by the test."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_an_outage_needs_help_after_ten_minutes_and_a_refusal_at_once() -> None:
    at = FakeTime()
    state = BrokerState(at, lambda: None)
    state.note_lost("timeout: no answer")
    assert (state.to_broker_link((), turned_away=False).reason, at.now) == ("timeout", 0.0)
    at.now = 599.0
    assert not state.to_broker_link((), turned_away=False).needs_help
    at.now = 600.0
    assert state.to_broker_link((), turned_away=False).needs_help
    at.now = 0.0
    refused = BrokerState(at, lambda: None)
    refused.note_lost("login_refused: Not authorized")
    assert refused.to_broker_link((), turned_away=False).needs_help
    conflict = BrokerState(at, lambda: None)
    conflict.note_lost("identity_conflict")
    at.now = 700.0
    assert not conflict.to_broker_link((), turned_away=False).needs_help, "it has a repair issue of its own"


def test_each_change_of_the_broker_state_is_announced_once() -> None:
    changes: list[str] = []
    state = BrokerState(FakeTime(), lambda: changes.append("changed"))
    state.note_denied("wot/tank/level")
    state.note_denied("wot/tank/level")
    state.note_allowed("wot/tank/level")
    state.note_allowed("wot/tank/level")
    assert len(changes) == 2
    state.note_lost("timeout")
    assert len(changes) == 3


async def test_the_lab_counts_identical_messages_that_reuse_a_packet_id(broker: Broker, proxy: MqttProxy) -> None:
    received: list[int] = []

    def receive(connection: Connection, message: Message) -> None:
        received.append(message.number)
        connection.acknowledge(message)

    async def listen(payloads: Sequence[bytes]) -> None:
        """Receive the messages in a new session, whose first packet id is 1."""
        before = len(received)
        connection = await Connection.open(through(broker, proxy), client_id="x", on_message=receive)
        await connection.subscribe([LEVEL])
        for payload in payloads:
            await connection.publish(LEVEL, payload)
        await until(lambda: len(received) == before + len(payloads))
        connection.close()

    await listen([b"1", b"2", b"2"])
    assert proxy.counts["ids_given_out_again"] == 0
    await listen([b"1", b"1", b"2"])
    assert received == [1, 2, 3, 1, 2, 3]
    assert proxy.counts["ids_given_out_again"] == 2
