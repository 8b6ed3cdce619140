"""The connection to the broker: TLS, client certificates, MQTT 3.1.1, a second client with our id."""

import asyncio
import hashlib
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import trustme

from process_cosmos_gateway.devices.mqtt.connection import Connection, Message
from process_cosmos_gateway.devices.mqtt.errors import TAKEN_OVER, MqttError
from process_cosmos_gateway.options import BrokerOptions
from process_cosmos_testbed.broker import Broker, running_broker
from process_cosmos_testbed.processes import free_port
from process_cosmos_testbed.proxy import FaultProxy
from process_cosmos_testbed.virtual_devices.kinds import LeakSensor
from tests.support.waiting import until

from .parts import client, running_devices


@pytest.fixture
async def tls_broker(tmp_path: Path) -> AsyncIterator[Broker]:
    """Start a broker that requires client certificates."""
    folder = tmp_path / "broker"
    folder.mkdir()
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    for name, certificate in (
        ("server", authority.issue_cert("localhost", "127.0.0.1")),
        ("gateway", authority.issue_cert("gateway.test")),
    ):
        certificate.private_key_pem.write_to_path(folder / f"{name}.key")
        certificate.cert_chain_pems[0].write_to_path(folder / f"{name}.pem")
    lines = (
        "allow_anonymous true",
        f"cafile {folder}/ca.pem",
        f"certfile {folder}/server.pem",
        f"keyfile {folder}/server.key",
        "require_certificate true",
    )
    options = BrokerOptions(
        host="127.0.0.1",
        port=0,
        tls=True,
        ca=folder / "ca.pem",
        certificate=folder / "gateway.pem",
        key=folder / "gateway.key",
    )
    async with running_broker(folder, lines, options) as running:
        yield running


def ignore(connection: Connection, message: Message) -> None:
    connection.acknowledge(message)


async def reason(options: BrokerOptions) -> str:
    with pytest.raises(MqttError) as refused:
        await Connection.open(options, client_id="x", on_message=ignore)
    return str(refused.value)


def is_logged(caplog: pytest.LogCaptureFixture, words: str, times: int) -> bool:
    return caplog.text.count(words) == times


async def test_devices_are_received_over_tls_with_a_client_certificate(tls_broker: Broker, tmp_path: Path) -> None:
    async with (
        running_devices(tmp_path / "data", tls_broker.options) as gateway,
        LeakSensor(tls_broker.options, "leak-1") as sensor,
    ):
        await until(lambda: gateway.value("wot/leak-1", "leak") is False)
        await sensor.set(True)
        await until(lambda: gateway.value("wot/leak-1", "leak"))


async def test_all_messages_of_one_tls_record_are_received(tls_broker: Broker) -> None:
    """Messages after the first are in TLS's own buffer, which a selector does not report."""
    received: list[bytes] = []
    accepted = b"\x20\x03\0\0\0"
    messages = b"".join(b"\x32\x07\0\x01x" + bytes((0, number, 0, number)) for number in range(1, 11))

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(accepted)
        await writer.drain()
        writer.write(messages)
        await reader.read()
        writer.close()

    options = tls_broker.options
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tls_broker.folder / "server.pem", tls_broker.folder / "server.key")
    async with await asyncio.start_server(speak, "127.0.0.1", 0, ssl=context) as server:
        connection = await Connection.open(
            replace(options, port=server.sockets[0].getsockname()[1]),
            client_id="x",
            on_message=lambda _, message: received.append(message.payload),
        )
        await until(lambda: len(received) == 10, 10)  # sooner than a keep-alive would trigger a read
        connection.close()
    assert received == [bytes((number,)) for number in range(1, 11)]


async def test_a_broker_of_an_unknown_authority_is_not_trusted(tls_broker: Broker, tmp_path: Path) -> None:
    other_ca = tmp_path / "other_ca.pem"
    trustme.CA().cert_pem.write_to_path(other_ca)
    assert "certificate verify failed" in await reason(replace(tls_broker.options, ca=other_ca))


async def test_a_missing_certificate_file_is_a_reason_not_a_crash(tls_broker: Broker, tmp_path: Path) -> None:
    assert await reason(replace(tls_broker.options, ca=tmp_path / "none.pem"))
    assert await reason(replace(tls_broker.options, certificate=None, key=None))


async def test_passwords_are_sent_and_can_be_refused(tmp_path: Path) -> None:
    passwords = tmp_path / "passwords"
    salt = b"twelve bytes"
    digest = hashlib.pbkdf2_hmac("sha512", b"right", salt, 1000, 64)
    passwords.write_text(f"someone:$7$1000${b64encode(salt).decode()}${b64encode(digest).decode()}\n")
    passwords.chmod(0o600)
    lines = ("allow_anonymous false", f"password_file {passwords}")
    async with running_broker(tmp_path, lines) as broker:
        assert "uthori" in await reason(replace(broker.options, username="someone", password="wrong"))
        async with client(replace(broker.options, username="someone", password="right")) as accepted:
            await accepted.publish("x", 1)


async def test_mqtt_3_1_1_is_used_with_a_broker_without_mqtt_5(tmp_path: Path) -> None:
    folder = tmp_path / "broker"
    folder.mkdir()
    lines = ("allow_anonymous true", "accept_protocol_versions 3,4")
    async with running_broker(folder, lines) as broker:
        async with (
            running_devices(tmp_path / "data", broker.options) as gateway,
            LeakSensor(broker.options, "leak-1") as sensor,
        ):
            await until(lambda: gateway.value("wot/leak-1", "leak") is False)
            await sensor.set(True)
            await until(lambda: gateway.value("wot/leak-1", "leak"))
            await gateway.wait_for_rows("SELECT count(*) FROM device_message", [(1,)])
        async with running_devices(tmp_path / "data", broker.options) as gateway:
            assert gateway.devices.gaps == 0


async def test_a_session_takeover_is_distinguished_from_a_lost_connection(broker: Broker) -> None:
    first = await Connection.open(broker.options, client_id="same", on_message=ignore)
    second = await Connection.open(broker.options, client_id="same", on_message=ignore)
    assert await first.ended() == TAKEN_OVER
    await broker.kill()
    assert await second.ended() == "connection_lost"


async def test_two_gateways_with_one_client_id_do_not_take_over_for_ever(
    broker: Broker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running_devices(tmp_path / "data", broker.options) as gateway:
        name = f"process-cosmos-{gateway.store.site}"
        for _ in range(2):
            await until(lambda: gateway.devices.broker_connected)
            other = await Connection.open(broker.options, client_id=name, on_message=ignore)
            await until(lambda: not gateway.devices.broker_connected)
            other.close()
        await until(lambda: "identity_conflict" in caplog.text)


async def test_an_unreachable_broker_is_a_reason() -> None:
    assert "Connect call failed" in await reason(BrokerOptions(host="127.0.0.1", port=free_port()))
    assert await reason(BrokerOptions(host="no-such-host.invalid", port=1))


@pytest.mark.parametrize(("host", "port"), [("mqtt..local", 1), ("mqtt\0local", 1), ("127.0.0.1", 70_000)])
async def test_an_invalid_host_or_port_is_a_reason(host: str, port: int) -> None:
    assert await reason(BrokerOptions(host=host, port=port))


async def test_the_same_outage_is_logged_again_after_the_broker_was_back(
    broker: Broker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        FaultProxy("127.0.0.1", broker.options.port) as proxy,
        running_devices(tmp_path / "data", replace(broker.options, port=proxy.port)) as gateway,
    ):
        for times in (1, 2):
            await until(lambda: gateway.devices.broker_connected)
            proxy.reset()
            await until(partial(is_logged, caplog, "The MQTT broker is not connected (connection_lost)", times))


async def test_a_broker_that_never_answers_times_out(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("process_cosmos_gateway.devices.mqtt.connection._ANSWER_SECONDS", 0.3)
    async with FaultProxy("127.0.0.1", broker.options.port) as proxy:
        proxy.blackhole()
        assert await reason(replace(broker.options, port=proxy.port)) == "broker_silent"
        assert proxy.counts.swallowed_bytes > 0


async def test_a_half_open_connection_is_detected(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("process_cosmos_gateway.devices.mqtt.paho_client.KEEPALIVE", 1)
    async with (
        FaultProxy("127.0.0.1", broker.options.port) as proxy,
        running_devices(tmp_path / "data", replace(broker.options, port=proxy.port)) as gateway,
    ):
        proxy.blackhole()
        await until(lambda: not gateway.devices.broker_connected)
        assert proxy.counts.swallowed_bytes > 0
        proxy.heal()
        await until(lambda: gateway.devices.broker_connected)


@pytest.mark.parametrize("reply", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x20\x00", b"\x20\xff\xff\xff\xff\xff", b""])
async def test_an_endpoint_that_does_not_speak_mqtt_is_a_reason(reply: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(reply)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert await reason(BrokerOptions(host="127.0.0.1", port=port))


@pytest.mark.parametrize("tls", [True, False])
async def test_an_endpoint_that_speaks_first_is_a_reason(tls_broker: Broker, *, tls: bool) -> None:
    """Its greeting may arrive with the end of the TLS handshake, before CONNECT is sent."""

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example is ready, whoever you are and whatever you send\r\n")
        await reader.read()
        writer.close()

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tls_broker.folder / "server.pem", tls_broker.folder / "server.key")
    async with await asyncio.start_server(greet, "127.0.0.1", 0, ssl=context if tls else None) as server:
        port = server.sockets[0].getsockname()[1]
        async with asyncio.timeout(5):
            assert "broker_hung_up" in await reason(replace(tls_broker.options, port=port, tls=tls))


async def test_a_broker_without_tls_is_a_tls_error(broker: Broker) -> None:
    assert (await reason(replace(broker.options, tls=True))).startswith("tls:")


async def test_a_failed_tls_handshake_leaves_no_socket_open() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"this is no TLS at all")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert await reason(BrokerOptions(host="127.0.0.1", port=port, tls=True))
