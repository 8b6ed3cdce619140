"""Sessions of the integration's client with the gateway."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import aiohttp
import pytest

from custom_components.process_cosmos.contract.codec import MAX_FRAME
from custom_components.process_cosmos.contract.destinations import ListRejected, RejectedEvents
from custom_components.process_cosmos.contract.devices import Device, Snapshot, WriteProperty
from custom_components.process_cosmos.contract.errors import ContractError
from custom_components.process_cosmos.contract.identifiers import Ulid
from custom_components.process_cosmos.contract.messages import FromGateway
from custom_components.process_cosmos.contract.pairing import OneTimeLine, parse_line
from custom_components.process_cosmos.contract.session import Heartbeat, HomeAssistantHello, Refused
from custom_components.process_cosmos.gateway import client as client_module
from custom_components.process_cosmos.gateway.client import (
    CANNOT_CONNECT,
    GATEWAY_AWAY,
    GatewayAwayError,
    GatewayClient,
    GatewayError,
    GatewayRefusedError,
    RequestRefusedError,
    Session,
    pair,
)
from tests.support.waiting import until

from .contract_gateway import SECRET, SITE, TOKEN, ContractGateway, refusing

pytestmark = pytest.mark.usefixtures("socket_enabled")

HELLO = HomeAssistantHello(
    schema=1, min_schema=1, version="9.8.7", instance="an-instance", run=Ulid("01JDG0000000000000000000R1")
)
WRITE = WriteProperty(id="1", device="valve", property="open", value=True)


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


class Listening:
    """Receives the messages of a session in the background."""

    def __init__(self, session: Session) -> None:
        self.messages: list[FromGateway] = []
        self.ended = asyncio.create_task(self._read(session))

    async def _read(self, session: Session) -> GatewayError:
        try:
            async for message in session.messages():
                self.messages.append(message)
        except GatewayError as error:
            return error
        raise AssertionError("messages() ended without an error")


async def refusal_of(http: aiohttp.ClientSession, gateway: ContractGateway, token: str = TOKEN) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        await GatewayClient(http, gateway.url, token, None).connect(HELLO)
    return caught.value


async def test_a_session_begins_with_both_hello_messages(http: aiohttp.ClientSession, gateway: ContractGateway) -> None:
    async with await GatewayClient(http, gateway.url, TOKEN, None).connect(HELLO) as session:
        assert session.hello.site == SITE
    assert gateway.received[0] == HELLO


async def test_both_sides_send_heartbeats(
    http: aiohttp.ClientSession, gateway: ContractGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "CONFIRM_SECONDS", 0.01)
    monkeypatch.setattr(client_module, "HEARTBEAT_EVERY", 0.02)
    async with await GatewayClient(http, gateway.url, TOKEN, None).connect(HELLO) as session:
        listening = Listening(session)
        await gateway.wait_for_message(Heartbeat, times=3)
        await until(lambda: Heartbeat() in listening.messages)
    assert (await listening.ended).code == GATEWAY_AWAY


async def test_a_processed_change_is_confirmed_before_the_next_heartbeat(
    http: aiohttp.ClientSession, gateway: ContractGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "CONFIRM_SECONDS", 0.01)
    async with await GatewayClient(http, gateway.url, TOKEN, None).connect(HELLO) as session:
        session.processed_fn = lambda: 7
        await gateway.wait_for_message(Heartbeat)
        assert gateway.received_of(Heartbeat) == [Heartbeat(sequence=7)]
        session.processed_fn = lambda: 8
        await gateway.wait_for_message(Heartbeat, times=2)
        assert gateway.received_of(Heartbeat)[1:] == [Heartbeat(sequence=8)]


async def test_a_silent_gateway_counts_as_disconnected(
    http: aiohttp.ClientSession, gateway: ContractGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "SILENCE_LIMIT", 0.05)
    gateway.receipts = False
    async with await GatewayClient(http, gateway.url, TOKEN, None).connect(HELLO) as session:
        assert isinstance(await Listening(session).ended, GatewayAwayError)


async def test_a_hanging_gateway_does_not_delay_closing(
    http: aiohttp.ClientSession, gateway: ContractGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "CLOSE_WITHIN", 0.05)
    gateway.released = asyncio.Event()
    async with asyncio.timeout(8), await GatewayClient(http, gateway.url, TOKEN, None).connect(HELLO):
        await until(lambda: gateway.socket)
    gateway.released.set()


async def test_a_request_gets_its_own_reply(http: aiohttp.ClientSession, gateway: ContractGateway) -> None:
    listed = RejectedEvents(id="2", events=())
    gateway.reply = lambda message: listed if isinstance(message, ListRejected) else None
    async with await GatewayClient(http, gateway.url, TOKEN, None).connect(HELLO) as session:
        listening = Listening(session)
        write = asyncio.create_task(session.request(WRITE))
        assert await session.request(ListRejected(id="2")) == listed
        assert not write.done()
        await gateway.send(replace(listed, id="nobody asked"))
        await gateway.drop()
        with pytest.raises(GatewayAwayError):
            await write
        await listening.ended


async def test_a_refused_request_raises_the_gateways_code(
    http: aiohttp.ClientSession, gateway: ContractGateway
) -> None:
    gateway.reply = refusing("broker_away")
    async with await GatewayClient(http, gateway.url, TOKEN, None).connect(HELLO) as session:
        Listening(session)
        with pytest.raises(RequestRefusedError) as caught:
            await session.request(WRITE)
    assert caught.value.code == "broker_away"


async def test_a_request_without_a_reply_times_out(
    http: aiohttp.ClientSession, gateway: ContractGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "REQUEST_WITHIN", 0.05)
    gateway.reply = lambda _: None
    async with await GatewayClient(http, gateway.url, TOKEN, None).connect(HELLO) as session:
        Listening(session)
        with pytest.raises(GatewayAwayError):
            await session.request(WRITE)


async def test_closing_a_session_fails_pending_requests(http: aiohttp.ClientSession, gateway: ContractGateway) -> None:
    gateway.reply = lambda _: None
    async with await GatewayClient(http, gateway.url, TOKEN, None).connect(HELLO) as session:
        asking = asyncio.create_task(session.request(WRITE))
        given_up = asyncio.create_task(session.request(replace(WRITE, id="2")))
        await gateway.wait_for_message(WriteProperty, times=2)
        given_up.cancel()
    with pytest.raises(GatewayAwayError):
        await asking


async def test_a_session_that_is_cancelled_while_it_closes_closes_its_connection(
    http: aiohttp.ClientSession, gateway: ContractGateway
) -> None:
    async def close_cancelled() -> None:
        async with await GatewayClient(http, gateway.url, TOKEN, None).connect(HELLO):
            task = asyncio.current_task()
            assert task
            task.cancel()  # arrives at the first await of the exit

    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(close_cancelled())
    await until(lambda: gateway.socket is not None and gateway.socket.closed)


async def test_unknown_messages_are_counted_and_ignored(http: aiohttp.ClientSession, gateway: ContractGateway) -> None:
    async with await GatewayClient(http, gateway.url, TOKEN, None).connect(HELLO) as session:
        listening = Listening(session)
        for frame in ('{"type": "of a newer gateway"}', "no json", '{"type": "snapshot"}', "[]"):
            await gateway.send_raw(frame)
        await gateway.send(Snapshot(sequence=1, devices=()))
        await until(lambda: Snapshot(sequence=1, devices=()) in listening.messages)
    assert session.ignored == 4


async def test_the_pages_of_a_snapshot_are_joined(http: aiohttp.ClientSession, gateway: ContractGateway) -> None:
    async with await GatewayClient(http, gateway.url, TOKEN, None).connect(HELLO) as session:
        listening = Listening(session)
        leak, valve = Device(id="leak", title="Leak"), Device(id="valve", title="Valve")
        await gateway.send(Snapshot(sequence=1, devices=(leak,), more=True), Snapshot(sequence=1, devices=(valve,)))
        await gateway.send(Snapshot(sequence=2, devices=()))
        await until(lambda: Snapshot(sequence=2, devices=()) in listening.messages)
    assert [message for message in listening.messages if isinstance(message, Snapshot)] == [
        Snapshot(sequence=1, devices=(leak, valve)),
        Snapshot(sequence=2, devices=()),
    ]


async def test_a_frame_that_is_too_long_ends_the_session(http: aiohttp.ClientSession, gateway: ContractGateway) -> None:
    async with await GatewayClient(http, gateway.url, TOKEN, None).connect(HELLO) as session:
        listening = Listening(session)
        await gateway.send_raw("x" * (MAX_FRAME + 2))
        assert isinstance(await listening.ended, GatewayAwayError)


async def test_a_gateway_may_end_a_session_with_a_reason(http: aiohttp.ClientSession, gateway: ContractGateway) -> None:
    async with await GatewayClient(http, gateway.url, TOKEN, None).connect(HELLO) as session:
        listening = Listening(session)
        await gateway.send(Refused(code="other_home_assistant", message="Another one was paired"))
        error = await listening.ended
    assert isinstance(error, GatewayRefusedError)
    assert error.code == "other_home_assistant"


@pytest.mark.parametrize(
    ("schema", "min_schema", "code"), [(0, 0, "schema_too_old"), (9, 9, "schema_too_new"), (9, 1, None)]
)
async def test_schemas_must_overlap(
    http: aiohttp.ClientSession, gateway: ContractGateway, schema: int, min_schema: int, code: str | None
) -> None:
    gateway.hello = replace(gateway.hello, schema=schema, min_schema=min_schema)
    if code is None:
        async with await GatewayClient(http, gateway.url, TOKEN, None).connect(HELLO) as session:
            assert session.hello.schema == schema
    else:
        assert (await refusal_of(http, gateway)).code == code


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("schema_too_old", "schema_too_new"),  # the code of the gateway describes this side
        ("schema_too_new", "schema_too_old"),
        ("other_home_assistant", "other_home_assistant"),
    ],
)
async def test_a_refused_hello_names_the_outdated_side(
    http: aiohttp.ClientSession, gateway: ContractGateway, said: str, meant: str
) -> None:
    gateway.refused = Refused(code=said, message="No")
    error = await refusal_of(http, gateway)
    assert isinstance(error, GatewayRefusedError)
    assert error.code == meant


async def test_a_server_with_another_protocol_is_not_a_gateway(
    http: aiohttp.ClientSession, gateway: ContractGateway
) -> None:
    gateway.refused = Heartbeat()
    error = await refusal_of(http, gateway)
    assert (type(error), error.code) == (GatewayAwayError, CANNOT_CONNECT)


async def test_a_wrong_token_is_refused(http: aiohttp.ClientSession, gateway: ContractGateway) -> None:
    error = await refusal_of(http, gateway, token="another-token")
    assert (type(error), error.code) == (GatewayRefusedError, "unauthorized")
    assert "another-token" not in str(error)


async def test_another_server_at_the_address_is_a_connection_error(
    http: aiohttp.ClientSession, gateway: ContractGateway
) -> None:
    with pytest.raises(GatewayAwayError):
        await GatewayClient(http, f"{gateway.url}/elsewhere", TOKEN, None).connect(HELLO)


async def test_a_closed_port_is_a_connection_error(http: aiohttp.ClientSession, gateway: ContractGateway) -> None:
    await gateway.stop()
    assert (await refusal_of(http, gateway)).code == CANNOT_CONNECT


async def test_the_pinned_certificate_is_trusted_for_any_host_name(
    http: aiohttp.ClientSession, tls_gateway: ContractGateway
) -> None:
    paired = await pair(http, parse_line(tls_gateway.line), "an-instance")
    assert paired.site == SITE
    async with await GatewayClient(http, tls_gateway.url, paired.token, tls_gateway.sha256).connect(HELLO) as session:
        assert session.hello.site == SITE


async def test_another_certificate_is_refused_before_anything_is_sent(
    http: aiohttp.ClientSession, tls_gateway: ContractGateway
) -> None:
    with pytest.raises(GatewayRefusedError) as caught:
        await GatewayClient(http, tls_gateway.url, TOKEN, "ab" * 32).connect(HELLO)
    assert caught.value.code == "identity_mismatch"
    with pytest.raises(GatewayRefusedError) as caught:
        await pair(http, OneTimeLine(url=tls_gateway.url, secret=SECRET, sha256="ab" * 32), "an-instance")
    assert caught.value.code == "identity_mismatch"
    assert tls_gateway.received == []


async def test_a_used_pairing_line_is_refused(http: aiohttp.ClientSession, tls_gateway: ContractGateway) -> None:
    used = replace(parse_line(tls_gateway.line), secret="used-secret-0123456789")
    with pytest.raises(GatewayRefusedError) as caught:
        await pair(http, used, "an-instance")
    assert caught.value.code == "pairing_refused"


@pytest.mark.parametrize(
    "line", ["", "https://host", "http://h:1#0123456789abcdef.ff", "https://h:1#0123456789abcdef." + "0" * 63]
)
def test_a_malformed_line_is_refused(line: str) -> None:
    with pytest.raises(ContractError) as caught:
        parse_line(line)
    assert caught.value.code == "code_malformed"
