"""Handshake of a session: authorization, schema checks and refusals."""

from pathlib import Path

import pytest
from aiohttp import WSServerHandshakeError

from process_cosmos_gateway.api.pairing import offer_pairing
from process_cosmos_gateway.api.session import Limits
from process_cosmos_gateway.contract.errors import Code
from process_cosmos_gateway.contract.identifiers import Position
from process_cosmos_gateway.contract.messages import FromHomeAssistant
from process_cosmos_gateway.contract.pairing import PairingRequest
from process_cosmos_gateway.contract.session import GatewayHello, Heartbeat, Refused

from .link import RUN, hello
from .services import ServerHarness, serving
from .test_change_feed import HandClock


@pytest.mark.parametrize("token", ["", "wrong", "\N{DROPLET}"])
async def test_without_the_token_there_is_no_session(server: ServerHarness, token: str) -> None:
    with pytest.raises(WSServerHandshakeError) as refused:
        await server.connect(token)
    assert refused.value.status == 401
    assert server.alerts.calls == []


async def test_a_socket_opened_before_a_new_pairing_gets_no_hello_after_it(
    server: ServerHarness, tmp_path: Path
) -> None:
    link = await server.connect()
    await server.pairing.pair(PairingRequest(secret=offer_pairing(tmp_path, HandClock()), instance="home"))
    await link.send(hello())
    refused = await link.next()
    assert isinstance(refused, Refused)
    assert refused.code == Code.UNAUTHORIZED
    assert server.alerts.calls == []


async def test_a_token_without_the_bearer_scheme_is_refused(server: ServerHarness) -> None:
    async with server.http.get(f"{server.url}/ws", headers={"Authorization": server.token}) as reply:
        assert reply.status == 401
        assert (await reply.json())["code"] == Code.UNAUTHORIZED


async def test_the_gateway_hello_contains_the_applied_position(server: ServerHarness) -> None:
    link = await server.connect()
    await link.send(hello())
    greeting = await link.next()
    assert isinstance(greeting, GatewayHello)
    assert greeting.cursor == Position(run=RUN, n=3)
    assert (greeting.schema, greeting.min_schema, greeting.version) == (1, 1, "9.8.7")


@pytest.mark.parametrize(
    ("first", "code"),
    [
        (hello(schema=0, min_schema=0), Code.SCHEMA_TOO_OLD),
        (hello(schema=7, min_schema=7), Code.SCHEMA_TOO_NEW),
        (hello(instance="another home"), Code.OTHER_HOME_ASSISTANT),
        (Heartbeat(), Code.MALFORMED),
    ],
)
async def test_an_unsuitable_hello_is_refused_with_the_reason(
    server: ServerHarness, first: FromHomeAssistant, code: Code
) -> None:
    link = await server.connect()
    await link.send(first)
    refused = await link.next()
    assert isinstance(refused, Refused)
    assert refused.code == code
    await link.end()
    assert server.alerts.calls == []


async def test_a_newer_integration_that_supports_our_schema_is_accepted(server: ServerHarness) -> None:
    link = await server.connect()
    await link.send(hello(schema=7))
    assert isinstance(await link.next(), GatewayHello)


@pytest.mark.parametrize(
    "garbage", [b"", b"{", b"\xff", b"[]", b"<html>", b"null", b'{"type": "home_assistant_hello"}']
)
async def test_garbage_instead_of_a_hello_is_refused(server: ServerHarness, garbage: bytes) -> None:
    link = await server.connect()
    await link.socket.send_bytes(garbage)
    refused = await link.next()
    assert isinstance(refused, Refused)
    assert refused.code == Code.MALFORMED


async def test_a_client_that_sends_nothing_is_refused(tmp_path: Path, unused_tcp_port: int) -> None:
    async with serving(tmp_path, unused_tcp_port, Limits(hello=0.05)) as server:
        refused = await (await server.connect()).next()
    assert refused == Refused(code=Code.MALFORMED, message="No hello was received in time.")


async def test_a_client_that_closes_without_a_hello_has_no_effect(server: ServerHarness) -> None:
    await (await server.connect()).socket.close()
    await server.open()
    assert server.alerts.calls == ["opened"]


async def test_a_store_that_cannot_be_read_refuses_the_session(server: ServerHarness) -> None:
    server.alerts.broken = True
    link = await server.connect()
    await link.send(hello())
    refused = await link.next()
    assert isinstance(refused, Refused)
    assert refused.code == Code.STORE_FAILED


async def test_a_late_hello_with_a_replaced_token_does_not_end_the_session(
    server: ServerHarness, tmp_path: Path
) -> None:
    late = await server.connect()
    secret = offer_pairing(tmp_path, HandClock())
    server.token = await server.pairing.pair(PairingRequest(secret=secret, instance="home"))
    served = await server.open()

    await late.send(hello())

    refused = await late.next()
    assert isinstance(refused, Refused)
    assert refused.code == Code.UNAUTHORIZED
    assert server.alerts.calls == ["opened"], "and not closed"
    assert not served.socket.closed
