"""Limits of one site: its batches, reading batches and requests; other sites are served meanwhile."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from io import BytesIO
from pathlib import Path
from urllib.parse import urlsplit

import apsw
import orjson
import pytest

from process_cosmos_cloud.arrivals import read_arrivals
from process_cosmos_cloud.batches import MOST_ITEMS, MOST_READINGS, MOST_REJECTED, BatchReader
from process_cosmos_cloud.inbox import add_item
from process_cosmos_cloud.places import RequestSlots, SupersededError
from process_cosmos_cloud.readings import MOST_RECORDS
from process_cosmos_cloud.turns import RoundRobin
from process_cosmos_gateway.contract.cloud import InboxItem
from process_cosmos_gateway.contract.errors import ContractError
from process_cosmos_gateway.contract.identifiers import Ulid

from .conftest import NOW, OTHER, SITE, new_code
from .endpoint import Site, event, joined, said


def reading_batch(number: int, records: list[dict[str, object]]) -> dict[str, object]:
    """Return an event with SenML records."""
    return event(number, SITE, datacontenttype="application/senml+json", data=records)


def readings(count: int) -> list[dict[str, object]]:
    """Return records of one series."""
    return [{"n": "cellar/temperature", "t": number, "v": 20.5} for number in range(count)]


async def test_a_batch_has_five_thousand_events_at_most(site: Site, connection: apsw.Connection) -> None:
    status, problem = await site.post(BytesIO(joined([event(number, SITE) for number in range(MOST_ITEMS + 1)])))
    assert (status, problem["code"]) == (413, "too_large")
    assert list(read_arrivals(connection)) == []

    status, reply = await site.post(BytesIO(joined([event(number, SITE) for number in range(MOST_ITEMS)])))
    assert (status, reply["duplicates"], reply["rejected"]) == (200, [], [])


@pytest.mark.parametrize("dump", [joined, orjson.dumps])
async def test_a_receipt_lists_a_hundred_rejected_events_and_more_reject_the_batch(
    site: Site, connection: apsw.Connection, dump: Callable[[list[object]], bytes]
) -> None:
    broken: list[object] = [0] * MOST_REJECTED
    status, reply = await site.post(dump([event(1, SITE), *broken, 0]))
    assert (status, reply["code"]) == (422, "malformed")
    assert list(read_arrivals(connection)) == []

    status, reply = await site.post(dump([event(1, SITE), *broken]))
    assert said(reply, 1 + MOST_REJECTED) == ["accepted", *["rejected"] * MOST_REJECTED]


@pytest.mark.parametrize(
    "records",
    [
        pytest.param(readings(MOST_RECORDS + 1), id="records"),
        pytest.param([{"bn": "a/" + "x" * 100_000, "v": 1}, *[{"n": "y", "v": 1}] * 20], id="base name"),
        pytest.param([{"bn": "a/b", "bu": "x" * 100_000, "v": 1}, *[{"n": "y", "v": 1}] * 20], id="base unit"),
    ],
)
async def test_a_reading_batch_beyond_its_limits_is_rejected_alone(
    site: Site, records: list[dict[str, object]]
) -> None:
    status, reply = await site.post(
        joined([event(1, SITE), reading_batch(2, records), reading_batch(3, readings(MOST_RECORDS))])
    )
    assert status == 200
    assert said(reply, 3) == ["accepted", "rejected", "accepted"]
    assert reply["rejected"][0]["problem"]["code"] == "too_large"


async def test_the_readings_of_a_batch_are_limited(site: Site, connection: apsw.Connection) -> None:
    batches = [reading_batch(number, readings(MOST_RECORDS)) for number in range(MOST_READINGS // MOST_RECORDS)]
    status, problem = await site.post(BytesIO(joined([*batches, reading_batch(99, readings(1))])))
    assert (status, problem["code"]) == (413, "too_large")
    assert list(read_arrivals(connection)) == []

    status, reply = await site.post(BytesIO(joined(batches)))
    assert (status, reply["rejected"]) == (200, [])


def test_a_batch_is_parsed_in_time_slices() -> None:
    reader = BatchReader(joined([event(number, SITE) for number in range(3)]), Ulid(SITE))
    assert [reader.read_some(0.0) for _ in range(4)] == [False, False, False, True]
    assert [item.position for item in reader.batch.items] == [0, 1, 2]


@pytest.mark.parametrize(
    "body", [b"[1,]", b"[1,\n]", b"[,]", b"[1 2]", b"[1],[2]", b'["a]', b"[1, [2]", b"[1, \xff]", b"[NaN, 1]", b"1]"]
)
def test_an_invalid_json_array_is_malformed(body: bytes) -> None:
    reader = BatchReader(body, Ulid(SITE))
    with pytest.raises(ContractError):
        reader.read_some()


async def test_sites_are_served_round_robin_and_cancelled_jobs_are_skipped() -> None:
    order: list[str] = []
    begin = threading.Event()
    with ThreadPoolExecutor(1) as thread:
        work = RoundRobin(thread)
        blocking = asyncio.create_task(work.run("a", begin.wait))
        jobs = [
            asyncio.create_task(work.run(name[0], partial(order.append, name)))
            for name in ("a1", "a2", "b1", "c1", "b2")
        ]
        await asyncio.sleep(0)
        jobs.pop(3).cancel()
        begin.set()
        await asyncio.gather(blocking, *jobs)
    assert order == ["a1", "b1", "a2", "b2"]


async def test_an_exception_of_a_job_is_raised_to_its_caller_and_the_next_job_runs() -> None:
    with ThreadPoolExecutor(1) as thread:
        work = RoundRobin(thread)
        failing = asyncio.create_task(work.run("a", lambda: 1 // 0))
        assert await work.run("a", lambda: 2) == 2
        with pytest.raises(ZeroDivisionError):
            await failing


async def test_a_newer_request_supersedes_a_waiting_one_and_waits_for_a_running_one() -> None:
    slots, ended, inside = RequestSlots(1), asyncio.Event(), asyncio.Event()

    async def wait_for_a_body() -> None:
        try:
            async with slots.acquire(Ulid(SITE)) as slot, slot.interruptible():
                inside.set()
                await asyncio.Event().wait()
        except SupersededError:
            ended.set()

    waiting = asyncio.create_task(wait_for_a_body())
    await inside.wait()
    async with slots.acquire(Ulid(OTHER)):
        assert not ended.is_set()
    inside.clear()
    async with slots.acquire(Ulid(SITE)):
        await ended.wait()
        following = [asyncio.create_task(wait_for_a_body()) for _ in range(2)]
        await asyncio.wait(following, return_when=asyncio.FIRST_COMPLETED)
        assert [each.done() for each in following] == [True, False]
        assert not inside.is_set()
    await inside.wait()
    following[1].cancel()
    await asyncio.gather(waiting, *following, return_exceptions=True)
    async with slots.acquire(Ulid(SITE)):
        pass


async def test_a_request_ended_when_its_slot_becomes_free_is_superseded() -> None:
    slots, order = RequestSlots(1), []

    async def ask(name: str) -> None:
        try:
            async with slots.acquire(Ulid(SITE)):
                order.append(name)
        except SupersededError:
            order.append(f"{name} superseded")

    async with slots.acquire(Ulid(SITE)):
        second = asyncio.create_task(ask("second"))
        await asyncio.sleep(0)
        third = asyncio.create_task(ask("third"))  # starts in the same loop iteration in which the first one ends
    await asyncio.gather(second, third)
    assert order == ["third", "second superseded"]


async def test_a_request_ended_when_its_body_arrives_is_superseded() -> None:
    slots, came, inside = RequestSlots(1), asyncio.Event(), asyncio.Event()

    async def wait_for_a_body() -> None:
        async with slots.acquire(Ulid(SITE)) as slot, slot.interruptible():
            inside.set()
            await came.wait()

    waiting = asyncio.create_task(wait_for_a_body())
    await inside.wait()
    came.set()
    async with slots.acquire(Ulid(SITE)):
        with pytest.raises(SupersededError):
            await waiting


async def test_a_site_has_at_most_four_waiting_polls(site: Site, connection: apsw.Connection) -> None:
    for number in range(1, 7):
        given = InboxItem(id=f"{number}", cursor=0, alert=Ulid(OTHER), by="x", age=0.0, answer="a")
        add_item(connection, Ulid(OTHER), given, NOW)
    polls = []
    for number in range(1, 7):
        polls.append(asyncio.create_task(site.poll(number)))
        async with asyncio.timeout(20):
            while connection.execute("SELECT cursor FROM polled").get != number:  # noqa: ASYNC110 - a database sends no notification
                await asyncio.sleep(0)
    (first, problem), (second, _) = await asyncio.gather(*polls[:2])
    assert (first, problem["code"], second) == (503, "superseded", 503)
    assert not any(poll.done() for poll in polls[2:])
    for poll in polls:
        poll.cancel()
    await asyncio.gather(*polls, return_exceptions=True)


async def test_a_site_keeps_its_newest_sixteen_connections(site: Site) -> None:
    address, tls = urlsplit(site.url), site.tls()
    connections = []
    for number in range(18):
        connections.append(await asyncio.open_connection(address.hostname, address.port, ssl=tls))
        reader, writer = connections[-1]
        writer.write(b"GET /v1/inbox?wait=0 HTTP/1.1\r\nHost: cloud\r\n\r\n")
        await asyncio.wait_for(reader.readuntil(b"}"), 20)
        if number >= 16:
            assert await asyncio.wait_for(connections[number - 16][0].read(), 20) == b""
    assert [reader.at_eof() for reader, _ in connections] == [True] * 2 + [False] * 16
    assert await site.send([event(1, SITE)]) == ["accepted"]
    for _, writer in connections:
        writer.transport.abort()


async def test_incomplete_bodies_do_not_block_a_batch_of_the_site(site: Site) -> None:
    address = urlsplit(site.url)
    head = (
        b"POST /v1/events HTTP/1.1\r\nHost: cloud\r\nContent-Type: application/cloudevents-batch+json\r\n"
        b"Content-Length: 1000\r\n\r\n["
    )
    readers = []
    for _ in range(5):
        reader, writer = await asyncio.open_connection(address.hostname, address.port, ssl=site.tls())
        writer.write(head)
        await writer.drain()
        readers.append((reader, writer))
    assert b" 503 " in await readers[0][0].readline()
    assert await site.send([event(1, SITE)]) == ["accepted"]
    for _, writer in readers:
        writer.transport.abort()


async def test_a_request_without_a_valid_code_is_refused_before_its_csr_is_parsed(url: str, folder: Path) -> None:
    site = Site.new(SITE, url)
    status, problem = await site.enrol(new_code(folder, url), secret="never-made-anywhere", csr="no request")
    assert (status, problem["code"]) == (403, "enrolment_refused")
