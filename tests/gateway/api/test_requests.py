"""What Home Assistant asks for within a session, and what it hears of devices."""

import asyncio

import orjson
import pytest

from process_cosmos_gateway.api.change_feed import MOST_KEPT
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
from process_cosmos_gateway.contract.session import Receipt, Result
from process_cosmos_gateway.errors import RequestRefusedError, StoreError

from .link import RUN, SECONDS, transition
from .services import House


async def test_after_subscribing_come_the_result_the_snapshot_the_status_and_changes(house: House) -> None:
    link = await house.open()
    await link.say(Subscribe(id="1", run=RUN))
    assert await link.next() == Result(id="1")
    assert isinstance(await link.next(), Snapshot)
    assert isinstance(await link.next(), Status)
    house.feed.publish(ValueChanged(sequence=0, device="leak", property="wet", value=True, age=0.0))
    change = await link.next()
    assert isinstance(change, ValueChanged)
    assert change.value is True


async def test_a_status_comes_again_only_when_more_than_ages_changed(house: House) -> None:
    link = await house.open()
    await link.say(Subscribe(id="1", run=RUN))
    for _ in range(3):
        await link.next()
    for _ in range(3):
        assert await link.next(beats=True) == Receipt()
    house.owners.rejected_count = 1
    status = await link.next()
    assert isinstance(status, Status)
    assert status.rejected == 1


async def test_a_status_that_cannot_be_read_is_tried_again(house: House) -> None:
    house.owners.status_broken = True
    link = await house.open()
    await link.say(Subscribe(id="1", run=RUN))
    for _ in range(2):
        await link.next()
    await link.next(beats=True)
    house.owners.status_broken = False
    assert isinstance(await link.next(), Status)


async def test_nothing_of_devices_is_said_before_subscribing(house: House) -> None:
    link = await house.open()
    house.feed.publish(ValueChanged(sequence=0, device="leak", property="wet", value=True, age=0.0))
    await link.say(transition(4))
    assert await link.next() == Receipt(position=Position(run=RUN, n=4))


def write(number: int = 1) -> WriteProperty:
    return WriteProperty(id=str(number), device="valve", property="open", value=False)


async def test_a_request_is_done_and_answered_with_its_id(house: House) -> None:
    link = await house.open()
    await link.say(write(1), write(2))
    assert {await link.next(), await link.next()} == {Result(id="1"), Result(id="2")}
    assert house.owners.written == [write(1), write(2)]


async def test_requests_about_destinations_reach_them_and_a_test_has_a_reply_of_its_own(house: House) -> None:
    tested = DestinationTested(id="2", delivered=False, reason="timeout")
    house.owners.test = lambda _: asyncio.sleep(0, tested)
    link = await house.open()
    change = ChangeDestination(id="1", name="hook", label="Site office")
    approval = ApproveReply(id="3", name="hook", digest="0" * 64)
    await link.say(change)
    assert await link.next() == Result(id="1")
    await link.say(TestDestination(id="2", name="hook"))
    assert await link.next() == tested
    await link.say(approval)
    assert await link.next() == Result(id="3")
    assert house.owners.written == [change, approval]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RequestRefusedError(Code.BROKER_AWAY, "The MQTT broker is away."), Code.BROKER_AWAY),
        (StoreError("the disk"), Code.STORE_FAILED),
    ],
)
async def test_a_refused_request_says_why(house: House, error: Exception, code: Code) -> None:
    link = await house.open()
    house.owners.error = error
    await link.say(write())
    result = await link.next()
    assert isinstance(result, Result)
    assert result.problem
    assert result.problem.code == code


async def test_a_home_assistant_that_does_not_read_has_to_come_back(house: House) -> None:
    link = await house.open()
    await link.say(Subscribe(id="1", run=RUN))
    await house.until(lambda: house.alerts.lives == 1)
    long = ValueChanged(sequence=0, device="leak", property="note", value="x" * 1000, age=0.0)
    async with asyncio.timeout(SECONDS):
        while house.alerts.heard == ["opened"]:
            house.feed.publish(long)
            await asyncio.sleep(0)  # whoever reads would keep up
    assert house.alerts.heard == ["opened", "closed"]


async def test_a_home_assistant_that_reads_keeps_up_with_a_flood(house: House) -> None:
    link = await house.open()
    await link.say(Subscribe(id="1", run=RUN))
    for _ in range(3):
        await link.next()
    change = ValueChanged(sequence=0, device="leak", property="wet", value=True, age=0.0)
    for _ in range(3 * MOST_KEPT):
        house.feed.publish(change)
        while isinstance(heard := await link.next(), Status):
            pass  # a slow machine takes so long that ages are said again
        assert isinstance(heard, ValueChanged)


async def test_the_longest_replay_arrives_whole_with_the_snapshot_after_it(house: House) -> None:
    change = ValueChanged(sequence=0, device="leak", property="wet", value=True, age=0.0)
    for _ in range(MOST_KEPT):
        house.feed.publish(change)
    link = await house.open()
    await link.say(Subscribe(id="1", run=RUN, after=0))
    assert await link.next() == Result(id="1")
    for _ in range(MOST_KEPT):
        assert isinstance(await link.next(), ValueChanged)
    assert isinstance(await link.next(), Snapshot)
    assert isinstance(await link.next(), Status)


async def test_a_snapshot_that_no_frame_holds_comes_in_pages(house: House) -> None:
    house.devices += [device(number, "x" * 1000) for number in range(1500)]
    link = await house.open()
    await link.say(Subscribe(id="1", run=RUN))
    await link.next()
    pages = []
    while isinstance(page := await link.next(), Snapshot):
        pages.append(page)
    assert [page.more for page in pages] == [True] * (len(pages) - 1) + [False]
    assert len({page.sequence for page in pages}) == 1
    assert [each for page in pages for each in page.devices] == house.devices
    assert all(len(encode(page)) <= MAX_FRAME for page in pages)


async def test_a_device_that_no_frame_holds_does_not_hide_the_others(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    house.devices += [device(1, "x"), device(2, "x" * MAX_FRAME), device(3, "x")]
    link = await house.open()
    await link.say(Subscribe(id="1", run=RUN))
    await link.next()
    pages = []
    while isinstance(page := await link.next(), Snapshot):
        pages.append(page)
    assert [each.id for page in pages for each in page.devices] == ["device-1", "device-3"]
    assert not pages[-1].more
    assert "too large" in caplog.text


def device(number: int, title: str) -> Device:
    return Device(id=f"device-{number}", title=title)


async def test_health_needs_no_token_and_says_nothing_but_that_all_is_well(house: House) -> None:
    async with house.http.get(f"{house.url}/health") as reply:
        assert (reply.status, orjson.loads(await reply.read())) == (200, {"status": "ok", "version": "0.1.0"})


@pytest.mark.parametrize("path", ["/", "/pair", "/metrics", "/ws/../data"])
async def test_there_is_nothing_else_inside_the_supervisors_network(house: House, path: str) -> None:
    async with house.http.post(f"{house.url}{path}") as reply:
        assert reply.status in (404, 405)
