"""Every field of a receiver's reply is checked before use or storage, and invalid stored data is recovered."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web

from process_cosmos_cloud.authority import Authority
from process_cosmos_gateway.contract.cloud import InboxItem
from process_cosmos_gateway.contract.destinations import EventKind, LinkState
from process_cosmos_gateway.contract.errors import Code, ContractError
from process_cosmos_gateway.contract.pairing import OneTimeLine
from process_cosmos_gateway.destinations import backoff
from process_cosmos_gateway.destinations.batch_receipts import is_token, parse_receipt
from process_cosmos_gateway.destinations.destination import MALFORMED_REPLY, Down, Trouble
from process_cosmos_gateway.destinations.enrolment import enrol, renew
from process_cosmos_gateway.destinations.http_request import LONGEST_WAIT, Reply, open_session, send_request
from process_cosmos_gateway.destinations.inbox import (
    LARGEST_CURSOR,
    MOST_ITEMS,
    PollPace,
    check_item,
    parse_inbox_page,
)
from process_cosmos_gateway.destinations.settings import CloudSettings, StoredDestination, load_one, save
from process_cosmos_gateway.errors import RequestRefusedError
from process_cosmos_gateway.outbox import Rejected
from tests.support.waiting import until

from .conftest import Site
from .parts import SITE, Receiver, alert_id, event_id, receiver, reply
from .test_cloud_replies import TOKEN, enrolled
from .test_hostile_endpoint import ANSWERS

UNREADABLE = replace(MALFORMED_REPLY, event_suspected=True)
LOST = Down(reason="connection_lost", event_suspected=True)
BATCH = b'[{"id":"a"},{"id":"b"}]'


@pytest.fixture
async def wire() -> AsyncIterator[list[bytes]]:
    """Send the first element of the list as the reply to each connection; the last element is the port."""
    answer: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer[0])
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    answer[:] = [b"", b"%d" % server.sockets[0].getsockname()[1]]
    yield answer
    server.close()


async def asked(wire: list[bytes], answer: bytes) -> Reply | Trouble:
    """Return the outcome of a request that gets this reply."""
    wire[0] = answer
    async with open_session() as session:
        return await send_request(session, "GET", f"http://127.0.0.1:{wire[-1].decode()}/")


@pytest.mark.parametrize(
    ("answer", "trouble"),
    [
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 9_000 + b"\r\nContent-Length: 0\r\n\r\n", UNREADABLE),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Length: 1\r\n\r\n", UNREADABLE),
        (b"HTTP/1.1 200 OK\r\n" + b"X: x\r\n" * 2_000 + b"Content-Length: 0\r\n\r\n", UNREADABLE),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", UNREADABLE),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", UNREADABLE),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc", UNREADABLE),
        (b"HTTP/1.1 101 X\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", UNREADABLE),
        (b"HTTP/1.1 099 X\r\n\r\n", UNREADABLE),
        (b"HTTP/1.1 999 X\r\nContent-Length: 0\r\n\r\n", UNREADABLE),
        (b"hello\r\n", UNREADABLE),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx", LOST),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 20_000, LOST),
        (b"", LOST),
    ],
)
async def test_an_unreadable_reply_fails_one_request_with_its_reason(
    wire: list[bytes], answer: bytes, trouble: Trouble
) -> None:
    assert await asked(wire, answer) == trouble


@pytest.mark.parametrize(
    ("value", "date", "seconds"),
    [
        (b"9" * 5_000, b"", LONGEST_WAIT),
        (b"-5", b"", None),
        (b"NaN", b"", None),
        (b"Sun, 22 Nov 9999 10:01:00 GMT", b"Sun, 22 Nov 0001 10:00:00 GMT", LONGEST_WAIT),
        (b"Sun, 22 Nov 0001 10:01:00 GMT", b"Sun, 22 Nov 2026 10:00:00 GMT", 0.0),
        (b"Sun, 22 Nov 2026 10:01:00 +" + b"9" * 20, b"Sun, 22 Nov 2026 10:00:00 GMT", None),
        (b"Sun, 22 Nov " + b"9" * 30 + b" 10:01:00 GMT", b"", None),
    ],
)
async def test_no_retry_after_makes_a_gateway_wait_for_longer_than_it_should(
    wire: list[bytes], value: bytes, date: bytes, seconds: float | None
) -> None:
    head = b"HTTP/1.1 503 X\r\nRetry-After: " + value + b"\r\nDate: " + date
    got = await asked(wire, head + b"\r\nContent-Length: 0\r\n\r\n")
    assert isinstance(got, Reply)
    assert got.retry_after == seconds
    assert backoff.next_delay(1, 0.0, got.retry_after) <= backoff.LONGEST_RETRY_AFTER


def receipt(**members: object) -> bytes:
    """Return a valid receipt of ``BATCH`` changed by ``members``."""
    return orjson.dumps({"batch": hashlib.sha256(BATCH).hexdigest(), "token": TOKEN, **members})


PROBLEM = {"code": "malformed", "message": "$.id: is missing"}


@pytest.mark.parametrize(
    "members",
    [
        {"batch": hashlib.sha256(b"[]").hexdigest()},
        {"token": "x" * 129},
        {"token": "1-a\r\nX: y"},
        {"token": "1 2"},
        {"token": "é"},
        {"token": None},
        {"duplicates": [2]},
        {"duplicates": [-1]},
        {"duplicates": [1, 1]},
        {"duplicates": [0] * 400_000},
        {"duplicates": {}},
        {"rejected": [{"index": 2, "problem": PROBLEM}]},
        {"rejected": [{"index": 1 << 63, "problem": PROBLEM}]},
        {"rejected": [{"index": 0, "problem": PROBLEM}] * 2},
        {"rejected": [{"index": 0.0, "problem": PROBLEM}]},
        {"rejected": [{"index": 0}]},
    ],
)
def test_a_receipt_with_an_invalid_field_is_refused(members: dict[str, object]) -> None:
    with pytest.raises(ContractError):
        parse_receipt(receipt(**members), BATCH, 2, _ignore)


def test_only_displayable_text_of_a_rejection_is_kept() -> None:
    problem = {"code": "\r\n", "message": "x\x00y" + "z" * 60_000}
    got = parse_receipt(receipt(rejected=[{"index": 1, "problem": problem}]), BATCH, 2, _ignore)
    rejected = got.rejected[1]
    assert isinstance(rejected, Rejected)
    assert (got.token, rejected.code, rejected.message[:4]) == (TOKEN, Code.REFUSED_BY_DESTINATION, "x yz")
    assert len(rejected.message) == len(rejected.reply or "") == 1024


def _ignore(path: str, reason: str) -> None:
    """Ignore what is unknown."""


def items(*cursors: object, newest: object = None, **members: object) -> bytes:
    """Return an inbox page."""
    item = {"id": "i", "alert": alert_id(1), "by": "Eve", "age": 1.0, "answer": "yes", **members}
    page = {"items": [{**item, "cursor": cursor} for cursor in cursors]}
    return orjson.dumps(page if newest is None else {**page, "newest": newest})


@pytest.mark.parametrize(
    "cursors", [(5,), (4,), (6, 6), (7, 6), (-1,), (LARGEST_CURSOR + 1,), ((1 << 63) - 1,), ("6",)]
)
def test_a_page_without_growing_cursors_is_refused(cursors: tuple[object, ...]) -> None:
    with pytest.raises(ContractError):
        parse_inbox_page("cloud", items(*cursors), 5, _ignore)


@pytest.mark.parametrize("newest", [7, "8", -1, LARGEST_CURSOR + 1, True, 8.0])
def test_a_page_with_an_invalid_newest_cursor_is_refused(newest: object) -> None:
    with pytest.raises(ContractError):
        parse_inbox_page("cloud", items(6, 8, newest=newest), 5, _ignore)


def test_a_page_goes_to_the_newest_with_gaps() -> None:
    page = parse_inbox_page("cloud", items(6, 8, newest=8), 5, _ignore)
    assert (len(page.items), page.cursor) == (2, 8)
    assert parse_inbox_page("cloud", items(newest=5), 5, _ignore).cursor is None


@pytest.mark.parametrize("cursors", [(), (4,)])
def test_an_inbox_that_ends_before_the_cursor_is_read_from_its_beginning(cursors: tuple[int, ...]) -> None:
    page = parse_inbox_page("cloud", items(*cursors, newest=4), 5, _ignore)
    assert (page.items, page.cursor) == ((), 0)


def test_a_hundred_items_of_a_page_are_read_and_later_ones_with_the_next() -> None:
    body = items(*range(1, 3 * MOST_ITEMS))
    first = parse_inbox_page("cloud", body, 0, _ignore)
    assert (len(first.items), first.cursor) == (MOST_ITEMS, MOST_ITEMS)
    assert parse_inbox_page("cloud", b'{"items":[]}', 7, _ignore) == type(first)(items=[])


@pytest.mark.parametrize(
    "members",
    [
        {"id": ""},
        {"id": "x" * 129},
        {"id": "a\nb"},
        {"answer": "x" * 256},
        {"acknowledge_for": 0.0},
        {"acknowledge_for": 1e300},
        {"revision": 0},
    ],
)
def test_an_invalid_item_is_skipped(members: dict[str, object], caplog: pytest.LogCaptureFixture) -> None:
    page = parse_inbox_page("cloud", items(6, **members), 5, _ignore)
    assert (page.items, page.cursor) == ([], 6)
    assert "an inbox item cannot be used and was skipped" in caplog.text


def test_long_texts_are_truncated() -> None:
    item = InboxItem(id="i", cursor=1, alert=alert_id(1), by="E\nve" * 999, age=1e300)
    assert (len(check_item(item).by), check_item(item).by[:4], check_item(item).age) == (255, "E ve", 366 * 86_400.0)
    assert check_item(replace(item, age=-5.0)).age == 0.0


def test_polls_that_bring_something_follow_each_other_once_a_second_after_the_first_ten() -> None:
    now, pace, polls = 100.0, PollPace(), []
    for _ in range(60):
        now += pace.delay(now=now)
        polls.append(now)
        pace = pace.after(1, now=now)
    assert sum(poll == 100.0 for poll in polls) == 11
    assert polls[-1] == pytest.approx(149.0)


def test_full_pages_bring_ten_items_a_second() -> None:
    now, pace, taken = 0.0, PollPace(), 0
    while now < 100.0:
        pace, taken = pace.after(MOST_ITEMS, now=now), taken + MOST_ITEMS
        now += pace.delay(now=now)
    assert taken <= 10 * 100 + 2 * MOST_ITEMS


def test_unused_pace_gives_no_credit() -> None:
    pace = PollPace().after(1, now=0.0)
    for _ in range(10):
        pace = pace.after(1, now=1_000.0)
    assert pace.delay(now=1_000.0) == 0.0
    assert pace.after(1, now=1_000.0).delay(now=1_000.0) == 1.0


async def test_an_inbox_that_is_never_empty_is_polled_at_the_pace(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def behave(request: web.Request, body: bytes) -> web.StreamResponse:
        answer = ANSWERS["never empty"](request, body)
        assert isinstance(answer, web.Response)
        return answer

    credentials = enrolled(tmp_path / "ca")

    async def enrol_fn(_line: object, _site: object) -> Any:  # noqa: ANN401
        return credentials

    monkeypatch.setattr(site.destinations, "enrol_fn", enrol_fn)
    async with receiver(behave, Authority(tmp_path / "ca").server_context(["127.0.0.1"])) as server:
        await site.set_cloud(str(OneTimeLine(url=server.url, secret="s" * 20, sha256="0" * 64)))
        await until(lambda: len(server.calls) >= 13)
        seconds = server.calls[12].at - server.calls[0].at
    assert seconds >= 1.9


async def test_invalid_stored_data_is_dropped_at_the_start(
    site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await keep(site, enrolled(tmp_path / "ca"))
    for token, cursor in (("x" * 65_000, (1 << 63) - 1), ("a\r\nb", -1)):
        await site.store.write(
            lambda transaction, token=token, cursor=cursor: [  # type: ignore[misc]
                transaction.run("INSERT OR REPLACE INTO destination_token VALUES ('cloud', ?)", token),
                transaction.run("UPDATE destination SET inbox_cursor = ?", cursor),
            ]
        )
        kept = await loaded(site)
        assert (kept.token, kept.inbox_cursor) == (None, 0)
    assert "the token of cloud is invalid and was dropped" in caplog.text
    assert is_token(TOKEN)


async def keep(site: Site, credentials: Any) -> None:  # noqa: ANN401
    """Store a cloud endpoint among the site's settings."""
    cloud = CloudSettings(name="cloud", kinds=(EventKind.ALERT,), url="https://127.0.0.1:1", credentials=credentials)
    await site.store.write(lambda transaction: save(transaction, cloud))


async def loaded(site: Site) -> StoredDestination:
    """Return the stored cloud endpoint as it is used."""
    kept = await site.store.read(lambda transaction: load_one(transaction, "cloud"))
    assert kept is not None
    return kept


@pytest.mark.parametrize("members", [{"certificate": "x"}, {"key": "é"}, {"ca": ""}])
async def test_a_destination_whose_credentials_cannot_be_used_leaves_the_others_running(
    site: Site, hook: Receiver, tmp_path: Path, members: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    await site.set_webhook(hook.url)
    await keep(site, replace(enrolled(tmp_path / "ca"), **members))
    await site.restart()
    await site.accept(1)
    await until(lambda: bool(hook.calls))
    assert [link.name for link in site.destinations.links()] == ["cloud", "hook"]
    assert site.link("cloud").reason == "store_row_unreadable"
    assert "store_row_unreadable: the credentials of cloud cannot be used" in caplog.text
    assert hook.has_received(event_id(1).encode())


async def test_a_webhook_answer_that_is_too_long_is_ignored(
    site: Site, hook: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    hook.behave = reply(200, orjson.dumps({"answer": "x" * 256}))
    await site.set_webhook(hook.url)
    await site.accept(1)
    await until(lambda: site.link("hook").state is LinkState.CONNECTED)
    assert site.alerts.stored == []
    assert "is invalid and was ignored" in caplog.text


@pytest.mark.parametrize("case", ["another site", "another authority", "expired", "not yet"])
async def test_an_unusable_certificate_is_refused(tmp_path: Path, case: str) -> None:
    enrolled(tmp_path / "ca")
    shift = {"expired": -timedelta(days=400), "not yet": timedelta(days=400)}.get(case, timedelta())
    folder = tmp_path / ("elsewhere" if case == "another authority" else "ca")
    folder.mkdir(exist_ok=True)
    authority = Authority(folder, lambda: datetime.now(UTC) + shift)
    site = "01K8J5Z0000000000000000009" if case == "another site" else SITE

    async def behave(_request: web.Request, body: bytes) -> web.Response:
        issued = authority.issue(orjson.loads(body)["csr"], type(SITE)(site))
        return web.Response(body=orjson.dumps({"certificate": issued.certificate, "ca": authority.pem}))

    async with receiver(behave, Authority(tmp_path / "ca").server_context(["127.0.0.1"])) as server:
        line = OneTimeLine(url=server.url, secret="s" * 20, sha256=Authority(tmp_path / "ca").sha256)
        with pytest.raises(RequestRefusedError) as caught:
            await enrol(line, SITE)
    assert caught.value.code is Code.ENROLMENT_REFUSED


async def test_a_renewal_that_brings_a_ca_the_endpoint_does_not_show_is_refused(tmp_path: Path) -> None:
    old = enrolled(tmp_path / "ca")
    (tmp_path / "elsewhere").mkdir()
    other = Authority(tmp_path / "elsewhere")

    async def behave(_request: web.Request, body: bytes) -> web.Response:
        issued = other.issue(orjson.loads(body)["csr"], SITE)
        return web.Response(body=orjson.dumps({"certificate": issued.certificate, "ca": other.pem}))

    async with receiver(behave, Authority(tmp_path / "ca").server_context(["127.0.0.1"])) as server:
        with pytest.raises(RequestRefusedError, match="did not issue its own certificate") as caught:
            await renew(server.url, old)
    assert caught.value.code is Code.ENROLMENT_REFUSED


async def test_an_endless_chunk_stops_only_the_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("process_cosmos_gateway.destinations.enrolment.LONGEST_SECONDS", 20.0)
    enrolled(tmp_path / "ca")

    async def behave(request: web.Request, _body: bytes) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n")
        while not request.transport.is_closing():
            request.transport.write(b"x" * (1 << 20))
            await asyncio.sleep(0)
        return web.Response()

    async with receiver(behave, Authority(tmp_path / "ca").server_context(["127.0.0.1"])) as server:
        line = OneTimeLine(url=server.url, secret="s" * 20, sha256=Authority(tmp_path / "ca").sha256)
        with pytest.raises(RequestRefusedError) as caught:
            await enrol(line, SITE)
    assert caught.value.code in (Code.DESTINATION_AWAY, Code.IDENTITY_MISMATCH)
