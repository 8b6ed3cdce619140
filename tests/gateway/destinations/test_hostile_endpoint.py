"""An endpoint with arbitrary replies: nothing is lost, order and pace are kept, stored data stays valid."""

import asyncio
import hashlib
import os
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import orjson
import pytest
from aiohttp import web
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from process_cosmos_cloud.authority import Authority
from process_cosmos_gateway.contract.destinations import EventKind, SetCloud
from process_cosmos_gateway.contract.identifiers import UlidFactory
from process_cosmos_gateway.contract.pairing import OneTimeLine
from process_cosmos_gateway.destinations import Destinations
from process_cosmos_gateway.destinations.batch_receipts import is_token
from process_cosmos_gateway.destinations.inbox import is_cursor
from process_cosmos_gateway.destinations.settings import Credentials, load_all
from process_cosmos_gateway.outbox import Outbox
from process_cosmos_gateway.store import Store
from process_cosmos_testbed.shiftable_clock import ShiftableClock, SkippingLoop

from .parts import FakeAlerts, Receiver, alert_id, event, event_id, receiver
from .test_cloud_replies import enrolled

EVENTS = 9
KEYS = 3
SECONDS = 60.0
STEP = 30.0
MOST_POLLS = 75
"""Most polls in ``SECONDS``: one a second, plus the credit of the pace."""

MOST_REQUESTS = 150
"""Most requests in ``SECONDS``: enough to find each of ``EVENTS`` that fails alone, and to repeat it a few times."""

type Answer = Callable[[web.Request, bytes], web.Response | bytes]


def raw(text: bytes) -> Answer:
    """Write these bytes and close the connection."""
    return lambda _request, _body: text


def status(code: int, body: bytes = b"", **headers: str) -> Answer:
    """Reply with an HTTP status."""
    return lambda _request, _body: web.Response(
        status=code, body=body, headers={name.replace("_", "-"): value for name, value in headers.items()}
    )


def receipt(**members: object) -> Answer:
    """Reply with a valid receipt changed by ``members``."""

    def answer(_request: web.Request, body: bytes) -> web.Response:
        taken = {"batch": hashlib.sha256(body).hexdigest(), "token": "1-0123456789abcdef"}
        return web.Response(body=orjson.dumps({**taken, **members}))

    return answer


def page(*cursors: object, size: int = 0) -> Answer:
    """Reply with inbox items at these cursors; text cursors are relative to the requested one."""

    def answer(request: web.Request, _body: bytes) -> web.Response:
        after = int(request.query.get("after", 0))
        places = [after + int(cursor) if isinstance(cursor, str) else cursor for cursor in cursors]
        items = [
            {"id": f"i{place}"[:99], "cursor": place, "alert": alert_id(1), "by": "Eve" * size, "age": 1.0}
            for place in places
        ]
        return web.Response(body=orjson.dumps({"items": items}))

    return answer


PROBLEM = {"code": "malformed", "message": "no"}
HEAD = b"HTTP/1.1 200 OK\r\n"
ANSWERS: Mapping[str, Answer] = {
    "header of 9 kB": raw(HEAD + b"X: " + b"x" * 9000 + b"\r\nContent-Length: 0\r\n\r\n"),
    "header twice": raw(HEAD + b"Content-Length: 0\r\nContent-Length: 2\r\n\r\n{}"),
    "many headers": raw(HEAD + b"X: x\r\n" * 2000 + b"Content-Length: 0\r\n\r\n"),
    "http 0.9": raw(b"hello\r\n"),
    "interim for ever": raw(b"HTTP/1.1 100 Continue\r\n\r\n" * 2000),
    "switching": raw(b"HTTP/1.1 101 X\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
    "status 999": raw(b"HTTP/1.1 999 X\r\nContent-Length: 0\r\n\r\n"),
    "chunked rubbish": raw(HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"),
    "no gzip": status(200, b"x", Content_Encoding="gzip"),
    "half a reply": raw(HEAD + b"Content-Length: 100\r\n\r\n{"),
    "nothing": raw(b""),
    "redirect": status(302, Location="/elsewhere"),
    "page": status(200, b"<script>login()</script>"),
    "empty object": status(200, b"{}"),
    "array": status(200, b"[]"),
    "deep": status(200, b"[" * 500 + b"]" * 500),
    "a million zeros": status(200, b'{"items": [' + b"0," * 400_000 + b"0]}"),
    "not now": status(429, Retry_After="99999999999999999999"),
    "not now, negative": status(503, Retry_After="-5"),
    "not now, a date": status(503, Retry_After="Sun, 22 Nov 9999 10:01:00 GMT", Date="Sun, 22 Nov 0001 10:00:00 GMT"),
    "failed": status(500),
    "too large": status(413),
    "malformed": status(422),
    "unauthorized": status(401),
    "revoked": status(403, b'{"code": "certificate_revoked", "detail": "no"}'),
    "token of 65 kB": receipt(token="x" * 65_000),
    "token of two lines": receipt(token="1\r\nX: y"),
    "token of another alphabet": receipt(token="é"),
    "another batch": receipt(batch="0" * 64),
    "rejected before": receipt(rejected=[{"index": -1, "problem": PROBLEM}]),
    "rejected beyond": receipt(rejected=[{"index": 1000, "problem": PROBLEM}]),
    "rejected twice": receipt(rejected=[{"index": 0, "problem": PROBLEM}] * 2),
    "rejected": receipt(rejected=[{"index": 0, "problem": {"code": "\r\n" * 99, "message": "\x00" * 60_000}}]),
    "duplicates beyond": receipt(duplicates=list(range(1000))),
    "cursor at the end": page((1 << 63) - 1),
    "cursor beyond": page(1 << 64),
    "cursor that stays": page("0"),
    "cursor that falls": page("2", "1"),
    "cursor below": page(-1),
    "never empty": page("1"),
    "full": page(*(str(number) for number in range(1, 300))),
    "no item": page("1", size=1000),
}


@dataclass
class Endpoint:
    """Replies from a script, then correctly. ``settled``: events it accepted, or claimed to have."""

    scripts: Mapping[str, list[str]]
    seen: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    settled: set[str] = field(default_factory=set)
    requests: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    async def behave(self, request: web.Request, body: bytes) -> web.StreamResponse:
        """Reply to a single request."""
        kind = request.path.rpartition("/")[2]
        self.requests[kind].append(asyncio.get_running_loop().time())
        events = orjson.loads(body) if kind == "events" else []
        for each in events:
            if each["id"] not in self.seen[each["subject"]]:
                self.seen[each["subject"]].append(each["id"])
        script = self.scripts[kind]
        if not script:
            self.settled |= {each["id"] for each in events}
            return await proper(kind, request, body)
        name = script.pop(0)
        answer = ANSWERS[name](request, body)
        if name == "rejected":
            self.settled |= {each["id"] for each in events[1:]}
        if isinstance(answer, web.Response):
            return answer
        assert request.transport is not None
        request.transport.write(answer)
        request.transport.close()
        return web.Response()


async def proper(kind: str, request: web.Request, body: bytes) -> web.Response:
    """Reply like a correct endpoint, which delays an empty inbox page."""
    if kind == "inbox":
        await asyncio.sleep(25)
    if kind == "health":
        return web.Response(body=b'{"status": "ok"}')
    reply = (receipt() if kind == "events" else page())(request, body)
    assert isinstance(reply, web.Response)
    return reply


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the endpoint's authority."""
    folder = tmp_path_factory.mktemp("authority") / "ca"
    enrolled(folder)
    return folder


_SCRIPT = st.lists(st.sampled_from(sorted(ANSWERS)), max_size=8)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.fixed_dictionaries({"events": _SCRIPT, "inbox": _SCRIPT, "health": _SCRIPT}))
@example({"events": ["token of 65 kB"] * 3, "inbox": ["cursor at the end"] * 3, "health": []})
@example({"events": ["header of 9 kB"] * 8, "inbox": ["never empty"] * 60, "health": []})
@example({"events": ["switching", "status 999"], "inbox": ["a million zeros"] * 2, "health": ["page"]})
def test_no_reply_of_an_endpoint_causes_losses_or_invalid_stored_data(
    authority: Path, scripts: dict[str, list[str]]
) -> None:
    with TemporaryDirectory() as folder, asyncio.Runner(loop_factory=SkippingLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, SkippingLoop)
        endpoint = Endpoint({kind: list(script) for kind, script in scripts.items()})
        runner.run(play(Path(folder), authority, endpoint, loop))


async def play(folder: Path, authority: Path, endpoint: Endpoint, loop: SkippingLoop) -> None:
    """Send all events of a gateway to the endpoint, then compare what both have."""
    store = await opened(folder)
    outbox, clock = Outbox(store, ShiftableClock(loop)), ShiftableClock(loop)
    credentials = enrolled(authority)

    async def enrol(_line: object, _site: object) -> Credentials:
        return credentials

    alerts = FakeAlerts()
    destinations = Destinations(store, outbox, alerts, clock, jitter_fn=lambda: 0.0, enrol_fn=enrol)  # type: ignore[arg-type]
    running = asyncio.create_task(destinations.run())
    async with receiver(endpoint.behave, Authority(authority).server_context(["127.0.0.1"])) as server:
        code = str(OneTimeLine(url=server.url, secret="s" * 20, sha256="0" * 64))
        await destinations.set_cloud(SetCloud(id="1", name="cloud", code=code, kinds=(EventKind.ALERT,)))
        for number in range(1, EVENTS + 1):
            await outbox.accept(event(number, alert=1 + number % KEYS))
        async with asyncio.timeout(100_000):
            while (await outbox.depths()).waiting.urgent or endpoint.scripts["inbox"]:
                await leave_out_waits(server, loop)
        running.cancel()
        await asyncio.wait({running})
    rejected = {each.event for each in await outbox.rejected(0)}
    await store.close()

    assert endpoint.settled | rejected == {event_id(number) for number in range(1, EVENTS + 1)}
    for seen in endpoint.seen.values():
        assert seen == sorted(seen)
    assert most_in(SECONDS, endpoint.requests["inbox"]) <= MOST_POLLS
    assert most_in(SECONDS, endpoint.requests["events"]) <= MOST_REQUESTS
    store = await opened(folder)
    [(token, cursor)] = await store.read(
        lambda transaction: transaction.rows(
            "SELECT token, inbox_cursor FROM destination LEFT JOIN destination_token USING (name)"
        )
    )
    assert len(await store.read(load_all)) == 1
    await store.close()
    assert token is None or is_token(token)
    assert is_cursor(cursor)


async def leave_out_waits(server: Receiver, loop: SkippingLoop) -> None:
    """Run gateway and endpoint; skip time while neither communicates."""
    before = len(server.calls)
    await asyncio.sleep(0.01)
    if len(server.calls) == before:
        loop.skip(STEP)


async def opened(folder: Path) -> Store:
    """Open the store of the gateway."""
    return await Store.open(folder, UlidFactory(lambda: time.time_ns() // 1_000_000, os.urandom))


def most_in(seconds: float, moments: Sequence[float]) -> int:
    """Return the greatest number of moments in any span of so many seconds."""
    return max((sum(begin <= moment < begin + seconds for moment in moments) for begin in moments), default=0)
