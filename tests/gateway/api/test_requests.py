"""Requests within a session, and the messages about devices."""

import asyncio
from pathlib import Path

import orjson
import pytest

from process_cosmos_gateway.api.change_feed import MOST_KEPT
from process_cosmos_gateway.api.session import Limits
from process_cosmos_gateway.contract.codec import MAX_FRAME, encode
from process_cosmos_gateway.contract.destinations import (
    ApproveReply,
    ChangeDestination,
    DestinationTested,
    Status,
    TestDestination,
)
from process_cosmos_gateway.contract.devices import Device, Snapshot, Subscribe, ValueChanged, WriteProperty
from process_cosmos_gateway.contract.errors import Code
from process_cosmos_gateway.contract.identifiers import Position
from process_cosmos_gateway.contract.session import Committed, Heartbeat, Result
from process_cosmos_gateway.errors import RequestRefusedError, StoreError
from tests.support.waiting import until

from .link import RUN, SECONDS, transition
from .services import ServerHarness, serving


async def test_subscribing_returns_result_snapshot_status_and_changes(server: ServerHarness) -> None:
    link = await server.open()
    await link.send(Subscribe(id="1", run=RUN))
    assert await link.next() == Result(id="1")
    assert isinstance(await link.next(), Snapshot)
    assert isinstance(await link.next(), Status)
    server.feed.publish(ValueChanged(sequence=0, device="leak", property="wet", value=True, age=0.0))
    change = await link.next()
    assert isinstance(change, ValueChanged)
    assert change.value is True


async def test_a_status_is_sent_again_only_when_more_than_ages_changed(server: ServerHarness) -> None:
    link = await server.open()
    await link.send(Subscribe(id="1", run=RUN))
    for _ in range(3):
        await link.next()
    for _ in range(3):
        assert isinstance(await link.next(beats=True), Heartbeat)
    server.backend.rejected_count = 1
    status = await link.next()
    assert isinstance(status, Status)
    assert status.rejected == 1


async def test_a_change_of_the_status_is_sent_without_waiting_for_the_next_reading(
    tmp_path: Path, unused_tcp_port: int
) -> None:
    async with serving(tmp_path, unused_tcp_port, Limits(status=0.01, status_unchanged=10 * SECONDS)) as server:
        link = await server.open()
        await link.send(Subscribe(id="1", run=RUN))
        while not isinstance(await link.next(), Status):
            pass
        server.backend.rejected_count = 1
        server.backend.changed.set()
        status = await link.next()
        assert isinstance(status, Status)
        assert status.rejected == 1


async def test_a_status_that_cannot_be_read_is_tried_again(server: ServerHarness) -> None:
    server.backend.status_broken = True
    link = await server.open()
    await link.send(Subscribe(id="1", run=RUN))
    for _ in range(2):
        await link.next()
    await link.next(beats=True)
    server.backend.status_broken = False
    assert isinstance(await link.next(), Status)


async def test_no_device_messages_are_sent_before_subscribing(server: ServerHarness) -> None:
    link = await server.open()
    server.feed.publish(ValueChanged(sequence=0, device="leak", property="wet", value=True, age=0.0))
    await link.send(transition(4))
    assert await link.next() == Committed(position=Position(run=RUN, n=4))


def write(number: int = 1) -> WriteProperty:
    return WriteProperty(id=str(number), device="valve", property="open", value=False)


async def test_a_request_is_executed_and_answered_with_its_id(server: ServerHarness) -> None:
    link = await server.open()
    await link.send(write(1), write(2))
    assert {await link.next(), await link.next()} == {Result(id="1"), Result(id="2")}
    assert server.backend.written == [write(1), write(2)]


async def test_requests_about_destinations_are_executed_and_a_test_has_its_own_reply(server: ServerHarness) -> None:
    tested = DestinationTested(id="2", delivered=False, reason="timeout")
    server.backend.test = lambda _: asyncio.sleep(0, tested)
    link = await server.open()
    change = ChangeDestination(id="1", name="hook", label="Site office")
    approval = ApproveReply(id="3", name="hook", digest="0" * 64)
    await link.send(change)
    assert await link.next() == Result(id="1")
    await link.send(TestDestination(id="2", name="hook"))
    assert await link.next() == tested
    await link.send(approval)
    assert await link.next() == Result(id="3")
    assert server.backend.written == [change, approval]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RequestRefusedError(Code.BROKER_AWAY, "The MQTT broker is away."), Code.BROKER_AWAY),
        (StoreError("the disk"), Code.STORE_FAILED),
    ],
)
async def test_a_refused_request_is_answered_with_the_code(server: ServerHarness, error: Exception, code: Code) -> None:
    link = await server.open()
    server.backend.error = error
    await link.send(write())
    result = await link.next()
    assert isinstance(result, Result)
    assert result.problem
    assert result.problem.code == code


async def test_the_session_of_a_home_assistant_that_does_not_read_is_closed(server: ServerHarness) -> None:
    link = await server.open()
    await link.send(Subscribe(id="1", run=RUN))
    await until(lambda: server.alerts.contacts == 1)
    long = ValueChanged(sequence=0, device="leak", property="note", value="x" * 1000, age=0.0)
    async with asyncio.timeout(SECONDS):
        while server.alerts.calls == ["opened"]:
            server.feed.publish(long)
            await asyncio.sleep(0)  # a client that reads would keep up
    assert server.alerts.calls == ["opened", "closed"]


async def test_a_home_assistant_that_reads_keeps_up_with_a_flood(server: ServerHarness) -> None:
    link = await server.open()
    await link.send(Subscribe(id="1", run=RUN))
    for _ in range(3):
        await link.next()
    change = ValueChanged(sequence=0, device="leak", property="wet", value=True, age=0.0)
    for _ in range(3 * MOST_KEPT):
        server.feed.publish(change)
        while isinstance(received := await link.next(), Status):
            pass  # on a slow machine the status is sent again for its ages
        assert isinstance(received, ValueChanged)


async def test_the_longest_replay_arrives_complete_before_the_snapshot(server: ServerHarness) -> None:
    change = ValueChanged(sequence=0, device="leak", property="wet", value=True, age=0.0)
    for _ in range(MOST_KEPT):
        server.feed.publish(change)
    link = await server.open()
    await link.send(Subscribe(id="1", run=RUN, after=0))
    assert await link.next() == Result(id="1")
    for _ in range(MOST_KEPT):
        assert isinstance(await link.next(), ValueChanged)
    assert isinstance(await link.next(), Snapshot)
    assert isinstance(await link.next(), Status)


async def test_a_snapshot_too_large_for_a_frame_is_sent_in_pages(server: ServerHarness) -> None:
    server.devices += [device(number, "x" * 1000) for number in range(1500)]
    link = await server.open()
    await link.send(Subscribe(id="1", run=RUN))
    await link.next()
    pages = []
    while isinstance(page := await link.next(), Snapshot):
        pages.append(page)
    assert [page.more for page in pages] == [True] * (len(pages) - 1) + [False]
    assert len({page.sequence for page in pages}) == 1
    assert [each for page in pages for each in page.devices] == server.devices
    assert all(len(encode(page)) <= MAX_FRAME for page in pages)


async def test_a_device_too_large_for_a_frame_does_not_hide_the_others(
    server: ServerHarness, caplog: pytest.LogCaptureFixture
) -> None:
    server.devices += [device(1, "x"), device(2, "x" * MAX_FRAME), device(3, "x")]
    link = await server.open()
    await link.send(Subscribe(id="1", run=RUN))
    await link.next()
    pages = []
    while isinstance(page := await link.next(), Snapshot):
        pages.append(page)
    assert [each.id for page in pages for each in page.devices] == ["device-1", "device-3"]
    assert not pages[-1].more
    assert "too large" in caplog.text


def device(number: int, title: str) -> Device:
    return Device(id=f"device-{number}", title=title)


async def test_health_needs_no_token_and_reports_only_status_and_version(server: ServerHarness) -> None:
    async with server.http.get(f"{server.url}/health") as reply:
        assert (reply.status, orjson.loads(await reply.read())) == (200, {"status": "ok", "version": "9.8.7"})


@pytest.mark.parametrize("path", ["/", "/pair", "/metrics", "/ws/../data"])
async def test_no_other_paths_are_served(server: ServerHarness, path: str) -> None:
    async with server.http.post(f"{server.url}{path}") as reply:
        assert reply.status in (404, 405)
