"""The handshake: who may come in, and what he hears."""

from pathlib import Path

import pytest
from aiohttp import WSServerHandshakeError

from process_cosmos_gateway.api.pairing import offer_pairing
from process_cosmos_gateway.api.session import Limits
from process_cosmos_gateway.contract.errors import Code
from process_cosmos_gateway.contract.identifiers import Position
from process_cosmos_gateway.contract.messages import FromHomeAssistant
from process_cosmos_gateway.contract.pairing import PairingRequest
from process_cosmos_gateway.contract.session import GatewayHello, Receipt, Refused

from .link import RUN, hello
from .services import House, serving
from .test_change_feed import HandClock


@pytest.mark.parametrize("token", ["", "wrong", "\N{DROPLET}"])
async def test_without_the_token_there_is_no_session(house: House, token: str) -> None:
    with pytest.raises(WSServerHandshakeError) as refused:
        await house.connect(token)
    assert refused.value.status == 401
    assert house.alerts.heard == []


async def test_a_socket_opened_before_another_was_paired_is_not_greeted_after_it(house: House, tmp_path: Path) -> None:
    link = await house.connect()
    await house.access.pair(PairingRequest(secret=offer_pairing(tmp_path, HandClock()), instance="home"))
    await link.say(hello())
    refused = await link.next()
    assert isinstance(refused, Refused)
    assert refused.code == Code.UNAUTHORIZED
    assert house.alerts.heard == []


async def test_the_token_alone_is_no_authorization(house: House) -> None:
    async with house.http.get(f"{house.url}/ws", headers={"Authorization": house.token}) as reply:
        assert reply.status == 401
        assert (await reply.json())["code"] == Code.UNAUTHORIZED


async def test_the_gateway_greets_with_what_it_has_applied(house: House) -> None:
    link = await house.connect()
    await link.say(hello())
    greeting = await link.next()
    assert isinstance(greeting, GatewayHello)
    assert greeting.cursor == Position(run=RUN, n=3)
    assert (greeting.schema, greeting.min_schema, greeting.version) == (1, 1, "0.1.0")


@pytest.mark.parametrize(
    ("first", "code"),
    [
        (hello(schema=0, min_schema=0), Code.SCHEMA_TOO_OLD),
        (hello(schema=7, min_schema=7), Code.SCHEMA_TOO_NEW),
        (hello(instance="another home"), Code.OTHER_HOME_ASSISTANT),
        (Receipt(), Code.MALFORMED),
    ],
)
async def test_who_does_not_fit_is_refused_with_the_reason(house: House, first: FromHomeAssistant, code: Code) -> None:
    link = await house.connect()
    await link.say(first)
    refused = await link.next()
    assert isinstance(refused, Refused)
    assert refused.code == code
    await link.end()
    assert house.alerts.heard == []


async def test_a_newer_integration_that_still_speaks_our_schema_is_welcome(house: House) -> None:
    link = await house.connect()
    await link.say(hello(schema=7))
    assert isinstance(await link.next(), GatewayHello)


@pytest.mark.parametrize(
    "garbage", [b"", b"{", b"\xff", b"[]", b"<html>", b"null", b'{"type": "home_assistant_hello"}']
)
async def test_garbage_instead_of_a_hello_is_refused(house: House, garbage: bytes) -> None:
    link = await house.connect()
    await link.socket.send_bytes(garbage)
    refused = await link.next()
    assert isinstance(refused, Refused)
    assert refused.code == Code.MALFORMED


async def test_who_says_nothing_is_refused(tmp_path: Path, unused_tcp_port: int) -> None:
    async with serving(tmp_path, unused_tcp_port, Limits(hello=0.05)) as house:
        refused = await (await house.connect()).next()
    assert refused == Refused(code=Code.MALFORMED, message="Nobody said hello in time.")


async def test_who_hangs_up_without_a_hello_leaves_no_trace(house: House) -> None:
    await (await house.connect()).socket.close()
    await house.open()
    assert house.alerts.heard == ["opened"]


async def test_a_store_that_cannot_be_read_refuses_the_session(house: House) -> None:
    house.alerts.broken = True
    link = await house.connect()
    await link.say(hello())
    refused = await link.next()
    assert isinstance(refused, Refused)
    assert refused.code == Code.STORE_FAILED


async def test_who_says_hello_with_a_token_that_is_over_by_then_ends_nobodys_session(
    house: House, tmp_path: Path
) -> None:
    late = await house.connect()
    secret = offer_pairing(tmp_path, HandClock())
    house.token = await house.access.pair(PairingRequest(secret=secret, instance="home"))
    served = await house.open()

    await late.say(hello())

    refused = await late.next()
    assert isinstance(refused, Refused)
    assert refused.code == Code.UNAUTHORIZED
    assert house.alerts.heard == ["opened"], "and not closed"
    assert not served.socket.closed
