"""Publishing of events by local programs."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest
from aiohttp import WSMsgType, WSServerHandshakeError

from process_cosmos_gateway.api.local_programs import endpoint
from process_cosmos_gateway.contract.codec import MAX_FRAME
from process_cosmos_gateway.contract.destinations import EventKind, Priority
from process_cosmos_gateway.contract.local_programs import LONGEST_PUBLISH, MOST_UNANSWERED
from process_cosmos_gateway.errors import StoreError
from process_cosmos_gateway.outbox import DropReason, Limits
from process_cosmos_gateway.outbox.enqueue import EncodedEvent, EnqueueResult
from tests.support.waiting import until

from .endpoints import Endpoints, publish, with_endpoints
from .link import SECONDS
from .services import SITE


async def test_a_published_event_is_queued_as_a_cloudevent_before_its_result(endpoints: Endpoints) -> None:
    producer = await endpoints.producer()
    assert await producer.codes(publish(7, urgent=True)) == [None]
    [delivery] = await endpoints.outbox.deliveries("cloud", 10)
    assert delivery.priority == "urgent"
    assert orjson.loads(delivery.body) == {
        "specversion": "1.0",
        "id": "01K00000000000000000000007",
        "source": f"/sites/{SITE}",
        "type": "com.example.seen.v1",
        "subject": "front-door",
        "time": "2026-11-22T12:00:00Z",
        "datacontenttype": "application/json",
        "data": {"number": 7},
    }


@pytest.fixture
async def narrow(tmp_path: Path, unused_tcp_port: int) -> AsyncIterator[Endpoints]:
    """Yield endpoints of an outbox with room for some ten events per priority."""
    limits = Limits(quota=dict.fromkeys(Priority, 3_000))
    async with with_endpoints(tmp_path, unused_tcp_port, limits) as made:
        await made.outbox.register("cloud", [EventKind.DEVICE])
        yield made


async def test_an_urgent_event_without_room_is_refused_and_waiting_events_stay(narrow: Endpoints) -> None:
    producer = await narrow.producer()
    codes = [await producer.codes(publish(number, urgent=True)) for number in range(40)]
    accepted = codes.count([None])
    assert 0 < accepted < 40
    assert codes == [[None]] * accepted + [["outbox_full"]] * (40 - accepted)
    assert len(await narrow.outbox.deliveries("cloud", 100)) == accepted


async def test_without_room_a_newer_event_of_a_slot_replaces_the_older_one(narrow: Endpoints) -> None:
    producer = await narrow.producer()
    for number in range(40):
        assert await producer.codes(publish(number, slot="front-door/pressed")) == [None]
    drops = (await narrow.outbox.depths()).drops
    assert drops.keys() == {(Priority.CHANGE, DropReason.SUPERSEDED)}
    newest = (await narrow.outbox.deliveries("cloud", 100))[-1]
    assert newest.id == "01K00000000000000000000039"


@dataclass
class SmallDisk:
    """Disk that is nearly full until ``make_room``."""

    endpoints: Endpoints
    free: int = 0

    async def make_room(self) -> None:
        self.free = 1 << 40
        await until(lambda: self.endpoints.store.space.free > 0)


@pytest.fixture
async def small(tmp_path: Path, unused_tcp_port: int) -> AsyncIterator[SmallDisk]:
    free: Callable[[Path], int] = lambda _: found.free if found else 0  # noqa: E731 - it refers to an object made below
    found: SmallDisk | None = None
    async with with_endpoints(tmp_path, unused_tcp_port, free_fn=free) as made:
        await made.outbox.register("cloud", [EventKind.DEVICE])
        found = SmallDisk(made)
        yield found


async def test_a_change_refused_for_a_full_disk_is_not_a_duplicate_later(small: SmallDisk) -> None:
    producer = await small.endpoints.producer()
    assert await producer.codes(publish(1), publish(2, urgent=True)) == ["outbox_full", None]
    await small.make_room()
    assert await producer.codes(publish(1), publish(1)) == [None, None]
    depths = await small.endpoints.outbox.depths()
    assert (depths.waiting.change, depths.waiting.urgent, depths.drops) == (1, 1, {})


async def test_an_accepted_event_is_accepted_again_without_room(narrow: Endpoints) -> None:
    producer = await narrow.producer()
    codes = [await producer.codes(publish(number, urgent=True)) for number in range(40)]
    assert codes[-1] == ["outbox_full"]
    assert await (await narrow.producer()).codes(publish(0, urgent=True)) == [None]


async def test_a_refused_event_holds_back_its_subject_until_it_is_published_again(small: SmallDisk) -> None:
    producer, other = await small.endpoints.producer(), await small.endpoints.producer()
    assert await producer.codes(publish(1)) == ["outbox_full"]
    await small.make_room()
    sent = publish(2), publish(3, subject="back-door"), publish(4, urgent=True), publish(1), publish(2)
    assert await producer.codes(*sent) == ["outbox_full", None, None, None, None]
    assert await other.codes(publish(5)) == [None], "another program is not held back"
    got = [delivery.id[-1] for delivery in await small.endpoints.outbox.deliveries("cloud", 10)]
    assert got == ["4", "3", "1", "2", "5"]


async def test_pipelined_events_of_a_subject_share_the_refusal_of_the_first(narrow: Endpoints) -> None:
    producer = await narrow.producer()
    long = publish(1, data={"text": "x" * 5_000})
    assert await producer.codes(long, publish(2), publish(3, subject="back-door")) == ["outbox_full"] * 2 + [None]
    assert [delivery.id[-1] for delivery in await narrow.outbox.deliveries("cloud", 10)] == ["3"]


async def test_a_failed_commit_refuses_later_events_of_the_same_subject(endpoints: Endpoints) -> None:
    producer, gate = await endpoints.producer(), threading.Event()
    commit = endpoints.outbox._group_commit._commit_fn

    async def fail_once(arrivals: Sequence[EncodedEvent]) -> Sequence[EnqueueResult]:
        endpoints.outbox._group_commit._commit_fn = commit
        await asyncio.to_thread(gate.wait, SECONDS)
        raise StoreError("the disk has failed")

    endpoints.outbox._group_commit._commit_fn = fail_once
    await producer.send(publish(1))
    await until(lambda: endpoints.outbox.offered == 1)
    await asyncio.sleep(0)
    await producer.send(publish(2), publish(3), publish(4, subject="back-door"))
    await until(lambda: endpoints.outbox.offered == 4)
    gate.set()
    results = await producer.results(4)
    assert [each["id"] for each in results] == ["1", "2", "3", "4"]
    assert [each["problem"] and each["problem"]["code"] for each in results] == ["store_failed"] * 3 + [None]


async def test_an_abandoned_refused_event_stops_holding_back_its_subject(
    small: SmallDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "HELD_SECONDS", 0)
    producer = await small.endpoints.producer()
    assert await producer.codes(publish(1)) == ["outbox_full"]
    await small.make_room()
    assert await producer.codes(publish(2)) == [None]


async def test_a_program_with_too_many_held_back_subjects_is_disconnected(
    small: SmallDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "MOST_SUBJECTS", 3)
    producer = await small.endpoints.producer()
    await producer.send(*(publish(number, subject=f"door {number}") for number in range(4)))
    async with asyncio.timeout(SECONDS):
        while (message := await producer.socket.receive()).type is WSMsgType.TEXT:
            pass
    assert (message.type, message.data) == (WSMsgType.CLOSE, 1013)


async def test_a_repeated_event_is_stored_once_and_other_content_is_refused(endpoints: Endpoints) -> None:
    producer = await endpoints.producer()
    assert await producer.codes(publish(1), publish(1)) == [None, None]
    assert await producer.codes(publish(1, data="other")) == ["id_conflict"]
    assert (await endpoints.outbox.depths()).waiting.change == 1


async def test_all_results_of_one_commit_are_sent_in_one_frame(endpoints: Endpoints) -> None:
    producer, gate = await endpoints.producer(), threading.Event()
    held = asyncio.ensure_future(endpoints.store.write(lambda _: gate.wait(SECONDS)))
    await producer.send(*(publish(number) for number in range(5)))
    await until(lambda: endpoints.outbox.offered == 5)
    gate.set()
    await held
    assert [result["id"] for result in await producer.frame()] == ["0", "1", "2", "3", "4"]


async def test_a_connection_that_waits_for_its_results_is_not_read(endpoints: Endpoints) -> None:
    producer, gate = await endpoints.producer(), threading.Event()
    held = asyncio.ensure_future(endpoints.store.write(lambda _: gate.wait(SECONDS)))
    await producer.send(*(publish(number) for number in range(3 * MOST_UNANSWERED)))
    await until(lambda: endpoints.outbox.offered >= MOST_UNANSWERED)
    for _ in range(1_000):
        await asyncio.sleep(0)
    assert endpoints.outbox.offered == MOST_UNANSWERED
    gate.set()
    await held
    assert len(await producer.results(3 * MOST_UNANSWERED)) == 3 * MOST_UNANSWERED


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (publish(1, event_type="process_cosmos.alert.opened.v1"), "invalid_value"),
        (publish(1, event_type=""), "invalid_value"),
        (publish(1, subject=""), "invalid_value"),
        (publish(1, event="no ulid"), "malformed"),
        (publish(1, time="yesterday"), "malformed"),
        ({"type": "publish", "id": "1"}, "malformed"),
        ({"type": "transition", "id": "1"}, "unsupported"),
    ],
)
async def test_an_invalid_event_is_refused_and_the_connection_continues(
    endpoints: Endpoints, message: object, code: str
) -> None:
    producer = await endpoints.producer()
    await producer.send(message)
    [result] = await producer.frame()
    assert (result["id"], result["problem"]["code"]) == ("1", code)
    assert await producer.codes(publish(2)) == [None]


async def test_an_event_with_unknown_members_is_stored_and_they_are_named_once(
    endpoints: Endpoints, caplog: pytest.LogCaptureFixture
) -> None:
    producer = await endpoints.producer()
    assert await producer.codes(*(publish(number, mood="good") for number in range(3))) == [None] * 3
    assert caplog.text.count("publish.mood is unknown") == 1


@pytest.mark.parametrize("frame", [b"{", b"[]", b'{"type": "publish", "id": 7}'])
async def test_a_message_without_a_readable_id_is_refused_without_one(endpoints: Endpoints, frame: bytes) -> None:
    producer = await endpoints.producer()
    await producer.send(frame)
    [result] = await producer.frame()
    assert (result["id"], result["problem"]["code"]) == ("", "malformed")


async def test_a_frame_that_is_too_long_ends_the_connection(endpoints: Endpoints) -> None:
    producer = await endpoints.producer()
    longest = orjson.dumps(publish(1))
    assert await producer.codes(longest.ljust(LONGEST_PUBLISH)) == [None]
    await producer.send(longest.ljust(MAX_FRAME))
    async with asyncio.timeout(SECONDS):
        message = await producer.socket.receive()
    assert message.type in (WSMsgType.CLOSE, WSMsgType.CLOSED)


async def test_a_failed_store_is_reported_and_nothing_is_accepted(endpoints: Endpoints) -> None:
    producer = await endpoints.producer()
    await endpoints.break_store()
    assert await producer.codes(publish(1)) == ["store_failed"]


async def test_without_a_token_nothing_can_be_published(endpoints: Endpoints) -> None:
    for header in ({}, {"Authorization": "Bearer wrong"}):
        with pytest.raises(WSServerHandshakeError, match="401"):
            await endpoints.http.ws_connect(f"{endpoints.url}/ws/events", headers=header)


async def test_a_stopping_gateway_closes_connections_of_programs(tmp_path: Path, unused_tcp_port: int) -> None:
    async with with_endpoints(tmp_path, unused_tcp_port) as endpoints:
        closing = asyncio.ensure_future((await endpoints.producer()).socket.receive())
        await endpoints.stop()
        async with asyncio.timeout(SECONDS):
            assert (await closing).data == 1001


async def test_events_of_a_disconnected_program_are_still_stored(endpoints: Endpoints) -> None:
    producer = await endpoints.producer()
    assert await producer.codes(publish(1)) == [None]
    await producer.send(publish(2))
    await producer.socket.close()
    async with asyncio.timeout(SECONDS):
        while (await endpoints.outbox.depths()).waiting.change < 2:  # noqa: ASYNC110 - the store tells nobody
            await asyncio.sleep(0)


async def test_a_failed_event_holds_back_its_subject_after_its_program_disconnected(endpoints: Endpoints) -> None:
    producer, gate = await endpoints.producer(), threading.Event()
    commit = endpoints.outbox._group_commit._commit_fn

    async def fail_once(arrivals: Sequence[EncodedEvent]) -> Sequence[EnqueueResult]:
        endpoints.outbox._group_commit._commit_fn = commit
        await asyncio.to_thread(gate.wait, SECONDS)
        raise StoreError("the disk has failed")

    endpoints.outbox._group_commit._commit_fn = fail_once
    await producer.send(publish(1))
    await until(lambda: endpoints.outbox.offered == 1)
    await asyncio.sleep(0)
    await producer.send(publish(2), publish(3, subject="back-door"))
    await until(lambda: endpoints.outbox.offered == 3)
    await producer.socket.close()
    gate.set()
    async with asyncio.timeout(SECONDS):
        while not (await endpoints.outbox.depths()).waiting.change:  # noqa: ASYNC110 - the store tells nobody
            await asyncio.sleep(0)
    assert await (await endpoints.producer()).codes(publish(1), publish(2)) == [None, None]
    assert [delivery.id[-1] for delivery in await endpoints.outbox.deliveries("cloud", 10)] == ["3", "1", "2"]
