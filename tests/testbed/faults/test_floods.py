"""Floods: what they send is allowed, and what proves that they took effect."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import islice
from typing import Any

import orjson
import pytest
from aiohttp import web

from process_cosmos_cloud.batches import MOST_VALUES, MOST_VALUES_IN_ALL, BatchReader
from process_cosmos_cloud.bodies import MAX_BODY
from process_cosmos_gateway.contract.destinations import Priority
from process_cosmos_gateway.contract.identifiers import Ulid
from process_cosmos_gateway.devices.mqtt.errors import MqttError
from process_cosmos_testbed.faults.harmful_reply_faults import FailingAtOne, passed
from process_cosmos_testbed.faults.heavy_batches import BATCHES
from process_cosmos_testbed.faults.http_floods import ADDRESSES, Flood
from process_cosmos_testbed.faults.mqtt_floods import FLOODS, FloodingClient
from process_cosmos_testbed.faults.reply_faults import Forger
from process_cosmos_testbed.ledger import Arrival, Item, Ledger
from process_cosmos_testbed.processes import any_certificate

SITE = Ulid("01K8J5Z0000000000000000001")


def read(body: bytes) -> tuple[int, int]:
    """Return how many events and readings the endpoint's reader takes of a batch, all of it."""
    reader = BatchReader(body, SITE)
    while not reader.read_some():
        pass
    batch = reader.batch
    assert not batch.rejected
    return len(batch.items), sum(len(each.readings) for each in batch.items)


@pytest.mark.parametrize(("kind", "taken"), [("series", (6, 30_000)), ("values", (1, 0)), ("brackets", (1, 0))])
def test_a_harmful_sites_batches_are_taken_whole_and_each_is_another_one(kind: str, taken: tuple[int, int]) -> None:
    first, second = islice(BATCHES[kind](SITE), 2)
    assert read(first) == taken
    assert len(first) <= MAX_BODY
    assert {event["id"] for event in orjson.loads(first)}.isdisjoint(event["id"] for event in orjson.loads(second))


def test_each_batch_of_readings_is_about_series_that_never_were_there() -> None:
    def names(body: bytes) -> set[str]:
        return {pack["data"][0]["bn"] + record["n"] for pack in orjson.loads(body) for record in pack["data"]}

    first, second = (names(body) for body in islice(BATCHES["series"](SITE), 2))
    assert (len(first), len(second), first & second) == (30_000, 30_000, set())


def test_too_many_values_before_a_text_without_an_end_are_few_enough_to_be_read() -> None:
    body = next(iter(BATCHES["quotes"](SITE)))
    assert MOST_VALUES < body.count(b",") < MOST_VALUES_IN_ALL
    assert len(body) <= MAX_BODY
    assert body.count(b'"') == body.count(rb"\"") + 1


class Broker:
    """Confirms the first ``confirmed`` messages, then hangs up."""

    def __init__(self, confirmed: int) -> None:
        self.left = confirmed

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        self.left -= 1
        if self.left < 0:
            raise MqttError("connection_lost")

    def send(self, topic: str, payload: bytes) -> asyncio.Future[Any]:
        return asyncio.ensure_future(self.publish(topic, payload))


@pytest.mark.parametrize("kind", ["values", "topics", "descriptions", "garbage", "large"])
async def test_a_flood_that_the_broker_confirms_nothing_of_has_not_struck(kind: str) -> None:
    client = FloodingClient(Broker(0))  # type: ignore[arg-type] # as much of a connection as a flood uses
    with pytest.raises(MqttError):
        await FLOODS[kind](client, 10)
    assert client.sent == 0


async def test_a_flood_counts_what_the_broker_has_confirmed() -> None:
    client = FloodingClient(Broker(1000))  # type: ignore[arg-type]
    await FLOODS["garbage"](client, 10)
    assert client.sent == 10


def arrivals(*events: tuple[str, bool]) -> Sequence[Arrival]:
    return [Arrival(item=Item(Priority.URGENT, event, 1), event=event, fresh=fresh) for event, fresh in events]


async def test_what_shared_a_request_with_the_event_that_fails_has_not_passed_it() -> None:
    async def take_nothing(*_: object) -> web.StreamResponse:
        return web.Response(status=500)

    failure = FailingAtOne(take_nothing)
    for events in (["bad"], ["other"], ["bad", "beside"]):
        body = orjson.dumps([{"id": event} for event in events])
        await failure.answer(None, body, take_nothing)  # type: ignore[arg-type] # nobody looks at the request
    assert failure.times == 2
    repeats = arrivals(("bad", True), ("bad", False), ("beside", True), ("other", False))
    assert passed(repeats, 0, failure) == 0
    assert passed([*repeats, *arrivals(("other", True))], 0, failure) == 1
    assert passed(arrivals(("other", True)), 1, failure) == 0


@asynccontextmanager
async def serving(answer: bytes) -> AsyncIterator[tuple[int, Counter[str]]]:
    """Answer each request so; gives the port, and how often it was connected to by address."""
    peers = Counter[str]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peers[writer.get_extra_info("peername")[0]] += 1
        await reader.read(1 << 16)
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1], peers


async def test_strangers_come_from_many_addresses() -> None:
    async with serving(b"") as (port, peers):
        one = Flood(port, "/", any_certificate())
        for _ in range(2 * len(ADDRESSES)):
            await one.ask(b"GET / HTTP/1.1\r\n\r\n", None)
    assert peers == dict.fromkeys(ADDRESSES, 2)


@pytest.mark.parametrize(("answer", "status"), [(b"HTTP/1.1 413 Too Large\r\n\r\nno", "413"), (b"", "none")])
async def test_a_reply_counts_by_its_status_and_an_end_without_one_as_none(answer: bytes, status: str) -> None:
    async with serving(answer) as (port, _):
        one = Flood(port, "/", any_certificate())
        assert await one.ask(b"GET / HTTP/1.1\r\n\r\n", None) == answer.partition(b"\r\n\r\n")[2]
    assert one.strikes == {"opened": 1, status: 1}


@pytest.mark.parametrize(("status", "forged"), [(200, 90), (422, 0)])
async def test_forged_events_count_once_they_are_refused_and_never_more_than_a_batch_may_have(
    status: int, forged: int
) -> None:
    sent: list[Any] = []

    async def forward(_: web.Request, body: bytes) -> web.Response:
        sent.extend(orjson.loads(body))
        return web.Response(status=status, body=b"{}")

    ledger = Ledger(bound=1.5)
    forger = Forger(ledger, forward)
    data = {"priority": "urgent", "number": 1}
    events = [
        {"id": f"{n}", "type": "testbed.numbered.v1", "subject": f"{n}", "source": "me", "data": data}
        for n in range(400)
    ]
    await forger.answer(None, orjson.dumps(events), forward)  # type: ignore[arg-type] # nobody looks at the request
    assert sum(event["source"] != "me" for event in sent) == 90
    assert (len(forger.forged), len(ledger.refused)) == (forged, forged)
