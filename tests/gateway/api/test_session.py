"""Sessions: the handshake, order, limits, and how they end; the parts behind are fakes at their borders."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, cast

import orjson
import pytest
from aiohttp import ClientSession, WSServerHandshakeError

from process_cosmos_gateway.api.access import Access, offer_pairing
from process_cosmos_gateway.api.feed import Feed
from process_cosmos_gateway.api.requests import Requests
from process_cosmos_gateway.api.server import Server
from process_cosmos_gateway.api.session import MOST_UNANSWERED, Limits, Parts
from process_cosmos_gateway.api.status import StatusReader
from process_cosmos_gateway.contract.codec import MAX_FRAME, encode
from process_cosmos_gateway.contract.destinations import Status, Waiting
from process_cosmos_gateway.contract.devices import Snapshot, Subscribe, ValueChanged, WriteProperty
from process_cosmos_gateway.contract.errors import Code
from process_cosmos_gateway.contract.escalations import CaughtUp, Propose, Told, Transition
from process_cosmos_gateway.contract.identifiers import Position, Ulid
from process_cosmos_gateway.contract.messages import FromHomeAssistant
from process_cosmos_gateway.contract.pairing import PairingRequest
from process_cosmos_gateway.contract.session import (
    GatewayHello,
    Receipt,
    Refused,
    Result,
    Stopping,
)
from process_cosmos_gateway.errors import RequestRefusedError, StoreError
from process_cosmos_gateway.store import Store

from .link import RUN, SECONDS, Link, hello, transition
from .test_feed import HandClock

SITE = Ulid("01KAQ70000PC0SM0S000000000")
EPOCH = Ulid("01KAQ70001EP0CH00000000000")


@dataclass
class FakeEscalations:
    """Writes down what it is told, in order."""

    heard: list[Any] = field(default_factory=list)
    lives: int = 0
    broken: bool = False
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    send: Callable[[Told | Propose], None] | None = None

    def __post_init__(self) -> None:
        self.gate.set()

    async def greeting(self) -> tuple[Position | None, tuple[()]]:
        if self.broken:
            raise StoreError
        return Position(run=RUN, n=3), ()

    def session_opened(self, send: Callable[[Told | Propose], None]) -> None:
        self.send = send
        self.heard.append("opened")

    def session_closed(self, *, announced: bool) -> None:
        self.heard.append("closed, announced" if announced else "closed")

    def home_assistant_lives(self) -> None:
        self.lives += 1

    async def apply(self, transition: Transition) -> None:
        await self.gate.wait()
        if self.broken:
            raise StoreError
        self.heard.append(transition.position.n)

    async def caught_up(self) -> None:
        self.heard.append("caught up")

    async def settle(self, result: Result) -> None:
        self.heard.append(result)


@dataclass
class FakeOwners:
    """Devices, destinations, outbox and the status reader in one."""

    written: list[WriteProperty] = field(default_factory=list)
    error: Exception | None = None
    rejected_count: int = 0
    status_broken: bool = False
    ages: Iterator[float] = field(default_factory=partial(count, 0.5))

    async def write(self, request: WriteProperty) -> None:
        if self.error:
            raise self.error
        self.written.append(request)

    def __getattr__(self, name: str) -> object:
        return self.write

    async def read(self) -> Status:
        if self.status_broken:
            raise StoreError
        return Status(
            links=(),
            waiting=Waiting(),
            rejected=self.rejected_count,
            dropped=0,
            broker_connected=True,
            oldest_waiting_age=next(self.ages),
        )


@dataclass
class House:
    """A server with fakes behind it."""

    http: ClientSession
    url: str
    token: str
    escalations: FakeEscalations
    owners: FakeOwners
    feed: Feed
    links: list[Link] = field(default_factory=list)

    async def connect(self, token: str | None = None) -> Link:
        headers = {"Authorization": f"Bearer {self.token if token is None else token}"}
        self.links.append(Link(await self.http.ws_connect(f"{self.url}/ws", headers=headers, max_msg_size=0)))
        return self.links[-1]

    async def open(self) -> Link:
        link = await self.connect()
        await link.say(hello())
        assert isinstance(await link.next(), GatewayHello)
        return link

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(SECONDS):
            while not condition():  # noqa: ASYNC110 - the fakes' lists have no event
                await asyncio.sleep(0)


@asynccontextmanager
async def serving(folder: Path, port: int, limits: Limits) -> AsyncIterator[House]:
    clock, escalations, owners = HandClock(), FakeEscalations(), FakeOwners()
    access = Access(folder, clock, supervised=False)
    token = await access.pair(PairingRequest(secret=offer_pairing(folder, clock), instance="home"))
    feed = Feed(clock, tuple)
    store = await Store.open(folder, lambda: SITE)
    parts = Parts(
        escalations=cast("Any", escalations),
        feed=feed,
        requests=Requests(cast("Any", owners), cast("Any", owners), cast("Any", owners)),
        status=cast("StatusReader", owners),
        limits=limits,
    )
    server = Server(parts, store, access, "0.1.0")
    async with server.listen("127.0.0.1", port, None), ClientSession() as http:
        house = House(http, f"http://127.0.0.1:{port}", token, escalations, owners, feed)
        yield house
        for link in house.links:
            await link.socket.close()
    await store.close()


@pytest.fixture
async def house(tmp_path: Path, unused_tcp_port: int) -> AsyncIterator[House]:
    limits = Limits(hello=SECONDS, silence=SECONDS, caught_up=SECONDS, receipt=0.05, status=0.01)
    async with serving(tmp_path, unused_tcp_port, limits) as made:
        yield made


@pytest.mark.parametrize("token", ["", "wrong", "\N{DROPLET}"])
async def test_without_the_token_there_is_no_session(house: House, token: str) -> None:
    with pytest.raises(WSServerHandshakeError) as refused:
        await house.connect(token)
    assert refused.value.status == 401
    assert house.escalations.heard == []


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
    assert house.escalations.heard == []


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
    assert house.escalations.heard == ["opened"]


async def test_a_store_that_cannot_be_read_refuses_the_session(house: House) -> None:
    house.escalations.broken = True
    link = await house.connect()
    await link.say(hello())
    refused = await link.next()
    assert isinstance(refused, Refused)
    assert refused.code == Code.STORE_FAILED


async def test_signs_of_life_come_without_being_asked(house: House) -> None:
    link = await house.open()
    assert [await link.next(beats=True) for _ in range(3)] == [Receipt()] * 3


async def test_every_frame_is_a_sign_of_life(house: House) -> None:
    link = await house.open()
    await link.say(Receipt(), Receipt(), CaughtUp())
    await house.until(lambda: house.escalations.lives == 3)


async def test_transitions_are_applied_in_order_and_each_is_confirmed(house: House) -> None:
    link = await house.open()
    await link.say(*map(transition, range(4, 60)), CaughtUp(), Result(id="cloud/1"))
    for n in range(4, 60):
        assert await link.next() == Receipt(position=Position(run=RUN, n=n))
    await house.until(lambda: len(house.escalations.heard) == 59)
    assert house.escalations.heard == ["opened", *range(4, 60), "caught up", Result(id="cloud/1")]


async def test_text_frames_are_read_too(house: House) -> None:
    link = await house.open()
    await link.socket.send_str(encode(transition(4)).decode())
    assert await link.next() == Receipt(position=Position(run=RUN, n=4))


async def test_beyond_sixteen_unanswered_the_server_stops_reading(house: House) -> None:
    link = await house.open()
    house.escalations.gate.clear()
    await link.say(*map(transition, range(100)))
    await house.until(lambda: house.escalations.lives > MOST_UNANSWERED)
    await link.next(beats=True)
    await link.next(beats=True)
    assert house.escalations.lives == MOST_UNANSWERED + 1
    house.escalations.gate.set()
    for n in range(100):
        assert await link.next() == Receipt(position=Position(run=RUN, n=n))


async def test_after_a_failed_write_nothing_more_is_applied(house: House) -> None:
    link = await house.open()
    house.escalations.gate.clear()
    await link.say(*map(transition, range(4, 8)))
    house.escalations.broken = True
    house.escalations.gate.set()
    refused = await link.next()
    assert isinstance(refused, Refused)
    assert refused.code == Code.STORE_FAILED
    await link.end()
    assert house.escalations.heard == ["opened", "closed"]


async def test_a_new_session_ends_the_old_one_first(house: House) -> None:
    old = await house.open()
    house.escalations.gate.clear()
    await old.say(transition(4))
    await house.until(lambda: house.escalations.lives == 1)
    new = await house.open()
    house.escalations.gate.set()
    await old.end()
    await new.say(transition(5))
    assert await new.next() == Receipt(position=Position(run=RUN, n=5))
    assert house.escalations.heard == ["opened", "closed", "opened", 5]


async def test_many_that_come_at_once_leave_one_session(house: House) -> None:
    links = await asyncio.gather(*(house.connect() for _ in range(8)))
    await asyncio.gather(*(link.say(hello()) for link in links))
    await house.until(lambda: house.escalations.heard.count("opened") == 8)
    assert house.escalations.heard == ["opened", "closed"] * 7 + ["opened"]


async def test_an_announced_stop_is_passed_on(house: House) -> None:
    link = await house.open()
    await link.say(Stopping())
    await link.socket.close()
    await house.until(lambda: house.escalations.heard == ["opened", "closed, announced"])


async def test_a_cut_is_no_announced_stop(house: House) -> None:
    link = await house.open()
    link.socket._response.close()  # as a cut link does, without a closing frame
    await house.until(lambda: house.escalations.heard == ["opened", "closed"])


async def test_told_and_proposals_go_to_home_assistant(house: House) -> None:
    link = await house.open()
    proposal = Propose(id="cloud/1", escalation=SITE, ring=1, answer="Keep off", age=0.5, by="Anna")
    assert house.escalations.send
    house.escalations.send(proposal)
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
        assert house.escalations.heard == ["opened", "closed"]


async def test_a_silent_home_assistant_is_hung_up_on(tmp_path: Path, unused_tcp_port: int) -> None:
    async with serving(tmp_path, unused_tcp_port, Limits(silence=0.05)) as house:
        await (await house.open()).end()
        assert house.escalations.heard == ["opened", "closed"]


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
    await house.until(lambda: house.escalations.lives == 1)
    for _ in range(10_001):
        house.feed.publish(ValueChanged(sequence=0, device="leak", property="wet", value=True, age=0.0))
    await house.until(lambda: house.escalations.heard == ["opened", "closed"])


async def test_health_needs_no_token_and_says_nothing_but_that_all_is_well(house: House) -> None:
    async with house.http.get(f"{house.url}/health") as reply:
        assert (reply.status, orjson.loads(await reply.read())) == (200, {"status": "ok", "version": "0.1.0"})


@pytest.mark.parametrize("path", ["/", "/v1/pair", "/metrics", "/ws/../data"])
async def test_there_is_nothing_else_inside_the_supervisors_network(house: House, path: str) -> None:
    async with house.http.post(f"{house.url}{path}") as reply:
        assert reply.status in (404, 405)
