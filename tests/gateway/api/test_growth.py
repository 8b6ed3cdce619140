"""A Home Assistant that is newer than the gateway, or whose frames cannot be read."""

import logging
from typing import Any, cast

import orjson
import pytest

from process_cosmos_gateway.contract import codec
from process_cosmos_gateway.contract.errors import Code
from process_cosmos_gateway.contract.identifiers import Position
from process_cosmos_gateway.contract.messages import FROM_HOME_ASSISTANT
from process_cosmos_gateway.contract.session import Committed, GatewayHello, HomeAssistantHello, Refused, Result
from tests.wire.growth import GOLDEN, grown
from tests.wire.second_schema import Ring, Sing, Tone

from .link import RUN, hello, transition
from .services import ServerHarness

SENT = [name for name in GOLDEN if name.partition(".")[0] in FROM_HOME_ASSISTANT.keys() - {HomeAssistantHello.type}]
OTHERS = {"transition", "caught_up", "heartbeat", "stopping", "result", "subscribe"}
NEXT = Committed(position=Position(run=RUN, n=4))


def test_every_message_of_home_assistant_is_among_those_sent() -> None:
    assert {name.partition(".")[0] for name in SENT} == FROM_HOME_ASSISTANT.keys() - {HomeAssistantHello.type}
    assert FROM_HOME_ASSISTANT.keys() >= OTHERS


@pytest.mark.parametrize("name", SENT)
async def test_the_session_continues_after_a_message_with_unknown_members_and_values(
    server: ServerHarness, name: str
) -> None:
    link = await server.open()
    await link.socket.send_bytes(orjson.dumps(grown(name).document))
    await link.send(transition(4))
    replies = []
    while (message := await link.next()) != NEXT:
        replies.append(message)
    kind = name.partition(".")[0]
    if kind == "transition":
        assert [type(reply) for reply in replies] == [Committed]
    elif kind not in OTHERS:  # a request of a person
        [result] = replies
        assert isinstance(result, Result)
        assert result.problem
        assert result.problem.code == Code.UNSUPPORTED
        assert f"{kind}.mood" in result.problem.message
    assert server.backend.written == []


async def test_a_hello_with_unknown_members_opens_a_session(server: ServerHarness) -> None:
    link = await server.connect()
    document = grown("home_assistant_hello").document
    await link.socket.send_bytes(orjson.dumps({**document, "instance": "home", "schema": 2}))
    assert isinstance(await link.next(), GatewayHello)


async def test_a_hello_of_another_schema_is_refused_as_such_whatever_else_is_in_it(server: ServerHarness) -> None:
    for schema, oldest, code in ((9, 9, Code.SCHEMA_TOO_NEW), (0, 0, Code.SCHEMA_TOO_OLD)):
        link = await server.connect()
        await link.socket.send_json(
            {"type": "home_assistant_hello", "schema": schema, "min_schema": oldest, "version": "9.0", "run": 7}
        )
        refused = await link.next()
        assert isinstance(refused, Refused)
        assert refused.code == code


async def test_messages_of_an_unknown_type_are_passed_over_and_logged_once(
    server: ServerHarness, caplog: pytest.LogCaptureFixture
) -> None:
    link = await server.open()
    for _ in range(3):
        await link.socket.send_json({"type": "sing", "loudness": 11})
    await link.send(transition(4))
    assert await link.next() == NEXT
    assert caplog.text.count("sing") == 1


async def test_a_request_of_an_unknown_type_is_answered(server: ServerHarness) -> None:
    link = await server.open()
    await link.socket.send_json({"type": "sing", "id": "5"})
    result = await link.next()
    assert isinstance(result, Result)
    assert result.problem
    assert (result.id, result.problem.code) == ("5", Code.UNSUPPORTED)


async def test_a_frame_that_cannot_be_read_is_named_by_the_path_of_its_mistake(
    server: ServerHarness, caplog: pytest.LogCaptureFixture
) -> None:
    link = await server.open()
    document = orjson.loads(GOLDEN["transition"])
    document["changes"][0]["alert"]["count"] = "many"
    await link.socket.send_json(document)
    refused = await link.next()
    mistake = "transition.changes[0].alert.count: must be a whole number"
    assert refused == Refused(code=Code.MALFORMED, message=mistake)
    assert await link.end() == 1008
    assert [record.levelno for record in caplog.records if "changes[0].alert.count" in record.message] == [
        logging.WARNING
    ]


@pytest.mark.parametrize("schema", [1, 2])
async def test_a_newer_gateway_writes_by_the_schema_of_home_assistant(
    server: ServerHarness, monkeypatch: pytest.MonkeyPatch, schema: int
) -> None:
    monkeypatch.setattr(codec, "SCHEMA", 2)
    link = await server.connect()
    await link.send(hello(schema=schema))
    assert isinstance(await link.next(), GatewayHello)
    assert server.alerts.send
    for message in (Sing(), Ring(tones=(Tone(color="red"),), urgent=True)):
        server.alerts.send(cast("Any", message))
    received: list[dict[str, object]] = []
    while not received or received[-1]["type"] != "ring":
        frame = await link.socket.receive_json()
        received += [] if frame["type"] == "heartbeat" else [frame]
    tone = {"loudness": "soft"}
    assert received == (
        [{"type": "ring", "tones": [tone]}]
        if schema == 1
        else [
            {"type": "sing", "song": "Happy Birthday"},
            {"type": "ring", "tones": [{**tone, "color": "red"}], "urgent": True},
        ]
    )
