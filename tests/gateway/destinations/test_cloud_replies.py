"""What a cloud endpoint's replies do to a batch, from an endpoint that misbehaves behind real mutual TLS."""

import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import orjson
import pytest
from aiohttp import web

from process_cosmos_cloud.authority import Authority
from process_cosmos_gateway.contract.destinations import EventKind
from process_cosmos_gateway.contract.errors import Code
from process_cosmos_gateway.contract.pairing import OneTimeLine
from process_cosmos_gateway.destinations import cloud as cloud_module
from process_cosmos_gateway.destinations import exchange
from process_cosmos_gateway.destinations.cloud import BATCH, Cloud, Credentials, fitting
from process_cosmos_gateway.destinations.destination import Down, Refused
from process_cosmos_gateway.destinations.enrolment import enrol
from process_cosmos_gateway.errors import RequestRefusedError
from process_cosmos_gateway.outbox import Delivered, Rejected
from tests.cloud.endpoint import Site

from .parts import SITE, Behaviour, Receiver, break_off, in_turn, keep_silent, parcel, receiver, reply

PARCELS = [parcel(number) for number in range(1, 9)]


@dataclass
class Far:
    """An endpoint that misbehaves, and the destination that speaks to it."""

    server: Receiver
    destination: Cloud


def enrolled(folder: Path) -> Credentials:
    """Return what an authority in ``folder`` would give the site."""
    folder.mkdir(exist_ok=True)
    authority, site = Authority(folder), Site.new(SITE, "")
    site.certificate = authority.issue(site.request(), SITE)
    key = site.key_pem()
    return Credentials(
        key=key, certificate=site.certificate, ca=authority.pem, expires_at=datetime.now(UTC) + timedelta(days=365)
    )


def destination(url: str, credentials: Credentials, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Cloud:
    """Return the destination under test."""
    tls = credentials.tls()
    kinds = (EventKind.ESCALATION,)
    return Cloud(name="cloud", url=url, kinds=kinds, credentials=credentials, tls=tls, now=now)


@pytest.fixture
async def far(tmp_path: Path) -> AsyncIterator[Far]:
    credentials = enrolled(tmp_path / "ca")
    async with receiver(receipts("accepted"), Authority(tmp_path / "ca").server_context(["127.0.0.1"])) as server:
        cloud = destination(server.url, credentials)
        yield Far(server, cloud)
        await cloud.close()


def receipts(*statuses: str) -> Behaviour:
    """Give each event of a batch a receipt; the last status stands for the rest."""

    async def behave(_request: web.Request, body: bytes) -> web.Response:
        items = [
            {"id": event["id"], "status": statuses[min(index, len(statuses) - 1)]}
            for index, event in enumerate(orjson.loads(body))
        ]
        return web.Response(body=orjson.dumps({"items": items}))

    return behave


async def test_a_batch_is_the_stored_bytes_joined(far: Far) -> None:
    sent = await far.destination.send(PARCELS, proven=True)

    [call] = far.server.calls
    assert call.path == "/v1/events"
    assert call.headers["Content-Type"] == "application/cloudevents-batch+json"
    assert call.body == b"[" + b",\n".join(parcel.body for parcel in PARCELS) + b"]"
    assert sent.verdicts == [(parcel, Delivered()) for parcel in PARCELS]
    assert sent.trouble is None


async def test_a_batch_is_taken_in_part(far: Far) -> None:
    far.server.behave = receipts("accepted", "duplicate", "rejected")
    sent = await far.destination.send(PARCELS[:3], proven=True)
    assert [type(verdict) for _, verdict in sent.verdicts] == [Delivered, Delivered, Rejected]


@pytest.mark.parametrize("status", [400, 413, 415, 422])
async def test_a_poison_event_is_found_by_ever_smaller_batches_and_rejected_alone(far: Far, status: int) -> None:
    poison = PARCELS[5]

    async def behave(request: web.Request, body: bytes) -> web.StreamResponse:
        return await (reply(status) if poison.id.encode() in body else receipts("accepted"))(request, body)

    far.server.behave = behave
    waiting, verdicts = list(PARCELS), {}
    for _ in range(30):
        sent = await far.destination.send(waiting[: far.destination.batch], proven=True)
        verdicts.update({parcel.id: verdict for parcel, verdict in sent.verdicts})
        waiting = [parcel for parcel in PARCELS if parcel.id not in verdicts]
        if not waiting:
            break

    assert [identifier for identifier, verdict in verdicts.items() if isinstance(verdict, Rejected)] == [poison.id]
    assert len(verdicts) == len(PARCELS)


async def test_a_single_409_is_a_delivery(far: Far) -> None:
    far.server.behave = reply(409)
    sent = await far.destination.send(PARCELS[:1], proven=True)
    assert sent.verdicts == [(PARCELS[0], Delivered())]


@pytest.mark.parametrize(
    "behave",
    [
        reply(200, b'{"items": [{"id":'),
        reply(200, b'{"items": []}'),
        reply(200, b"[]"),
        reply(200, b'{"items": [{"id": "x", "status": "accepted"}]}'),
        reply(204),
    ],
)
async def test_a_reply_that_does_not_name_each_event_confirms_nothing(far: Far, behave: Behaviour) -> None:
    far.server.behave = behave
    sent = await far.destination.send(PARCELS[:1], proven=True)
    assert (sent.verdicts, sent.trouble) == ((), Down(reason="malformed_reply"))
    polled = await far.destination.poll(0)
    assert polled.trouble in (Down(reason="malformed_reply"), None)


@pytest.mark.parametrize(
    ("behave", "trouble"),
    [
        (reply(200, b"<html>"), Refused(reason="html_page")),
        (reply(401), Refused(reason="http_401")),
        (reply(503, Retry_After="3"), Down(reason="http_503", retry_after=3.0)),
        (
            reply(503, Retry_After="Sun, 22 Nov 2026 10:01:00 GMT", Date="Sun, 22 Nov 2026 10:00:00 GMT"),
            Down(reason="http_503", retry_after=60.0),
        ),
        (reply(503, Retry_After="soon"), Down(reason="http_503")),
        (break_off, Down(reason="connection_lost")),
    ],
)
async def test_trouble_is_the_links_for_events_and_inbox_alike(
    far: Far, behave: Behaviour, trouble: Down | Refused
) -> None:
    far.server.behave = behave
    assert (await far.destination.send(PARCELS, proven=True)).trouble == trouble
    assert (await far.destination.poll(0)).trouble == trouble


async def test_a_batch_that_takes_too_long_is_halved_and_grows_again(far: Far, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "SILENCE_SECONDS", 0.2)
    far.server.behave = in_turn(keep_silent, receipts("accepted"))
    assert (await far.destination.send(PARCELS, proven=True)).trouble == Down(reason="timeout")
    assert far.destination.batch == 4
    await far.destination.send(PARCELS[:4], proven=True)
    assert far.destination.batch == 8
    for _ in range(9):
        await far.destination.send(PARCELS[:4], proven=True)
    assert far.destination.batch == BATCH


async def test_a_certificate_the_endpoint_does_not_know_gets_nothing_through(far: Far, tmp_path: Path) -> None:
    stranger = enrolled(tmp_path / "elsewhere")
    ours = enrolled(tmp_path / "ca")
    mixed = Credentials(key=stranger.key, certificate=stranger.certificate, ca=ours.ca, expires_at=ours.expires_at)
    cloud = destination(far.server.url, mixed)
    sent = await cloud.send(PARCELS, proven=True)
    await cloud.close()
    assert sent.trouble is not None
    assert far.server.calls == []


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

    assert exchange.trouble_of(error) == Refused(reason=reason)


async def test_an_endpoint_with_another_ca_gets_nothing(far: Far, tmp_path: Path) -> None:
    cloud = destination(far.server.url, enrolled(tmp_path / "elsewhere"))
    assert (await cloud.send(PARCELS, proven=True)).trouble == Refused(reason="certificate")
    await cloud.close()


async def test_an_expired_certificate_is_refused_before_anything_is_sent(far: Far, tmp_path: Path) -> None:
    credentials = enrolled(tmp_path / "ca")
    cloud = destination(far.server.url, credentials, now=lambda: credentials.expires_at)
    assert (await cloud.send(PARCELS, proven=True)).trouble == Refused(reason="certificate_expired")
    assert (await cloud.poll(0)).trouble == Refused(reason="certificate_expired")
    await cloud.close()
    assert far.server.calls == []


def test_a_body_stays_bearable_and_one_long_event_goes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cloud_module, "LONGEST_BODY", 3 * (len(PARCELS[0].body) + 2) + 1)
    assert fitting(PARCELS) == PARCELS[:3]
    monkeypatch.setattr(cloud_module, "LONGEST_BODY", 10)
    assert fitting(PARCELS) == PARCELS[:1]


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
async def test_an_enrolment_that_is_not_answered_properly_is_refused(
    far: Far, tmp_path: Path, behave: Behaviour, code: Code
) -> None:
    far.server.behave = behave
    line = OneTimeLine(url=far.server.url, secret="s" * 20, sha256=Authority(tmp_path / "ca").sha256)
    with pytest.raises(RequestRefusedError) as caught:
        await enrol(line, SITE)
    assert caught.value.code is code
    assert str(caught.value).isprintable()


async def test_a_certificate_for_another_key_is_refused(far: Far, tmp_path: Path) -> None:
    other = enrolled(tmp_path / "ca")
    far.server.behave = reply(200, orjson.dumps({"certificate": other.certificate, "ca": other.ca}))
    line = OneTimeLine(url=far.server.url, secret="s" * 20, sha256=Authority(tmp_path / "ca").sha256)
    with pytest.raises(RequestRefusedError, match="another key"):
        await enrol(line, SITE)
