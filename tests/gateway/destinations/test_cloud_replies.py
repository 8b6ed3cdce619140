"""The effect of replies of a misbehaving cloud endpoint on a batch, over real mutual TLS."""

import asyncio
import hashlib
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import orjson
import pytest
from aiohttp import web

from process_cosmos_cloud.authority import Authority
from process_cosmos_gateway.contract.destinations import EventKind
from process_cosmos_gateway.contract.errors import Code
from process_cosmos_gateway.contract.identifiers import Ulid
from process_cosmos_gateway.contract.pairing import OneTimeLine
from process_cosmos_gateway.destinations import cloud as cloud_module
from process_cosmos_gateway.destinations import http_request
from process_cosmos_gateway.destinations.cloud import BATCH, Cloud, limit_body
from process_cosmos_gateway.destinations.destination import Down, Refused, Sent
from process_cosmos_gateway.destinations.enrolment import enrol
from process_cosmos_gateway.destinations.settings import CloudSettings, Credentials
from process_cosmos_gateway.errors import RequestRefusedError
from process_cosmos_gateway.outbox import Delivered, Failed, Rejected
from tests.cloud.endpoint import Site

from .parts import SITE, Behaviour, Receiver, alert_id, break_off, delivery, keep_silent, receiver, reply

EPOCH = Ulid("01K8J5Z0000000000000000009")
TOKEN = "1-0123456789abcdef"
MALFORMED = Down(reason="malformed_reply")
DELIVERIES = [delivery(number) for number in range(1, 9)]


@dataclass
class FakeEndpoint:
    """A misbehaving endpoint, and the destination that sends to it."""

    server: Receiver
    destination: Cloud


def enrolled(folder: Path) -> Credentials:
    """Return the credentials issued to the site by an authority in ``folder``."""
    folder.mkdir(exist_ok=True)
    authority, site = Authority(folder), Site.new(SITE, "")
    site.certificate = authority.issue(site.request(), SITE).certificate
    now = datetime.now(UTC)
    return Credentials(
        key=site.key_pem(),
        certificate=site.certificate,
        ca=authority.pem,
        renew_at=now + timedelta(days=182),
        expires_at=now + timedelta(days=365),
    )


def destination(url: str, credentials: Credentials, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Cloud:
    """Return the destination under test."""
    settings = CloudSettings(name="cloud", url=url, kinds=(EventKind.ALERT,), credentials=credentials)
    return Cloud(settings, tls=credentials.tls(), epoch=EPOCH, now=now)


@pytest.fixture
async def endpoint(tmp_path: Path) -> AsyncIterator[FakeEndpoint]:
    credentials = enrolled(tmp_path / "ca")
    async with receiver(receipt(), Authority(tmp_path / "ca").server_context(["127.0.0.1"])) as server:
        cloud = destination(server.url, credentials)
        yield FakeEndpoint(server, cloud)
        await cloud.close()


def receipt(**members: object) -> Behaviour:
    """Accept every batch with a receipt changed by ``members``; report good health."""

    async def behave(request: web.Request, body: bytes) -> web.Response:
        if request.path == "/health":
            return web.Response(body=b'{"status": "ok"}')
        receipt = {"batch": hashlib.sha256(body).hexdigest(), "token": TOKEN}
        return web.Response(body=orjson.dumps({**receipt, **members}))

    return behave


async def test_a_batch_is_the_stored_bytes_joined(endpoint: FakeEndpoint) -> None:
    sent = await endpoint.destination.send(DELIVERIES, proven=True, token=None)

    [call] = endpoint.server.calls
    assert call.path == "/v1/events"
    assert call.headers["Content-Type"] == "application/cloudevents-batch+json"
    assert call.body == b"[" + b",\n".join(delivery.body for delivery in DELIVERIES) + b"]"
    assert sent.results == [(delivery, Delivered()) for delivery in DELIVERIES]
    assert sent.trouble is None


async def test_the_token_of_a_reply_is_returned_and_presented_with_the_epoch(endpoint: FakeEndpoint) -> None:
    sent = await endpoint.destination.send(DELIVERIES[:1], proven=True, token=None)
    assert sent.token == TOKEN
    await endpoint.destination.send(DELIVERIES[1:2], proven=True, token=sent.token)

    first, second = (call.headers for call in endpoint.server.calls)
    assert (first.get("Process-Cosmos-Token"), second["Process-Cosmos-Token"]) == (None, TOKEN)
    assert first["Process-Cosmos-Epoch"] == second["Process-Cosmos-Epoch"] == EPOCH


async def test_a_batch_is_accepted_in_part(endpoint: FakeEndpoint) -> None:
    problem = {"code": "malformed", "message": "$.data: is missing"}
    endpoint.server.behave = receipt(duplicates=[1], rejected=[{"index": 2, "problem": problem}])
    sent = await endpoint.destination.send(DELIVERIES[:3], proven=True, token=None)
    assert [result for _, result in sent.results] == [
        Delivered(),
        Delivered(),
        Rejected("malformed", "$.data: is missing", '{"code":"malformed","message":"$.data: is missing"}'),
    ]


@pytest.mark.parametrize("index", [-1, 3])
async def test_a_receipt_that_rejects_what_was_not_sent_confirms_nothing(endpoint: FakeEndpoint, index: int) -> None:
    rejected = [{"index": index, "problem": {"code": "malformed", "message": ""}}]
    await assert_held_back(endpoint, receipt(rejected=rejected), "$.rejected: must name events of the batch, each once")


async def test_an_event_the_endpoint_fails_at_is_found_and_may_become_poison(endpoint: FakeEndpoint) -> None:
    poison = DELIVERIES[1]

    async def behave(request: web.Request, body: bytes) -> web.StreamResponse:
        return web.Response(status=500) if poison.body in body else await receipt()(request, body)

    endpoint.server.behave = behave
    left, failed = list(DELIVERIES), []
    async with asyncio.timeout(20):
        while left:
            sent = await endpoint.destination.send(left[: endpoint.destination.batch], proven=True, token=None)
            failed += [delivery for delivery, result in sent.results if result == Failed("http_500")]
            left = [delivery for delivery in left if delivery not in [settled for settled, _ in sent.results]]
    assert failed == [poison]


async def test_an_invalid_inbox_item_is_skipped(endpoint: FakeEndpoint, caplog: pytest.LogCaptureFixture) -> None:
    good = {"id": "b", "cursor": 2, "alert": alert_id(1), "by": "Eve", "age": 1.0, "answer": "keep_off"}
    items = [{**good, "cursor": 1, "alert": "e-17"}, good, {"cursor": 3}]
    endpoint.server.behave = reply(200, orjson.dumps({"items": items}))
    polled = await endpoint.destination.poll(0)
    assert ([item.id for item in polled.items], polled.cursor, polled.trouble) == (["b"], 3, None)
    assert "an inbox item cannot be used and was skipped" in caplog.text


async def assert_held_back(endpoint: FakeEndpoint, behave: Behaviour, detail: str) -> None:
    """Assert that a reply of a healthy endpoint confirms nothing, and counts against one event alone."""
    endpoint.server.behave = behave
    sent = await endpoint.destination.send(DELIVERIES[:3], proven=True, token=None)
    assert sent == Sent()
    sent = await endpoint.destination.send(DELIVERIES[:1], proven=True, token=None)
    assert sent == Sent(results=[(DELIVERIES[0], Failed("malformed_reply", detail))])


async def test_a_receipt_of_another_batch_confirms_nothing(endpoint: FakeEndpoint) -> None:
    another = receipt(batch=hashlib.sha256(b"another").hexdigest())
    await assert_held_back(endpoint, another, "$.batch: must be the SHA-256 of the batch")


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (409, "identity_conflict"),
        (403, "certificate_revoked"),
        (403, "certificate_expired"),
        (403, "certificate_superseded"),
    ],
)
@pytest.mark.parametrize("single", [True, False])
async def test_a_refusal_of_the_site_is_the_links_and_confirms_nothing(
    endpoint: FakeEndpoint,
    status: int,
    code: str,
    single: bool,  # noqa: FBT001 - a case
    caplog: pytest.LogCaptureFixture,
) -> None:
    endpoint.server.behave = reply(status, orjson.dumps({"code": code, "detail": "Two gateways speak as one."}))
    sent = await endpoint.destination.send(DELIVERIES[: 1 if single else 3], proven=True, token=None)
    assert (sent.results, sent.trouble) == ((), Refused(reason=code))
    assert (await endpoint.destination.poll(0)).trouble == Refused(reason=code)
    assert "Two gateways speak as one." in caplog.text


@pytest.mark.parametrize("status", [400, 413, 415, 422])
async def test_an_unacceptable_event_is_found_and_rejected_alone(endpoint: FakeEndpoint, status: int) -> None:
    poison = DELIVERIES[5]

    async def behave(request: web.Request, body: bytes) -> web.StreamResponse:
        return await (reply(status) if poison.id.encode() in body else receipt())(request, body)

    endpoint.server.behave = behave
    waiting, results = list(DELIVERIES), {}
    for _ in range(30):
        sent = await endpoint.destination.send(waiting[: endpoint.destination.batch], proven=True, token=None)
        results.update({delivery.id: result for delivery, result in sent.results})
        waiting = [delivery for delivery in DELIVERIES if delivery.id not in results]
        if not waiting:
            break

    assert [identifier for identifier, result in results.items() if isinstance(result, Rejected)] == [poison.id]
    assert len(results) == len(DELIVERIES)


async def test_a_single_409_is_a_delivery(endpoint: FakeEndpoint) -> None:
    endpoint.server.behave = reply(409)
    sent = await endpoint.destination.send(DELIVERIES[:1], proven=True, token=None)
    assert sent.results == [(DELIVERIES[0], Delivered())]


@pytest.mark.parametrize(
    "behave",
    [
        reply(200, b'{"batch": "'),
        reply(200, b'{"items": []}'),
        reply(200, b"[]"),
        reply(200, b'{"batch": "", "token": "1-0123456789abcdef"}'),
        reply(204),
    ],
)
async def test_an_invalid_receipt_confirms_nothing(endpoint: FakeEndpoint, behave: Behaviour) -> None:
    endpoint.server.behave = behave
    sent = await endpoint.destination.send(DELIVERIES[:1], proven=True, token=None)
    assert sent.results == ()
    assert sent.trouble is not None
    assert replace(sent.trouble, detail=None) == MALFORMED
    polled = await endpoint.destination.poll(0)
    assert polled.trouble is None or replace(polled.trouble, detail=None) == MALFORMED


@pytest.mark.parametrize(
    ("behave", "trouble"),
    [
        (reply(200, b"<p>"), Refused(reason="not_a_receiver", event_suspected=True, detail="<p>")),
        (reply(401), Refused(reason="http_401", event_suspected=True)),
        (reply(503, Retry_After="3"), Down(reason="http_503", retry_after=3.0)),
        (
            reply(503, Retry_After="Sun, 22 Nov 2026 10:01:00 GMT", Date="Sun, 22 Nov 2026 10:00:00 GMT"),
            Down(reason="http_503", retry_after=60.0),
        ),
        (reply(503, Retry_After="soon"), Down(reason="http_503", event_suspected=True)),
        (break_off, Down(reason="connection_lost", event_suspected=True)),
    ],
)
async def test_a_failure_is_attributed_to_the_link_for_events_and_inbox(
    endpoint: FakeEndpoint, behave: Behaviour, trouble: Down | Refused
) -> None:
    endpoint.server.behave = behave
    sent = (await endpoint.destination.send(DELIVERIES, proven=True, token=None)).trouble
    assert sent is not None
    assert replace(sent, event_suspected=trouble.event_suspected) == trouble
    assert (await endpoint.destination.poll(0)).trouble == trouble


@pytest.mark.parametrize(
    "failure", [keep_silent, break_off, reply(500), reply(200, b" " * (http_request.MAX_REPLY + 1))]
)
async def test_of_a_batch_that_fails_while_the_endpoint_is_well_one_event_alone_is_held_back(
    endpoint: FakeEndpoint, failure: Behaviour, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_request, "SILENCE_SECONDS", 0.2)
    bad = DELIVERIES[5]

    async def behave(request: web.Request, body: bytes) -> web.StreamResponse:
        return await (failure if bad.body in body else receipt())(request, body)

    endpoint.server.behave = behave
    left, failed = list(DELIVERIES), []
    for _ in range(len(DELIVERIES) + 1):
        sent = await endpoint.destination.send(left, proven=True, token=None)
        assert sent.trouble is None, "the link is well, so nothing waits"
        failed += [delivery for delivery, result in sent.results if isinstance(result, Failed)]
        settled = {delivery.id for delivery, _ in sent.results}
        left = [delivery for delivery in left if delivery.id not in settled]
    assert (failed, left) == ([bad], [])


async def test_a_batch_that_fails_like_everything_else_is_the_links_and_stays_as_long(
    endpoint: FakeEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_request, "SILENCE_SECONDS", 0.2)
    endpoint.server.behave = keep_silent
    for deliveries in (DELIVERIES, DELIVERIES[:1]):
        sent = await endpoint.destination.send(deliveries, proven=True, token=None)
        assert (sent.results, sent.trouble) == ((), Down(reason="timeout"))
    assert endpoint.destination.batch == BATCH


async def test_a_healthy_endpoint_that_accepts_no_event_is_down(endpoint: FakeEndpoint) -> None:
    async def behave(request: web.Request, body: bytes) -> web.StreamResponse:
        return await (receipt() if request.path == "/health" else break_off)(request, body)

    endpoint.server.behave = behave
    first = await endpoint.destination.send(DELIVERIES[:1], proven=True, token=None)
    second = await endpoint.destination.send(DELIVERIES[1:2], proven=True, token=None)
    assert (first.trouble, second.trouble) == (None, Down(reason="connection_lost", event_suspected=True))


async def test_an_unknown_certificate_gets_nothing_through(endpoint: FakeEndpoint, tmp_path: Path) -> None:
    other = enrolled(tmp_path / "elsewhere")
    ours = enrolled(tmp_path / "ca")
    mixed = replace(other, ca=ours.ca)
    cloud = destination(endpoint.server.url, mixed)
    sent = await cloud.send(DELIVERIES, proven=True, token=None)
    await cloud.close()
    assert sent.trouble is not None
    assert endpoint.server.calls == []


@pytest.mark.parametrize(("expired", "reason"), [(False, "certificate_refused"), (True, "certificate_expired")])
def test_an_alert_about_our_certificate_needs_a_person(expired: bool, reason: str, tmp_path: Path) -> None:  # noqa: FBT001
    alert = b"\x2d" if expired else b"\x30"  # certificate_expired, unknown_ca (RFC 8446, 6.2)
    incoming = ssl.MemoryBIO()
    client = enrolled(tmp_path / "ca").tls().wrap_bio(incoming, ssl.MemoryBIO(), server_hostname="127.0.0.1")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    incoming.write(b"\x15\x03\x03\x00\x02\x02" + alert)
    with pytest.raises(ssl.SSLError) as caught:
        client.do_handshake()
    error = aiohttp.ClientOSError()
    error.__cause__ = caught.value

    assert http_request.trouble_from_error(error) == Refused(reason=reason)


async def test_an_endpoint_with_another_ca_gets_nothing(endpoint: FakeEndpoint, tmp_path: Path) -> None:
    cloud = destination(endpoint.server.url, enrolled(tmp_path / "elsewhere"))
    assert (await cloud.send(DELIVERIES, proven=True, token=None)).trouble == Refused(reason="certificate")
    await cloud.close()


async def test_an_expired_certificate_is_refused_before_any_request(endpoint: FakeEndpoint, tmp_path: Path) -> None:
    credentials = enrolled(tmp_path / "ca")
    cloud = destination(endpoint.server.url, credentials, now=lambda: credentials.expires_at)
    assert (await cloud.send(DELIVERIES, proven=True, token=None)).trouble == Refused(reason="certificate_expired")
    assert (await cloud.poll(0)).trouble == Refused(reason="certificate_expired")
    await cloud.close()
    assert endpoint.server.calls == []


def test_a_body_is_limited_and_a_long_event_is_sent_alone() -> None:
    assert limit_body(DELIVERIES, 3 * (len(DELIVERIES[0].body) + 2) + 1) == DELIVERIES[:3]
    assert limit_body(DELIVERIES, 10) == DELIVERIES[:1]


async def test_batches_are_short_on_a_slow_or_refused_link_and_grow_afterwards(
    endpoint: FakeEndpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = sum(len(delivery.body) + 2 for delivery in DELIVERIES) + 32
    for name, value in {"LONGEST_BODY": whole, "SHORTEST_BODY": whole // 4, "SLOW_SECONDS": 0.0}.items():
        monkeypatch.setattr(cloud_module, name, value)
    cloud = destination(endpoint.server.url, enrolled(tmp_path / "ca"))
    for _ in range(4):
        await cloud.send(DELIVERIES, proven=True, token=None)
    monkeypatch.setattr(cloud_module, "SLOW_SECONDS", 60.0)
    for _ in range(3):
        await cloud.send(DELIVERIES, proven=True, token=None)
    endpoint.server.behave = reply(404)
    for _ in range(2):
        await cloud.send(DELIVERIES, proven=True, token=None)
    await cloud.close()
    assert [len(orjson.loads(call.body)) for call in endpoint.server.calls] == [8, 4, 2, 2, 2, 4, 8, 8, 2]


@pytest.mark.parametrize(
    ("behave", "code"),
    [
        (reply(503), Code.DESTINATION_AWAY),
        (reply(403, b"<html>"), Code.ENROLMENT_REFUSED),
        (reply(403, b'{"detail": "No\\u0007."}'), Code.ENROLMENT_REFUSED),
        (reply(200, b"<html>"), Code.ENROLMENT_REFUSED),
        (reply(200, b'{"certificate": "x", "ca": "y"}'), Code.ENROLMENT_REFUSED),
        (break_off, Code.DESTINATION_AWAY),
    ],
)
async def test_an_enrolment_with_an_invalid_reply_is_refused(
    endpoint: FakeEndpoint, tmp_path: Path, behave: Behaviour, code: Code
) -> None:
    endpoint.server.behave = behave
    line = OneTimeLine(url=endpoint.server.url, secret="s" * 20, sha256=Authority(tmp_path / "ca").sha256)
    with pytest.raises(RequestRefusedError) as caught:
        await enrol(line, SITE)
    assert caught.value.code is code
    assert str(caught.value).isprintable()


async def test_a_certificate_for_another_key_is_refused(endpoint: FakeEndpoint, tmp_path: Path) -> None:
    other = enrolled(tmp_path / "ca")
    endpoint.server.behave = reply(200, orjson.dumps({"certificate": other.certificate, "ca": other.ca}))
    line = OneTimeLine(url=endpoint.server.url, secret="s" * 20, sha256=Authority(tmp_path / "ca").sha256)
    with pytest.raises(RequestRefusedError, match="another key"):
        await enrol(line, SITE)
