"""Sessions: order, limits, and how they end."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from process_cosmos_gateway.api.session import MOST_UNANSWERED, Limits
from process_cosmos_gateway.contract.alerts import CaughtUp, Propose, Transition
from process_cosmos_gateway.contract.codec import MAX_FRAME, encode
from process_cosmos_gateway.contract.devices import MissedChangesReport, Subscribe, ValueChanged
from process_cosmos_gateway.contract.errors import Code
from process_cosmos_gateway.contract.identifiers import Position
from process_cosmos_gateway.contract.session import Receipt, Refused, Result, Stopping
from tests.gateway.alerts.parts import alert, leak_opened
from tests.hostile import nested

from .link import RUN, Link, hello, transition
from .services import SITE, House, serving


async def test_signs_of_life_come_without_being_asked(house: House) -> None:
    link = await house.open()
    assert [await link.next(beats=True) for _ in range(3)] == [Receipt()] * 3


async def test_every_frame_is_a_sign_of_life(house: House) -> None:
    link = await house.open()
    await link.say(Receipt(), Receipt(), CaughtUp())
    await house.until(lambda: house.alerts.lives == 3)


async def test_transitions_are_applied_in_order_and_each_is_confirmed(house: House) -> None:
    link = await house.open()
    await link.say(*map(transition, range(4, 60)), CaughtUp(), Result(id="cloud/1"))
    for n in range(4, 60):
        assert await link.next() == Receipt(position=Position(run=RUN, n=n))
    await house.until(lambda: len(house.alerts.heard) == 59)
    assert house.alerts.heard == ["opened", *range(4, 60), "caught up", Result(id="cloud/1")]


async def test_a_transition_whose_data_is_nested_too_deep_is_applied_without_what_is_too_deep(house: House) -> None:
    link = await house.open()
    [change] = leak_opened(RUN, ()).changes
    deep = Transition(position=Position(run=RUN, n=4), changes=(replace(change, alert=alert(data="HERE")),))
    await link.socket.send_bytes(encode(deep).replace(b'"HERE"', nested(253)))
    await link.say(transition(5))
    for n in (4, 5):
        assert await link.next() == Receipt(position=Position(run=RUN, n=n))


async def test_transitions_that_come_while_one_is_written_share_the_next_write(house: House) -> None:
    link = await house.open()
    house.alerts.gate.clear()
    await link.say(transition(4))
    await house.until(lambda: house.alerts.lives == 1)
    await link.say(*map(transition, range(5, 10)), CaughtUp(), transition(10))
    await house.until(lambda: house.alerts.lives == 8)
    house.alerts.gate.set()
    for n in range(4, 11):
        assert await link.next() == Receipt(position=Position(run=RUN, n=n))
    assert house.alerts.heard == ["opened", *range(4, 10), "caught up", 10]
    assert house.alerts.commits == 3


async def test_text_frames_are_read_too(house: House) -> None:
    link = await house.open()
    await link.socket.send_str(encode(transition(4)).decode())
    assert await link.next() == Receipt(position=Position(run=RUN, n=4))


async def test_beyond_sixteen_unanswered_the_server_stops_reading(house: House) -> None:
    link = await house.open()
    house.alerts.gate.clear()
    await link.say(*map(transition, range(100)))
    await house.until(lambda: house.alerts.lives > MOST_UNANSWERED)
    await link.next(beats=True)
    await link.next(beats=True)
    assert house.alerts.lives == MOST_UNANSWERED + 1
    house.alerts.gate.set()
    for n in range(100):
        assert await link.next() == Receipt(position=Position(run=RUN, n=n))


async def test_after_a_failed_write_nothing_more_is_applied(house: House) -> None:
    link = await house.open()
    house.alerts.gate.clear()
    await link.say(*map(transition, range(4, 8)))
    house.alerts.broken = True
    house.alerts.gate.set()
    refused = await link.next()
    assert isinstance(refused, Refused)
    assert refused.code == Code.STORE_FAILED
    await link.end()
    assert house.alerts.heard == ["opened", "closed"]


async def test_a_new_session_ends_the_old_one_first(house: House) -> None:
    old = await house.open()
    house.alerts.gate.clear()
    await old.say(transition(4))
    await house.until(lambda: house.alerts.lives == 1)
    new = await house.open()
    house.alerts.gate.set()
    await old.end()
    await new.say(transition(5))
    assert await new.next() == Receipt(position=Position(run=RUN, n=5))
    assert house.alerts.heard == ["opened", "closed", "opened", 5]


async def test_many_that_come_at_once_leave_one_session(house: House) -> None:
    links = await asyncio.gather(*(house.connect() for _ in range(8)))
    await asyncio.gather(*(link.say(hello()) for link in links))
    await house.until(lambda: house.alerts.heard.count("opened") == 8)
    assert house.alerts.heard == ["opened", "closed"] * 7 + ["opened"]


async def test_an_announced_stop_is_passed_on(house: House) -> None:
    link = await house.open()
    await link.say(Stopping())
    await link.socket.close()
    await house.until(lambda: house.alerts.heard == ["opened", "closed, announced"])


async def test_a_cut_is_no_announced_stop(house: House) -> None:
    link = await house.open()
    link.socket._response.close()  # as a cut link does, without a closing frame
    await house.until(lambda: house.alerts.heard == ["opened", "closed"])


def change(value: bool) -> ValueChanged:  # noqa: FBT001
    return ValueChanged(sequence=0, device="leak", property="wet", value=value, age=0)


async def subscribe(link: Link) -> MissedChangesReport:
    """Return what is reported as missed."""
    await link.say(Subscribe(id="1", run=RUN, report_missed=True, confirmed=0))
    while not isinstance(message := await link.next(), MissedChangesReport):
        pass
    return message


async def test_what_was_written_to_a_socket_that_nobody_read_is_reported_in_the_next_session(house: House) -> None:
    link = await house.open()
    await subscribe(link)
    house.feed.publish(change(value=True))
    while not isinstance(heard := await link.next(), ValueChanged):
        pass
    await link.say(Receipt(sequence=heard.sequence))
    house.feed.publish(change(value=False))
    await link.socket.close()  # reads what came meanwhile, and drops it
    assert [each.value for each in (await subscribe(await house.open())).changes] == [False]


async def test_a_home_assistant_that_stops_confirms_nothing_any_more(house: House) -> None:
    link = await house.open()
    await subscribe(link)
    await link.say(Stopping())
    house.feed.publish(change(value=True))
    while not isinstance(heard := await link.next(), ValueChanged):
        pass
    await link.say(Receipt(sequence=heard.sequence))
    await house.until(lambda: house.alerts.lives == 3)
    assert [each.value for each in (await subscribe(await house.open())).changes] == [True]


async def test_told_and_proposals_go_to_home_assistant(house: House) -> None:
    link = await house.open()
    proposal = Propose(id="cloud/1", alert=SITE, revision=1, answer="Keep off", age=0.5, by="Anna")
    assert house.alerts.send
    house.alerts.send(proposal)
    assert await link.next() == proposal


async def test_a_second_hello_ends_the_session(house: House) -> None:
    link = await house.open()
    await link.say(hello())
    refused = await link.next()
    assert isinstance(refused, Refused)
    assert refused.code == Code.MALFORMED


async def test_a_broken_request_is_answered_and_the_session_goes_on(house: House) -> None:
    link = await house.open()
    await link.socket.send_str('{"type":"write_property","id":"7","device":7}')
    result = await link.next()
    assert isinstance(result, Result)
    assert (result.id, result.problem and result.problem.code) == ("7", Code.MALFORMED)
    assert result.problem
    assert result.problem.message == "$.device: must be a string"
    await link.say(transition(4))
    assert await link.next() == Receipt(position=Position(run=RUN, n=4))


@pytest.mark.parametrize(
    "frame", ['{"type":"transition"}', '{"type":"result","id":"1","problem":7}', '{"type":"?"}', "{"]
)
async def test_a_broken_frame_that_cannot_be_answered_ends_the_session(house: House, frame: str) -> None:
    link = await house.open()
    await link.socket.send_str(frame)
    refused = await link.next()
    assert isinstance(refused, Refused)
    assert refused.code == Code.MALFORMED
    assert await link.end() == 1008


async def test_a_frame_of_one_mebibyte_is_read(house: House) -> None:
    link = await house.open()
    await link.socket.send_bytes(encode(transition(4)).ljust(MAX_FRAME))
    assert await link.next() == Receipt(position=Position(run=RUN, n=4))


async def test_a_longer_frame_ends_the_session(house: House) -> None:
    link = await house.open()
    await link.socket.send_bytes(b" " * (MAX_FRAME + 1))
    assert await link.end() == 1009
    await house.open()


async def test_without_caught_up_the_session_is_ended(tmp_path: Path, unused_tcp_port: int) -> None:
    async with serving(tmp_path, unused_tcp_port, Limits(caught_up=0.05)) as house:
        await (await house.open()).end()
        assert house.alerts.heard == ["opened", "closed"]


async def test_a_silent_home_assistant_is_hung_up_on(tmp_path: Path, unused_tcp_port: int) -> None:
    async with serving(tmp_path, unused_tcp_port, Limits(silence=0.05)) as house:
        await (await house.open()).end()
        assert house.alerts.heard == ["opened", "closed"]
