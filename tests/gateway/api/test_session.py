"""Sessions: order of processing, limits, and endings."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from process_cosmos_gateway.api.session import MOST_UNANSWERED, Limits
from process_cosmos_gateway.contract.alerts import CaughtUp, Propose, Transition
from process_cosmos_gateway.contract.codec import MAX_FRAME, Message, encode
from process_cosmos_gateway.contract.devices import MissedChangesReport, Subscribe, ValueChanged
from process_cosmos_gateway.contract.errors import Code
from process_cosmos_gateway.contract.identifiers import Position
from process_cosmos_gateway.contract.session import Committed, Heartbeat, Refused, Result, Stopping
from tests.gateway.alerts.parts import alert, leak_opened
from tests.support.hostile import nested
from tests.support.waiting import until

from .link import RUN, Link, hello, transition
from .services import SITE, ServerHarness, serving


async def test_heartbeats_are_sent_unprompted(server: ServerHarness) -> None:
    link = await server.open()
    assert [type(await link.next(beats=True)) for _ in range(3)] == [Heartbeat] * 3


async def test_every_frame_counts_as_contact(server: ServerHarness) -> None:
    link = await server.open()
    await link.send(Heartbeat(), Heartbeat(), CaughtUp())
    await until(lambda: server.alerts.contacts == 3)


async def test_transitions_are_applied_in_order_and_each_is_confirmed(server: ServerHarness) -> None:
    link = await server.open()
    await link.send(*map(transition, range(4, 60)), CaughtUp(), Result(id="cloud/1"))
    for n in range(4, 60):
        assert await link.next() == Committed(position=Position(run=RUN, n=n))
    await until(lambda: len(server.alerts.calls) == 59)
    assert server.alerts.calls == ["opened", *range(4, 60), "caught up", Result(id="cloud/1")]


async def test_a_transition_with_data_nested_too_deeply_is_applied_with_the_data_cut(server: ServerHarness) -> None:
    link = await server.open()
    [change] = leak_opened(RUN, ()).changes
    deep = Transition(position=Position(run=RUN, n=4), changes=(replace(change, alert=alert(data="HERE")),))
    await link.socket.send_bytes(encode(deep).replace(b'"HERE"', nested(253)))
    await link.send(transition(5))
    for n in (4, 5):
        assert await link.next() == Committed(position=Position(run=RUN, n=n))


async def test_transitions_that_arrive_during_a_write_share_the_next_write(server: ServerHarness) -> None:
    link = await server.open()
    server.alerts.gate.clear()
    await link.send(transition(4))
    await until(lambda: server.alerts.contacts == 1)
    await link.send(*map(transition, range(5, 10)), CaughtUp(), transition(10))
    await until(lambda: server.alerts.contacts == 8)
    server.alerts.gate.set()
    for n in range(4, 11):
        assert await link.next() == Committed(position=Position(run=RUN, n=n))
    assert server.alerts.calls == ["opened", *range(4, 10), "caught up", 10]
    assert server.alerts.commits == 3


async def test_text_frames_are_accepted(server: ServerHarness) -> None:
    link = await server.open()
    await link.socket.send_str(encode(transition(4)).decode())
    assert await link.next() == Committed(position=Position(run=RUN, n=4))


async def test_beyond_sixteen_unanswered_the_server_stops_reading(server: ServerHarness) -> None:
    link = await server.open()
    server.alerts.gate.clear()
    await link.send(*map(transition, range(100)))
    await until(lambda: server.alerts.contacts > MOST_UNANSWERED)
    await link.next(beats=True)
    await link.next(beats=True)
    assert server.alerts.contacts == MOST_UNANSWERED + 1
    server.alerts.gate.set()
    for n in range(100):
        assert await link.next() == Committed(position=Position(run=RUN, n=n))


async def test_after_a_failed_write_nothing_more_is_applied(server: ServerHarness) -> None:
    link = await server.open()
    server.alerts.gate.clear()
    await link.send(*map(transition, range(4, 8)))
    server.alerts.broken = True
    server.alerts.gate.set()
    refused = await link.next()
    assert isinstance(refused, Refused)
    assert refused.code == Code.STORE_FAILED
    await link.end()
    assert server.alerts.calls == ["opened", "closed"]


async def test_a_new_session_ends_the_old_one_first(server: ServerHarness) -> None:
    old = await server.open()
    server.alerts.gate.clear()
    await old.send(transition(4))
    await until(lambda: server.alerts.contacts == 1)
    new = await server.open()
    server.alerts.gate.set()
    await old.end()
    await new.send(transition(5))
    assert await new.next() == Committed(position=Position(run=RUN, n=5))
    assert server.alerts.calls == ["opened", "closed", "opened", 5]


async def test_simultaneous_connections_leave_one_session(server: ServerHarness) -> None:
    links = await asyncio.gather(*(server.connect() for _ in range(8)))
    await asyncio.gather(*(link.send(hello()) for link in links))
    await until(lambda: server.alerts.calls.count("opened") == 8)
    assert server.alerts.calls == ["opened", "closed"] * 7 + ["opened"]


async def test_an_announced_stop_is_reported_to_alerts(server: ServerHarness) -> None:
    link = await server.open()
    await link.send(Stopping())
    await link.socket.close()
    await until(lambda: server.alerts.calls == ["opened", "closed, announced"])


async def test_a_lost_connection_is_not_an_announced_stop(server: ServerHarness) -> None:
    link = await server.open()
    link.socket._response.close()  # like a lost connection, without a closing frame
    await until(lambda: server.alerts.calls == ["opened", "closed"])


def change(value: bool) -> ValueChanged:  # noqa: FBT001
    return ValueChanged(sequence=0, device="leak", property="wet", value=value, age=0)


async def subscribe(link: Link) -> MissedChangesReport:
    """Subscribe and return the report of missed changes."""
    await link.send(Subscribe(id="1", run=RUN, report_missed=True, confirmed=0))
    while not isinstance(message := await link.next(), MissedChangesReport):
        pass
    return message


async def next_change(link: Link) -> ValueChanged:
    while not isinstance(message := await link.next(), ValueChanged):
        pass
    return message


async def test_changes_sent_but_never_read_are_reported_in_the_next_session(server: ServerHarness) -> None:
    link = await server.open()
    await subscribe(link)
    server.feed.publish(change(value=True))
    received = await next_change(link)
    await link.send(Heartbeat(sequence=received.sequence))
    server.feed.publish(change(value=False))
    await link.socket.close()  # reads and drops pending frames
    assert [each.value for each in (await subscribe(await server.open())).changes] == [False]


async def test_a_stopping_home_assistant_confirms_nothing(server: ServerHarness) -> None:
    link = await server.open()
    await subscribe(link)
    await link.send(Stopping())
    server.feed.publish(change(value=True))
    received = await next_change(link)
    await link.send(Heartbeat(sequence=received.sequence))
    await until(lambda: server.alerts.contacts == 3)
    assert [each.value for each in (await subscribe(await server.open())).changes] == [True]


async def test_proposals_are_sent_to_home_assistant(server: ServerHarness) -> None:
    link = await server.open()
    proposal = Propose(id="cloud/1", alert=SITE, revision=1, answer="Keep off", age=0.5, by="Anna")
    assert server.alerts.send
    server.alerts.send(proposal)
    assert await link.next() == proposal


async def test_a_second_hello_ends_the_session(server: ServerHarness) -> None:
    link = await server.open()
    await link.send(hello())
    refused = await link.next()
    assert isinstance(refused, Refused)
    assert refused.code == Code.MALFORMED


async def test_an_invalid_request_is_answered_and_the_session_continues(server: ServerHarness) -> None:
    link = await server.open()
    await link.socket.send_str('{"type":"write_property","id":"7","device":7}')
    result = await link.next()
    assert isinstance(result, Result)
    assert (result.id, result.problem and result.problem.code) == ("7", Code.MALFORMED)
    assert result.problem
    assert result.problem.message == "write_property.device: must be a string"
    await link.send(transition(4))
    assert await link.next() == Committed(position=Position(run=RUN, n=4))


@pytest.mark.parametrize("frame", ['{"type":"transition"}', '{"type":"result","id":"1","problem":7}', "{"])
async def test_an_invalid_frame_that_cannot_be_answered_ends_the_session(server: ServerHarness, frame: str) -> None:
    link = await server.open()
    await link.socket.send_str(frame)
    refused = await link.next()
    assert isinstance(refused, Refused)
    assert refused.code == Code.MALFORMED
    assert await link.end() == 1008


async def test_a_frame_of_one_mebibyte_is_accepted(server: ServerHarness) -> None:
    link = await server.open()
    await link.socket.send_bytes(encode(transition(4)).ljust(MAX_FRAME))
    assert await link.next() == Committed(position=Position(run=RUN, n=4))


async def test_a_longer_frame_ends_the_session(server: ServerHarness) -> None:
    link = await server.open()
    await link.socket.send_bytes(b" " * (MAX_FRAME + 1))
    assert await link.end() == 1009
    await server.open()


async def test_without_caught_up_the_session_is_ended(tmp_path: Path, unused_tcp_port: int) -> None:
    async with serving(tmp_path, unused_tcp_port, Limits(caught_up=0.05)) as server:
        await (await server.open()).end()
        assert server.alerts.calls == ["opened", "closed"]


async def test_the_session_of_a_silent_home_assistant_is_closed(tmp_path: Path, unused_tcp_port: int) -> None:
    async with serving(tmp_path, unused_tcp_port, Limits(silence=0.05)) as server:
        await (await server.open()).end()
        assert server.alerts.calls == ["opened", "closed"]


async def test_a_change_is_written_before_its_publication_returns(server: ServerHarness) -> None:
    link = await server.open()
    await subscribe(link)
    server.feed.publish(change(value=True))
    handled = server.clock.monotonic()
    server.clock.seconds += 5
    received = await next_change(link)
    assert (received.received, received.sent) == (handled, handled)
    beat = await link.next(beats=True)
    assert isinstance(beat, Heartbeat)
    assert beat.sent == handled + 5


async def test_a_replayed_change_says_how_long_it_waited(server: ServerHarness) -> None:
    server.feed.publish(change(value=False))
    link = await server.open()
    await subscribe(link)
    await link.socket.close()
    server.feed.publish(change(value=True))
    server.clock.seconds += 5
    link = await server.open()
    await link.send(Subscribe(id="1", run=RUN, after=0))
    received = await next_change(link)
    while received.value is not True:
        received = await next_change(link)
    assert received.received is not None
    assert received.sent == received.received + 5


async def test_a_message_that_cannot_be_written_ends_the_session(
    server: ServerHarness, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = await server.open()
    await subscribe(link)

    def refuse(message: Message, schema: int) -> bytes:
        if isinstance(message, ValueChanged) and message.value is True:
            raise ValueError
        return encode(message, schema)

    monkeypatch.setattr("process_cosmos_gateway.api.session.encode", refuse)
    server.feed.publish(change(value=True))
    server.feed.publish(change(value=False))
    seen = [frame.data async for frame in link.socket]
    assert not any(b"value_changed" in each.encode() for each in seen), "the number of the later one would confirm it"
    assert "ValueError" in caplog.text
