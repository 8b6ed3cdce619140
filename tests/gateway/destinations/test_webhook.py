"""Webhooks: one CloudEvent per POST, and the effects of a receiver's replies."""

import asyncio
import ssl
from dataclasses import replace
from functools import partial
from pathlib import Path

import orjson
import pytest
import trustme
from aiohttp import web

from process_cosmos_gateway.contract.destinations import EventKind, LinkState, Priority
from process_cosmos_gateway.destinations import http_request
from process_cosmos_gateway.destinations.failure_cause import IN_FLIGHT
from process_cosmos_gateway.outbox import Limits
from tests.support.waiting import until

from .conftest import Site, running_site
from .parts import (
    Behaviour,
    Receiver,
    accept,
    alert_id,
    break_off,
    event,
    event_id,
    in_turn,
    keep_silent,
    receiver,
    reply,
)


async def test_each_event_is_one_post_with_its_idempotency_key_and_the_header_asked_for(
    site: Site, hook: Receiver
) -> None:
    await site.set_webhook(f"{hook.url}/in?token=x", header="Authorization", header_value="Bearer y")
    await site.accept(1, 2)
    await until(lambda: len(hook.calls) == 2)

    first = hook.calls[0]
    content = orjson.loads(first.body)
    assert first.path == "/in?token=x"
    assert first.headers["Content-Type"] == "application/cloudevents+json"
    assert first.headers["Authorization"] == "Bearer y"
    assert first.headers["Idempotency-Key"] == f"/sites/{site.store.site}/{event_id(1)}"
    assert (content["specversion"], content["id"], content["subject"]) == ("1.0", event_id(1), alert_id(1))
    assert content["data"]["answers"] == ["Turn on again", "Keep off"]
    await until(lambda: site.link("hook").state is LinkState.CONNECTED)


async def test_a_reply_with_an_answer_becomes_a_proposal_with_its_revision(site: Site, hook: Receiver) -> None:
    hook.behave = reply(200, b'{"answer": "keep_off"}', Content_Type="application/json")
    await site.set_webhook(hook.url)
    await site.outbox.accept(event(1, revision=4))
    await until(lambda: bool(site.alerts.stored))

    [(destination, item)] = site.alerts.stored
    assert destination == "hook"
    assert (item.id, item.alert, item.revision) == (event_id(1), alert_id(1), 4)
    assert (item.answer, item.by, item.age) == ("keep_off", "hook", 0.0)


@pytest.mark.parametrize(
    "body",
    [b'{"answer": null}', b'{"answer": 7}', b'{"ok": true}', b"[1]", b'"OK"', b"", b" \r\n", b"[" * 500 + b"]" * 500],
)
async def test_a_reply_that_answers_nothing_is_a_delivery_nevertheless(site: Site, hook: Receiver, body: bytes) -> None:
    hook.behave = reply(200, body)
    await site.set_webhook(hook.url)
    await site.accept(1)
    await until(lambda: site.link("hook").state is LinkState.CONNECTED)

    assert site.alerts.stored == []
    assert await site.waiting() == 0


async def test_one_request_is_in_flight_per_order_key_and_several_in_all(site: Site, hook: Receiver) -> None:
    at_once: dict[str, int] = {}
    together = asyncio.Barrier(IN_FLIGHT)

    async def behave(_request: web.Request, body: bytes) -> web.Response:
        key = orjson.loads(body)["subject"]
        assert key not in at_once
        at_once[key] = 1
        await together.wait()
        del at_once[key]
        return web.Response(status=204)

    hook.behave = behave
    site.alerts.gate.clear()
    await site.set_webhook(hook.url)
    for number in range(1, 2 * IN_FLIGHT + 1):
        await site.outbox.accept(event(number, alert=(number - 1) // 2 + 1))
    site.alerts.gate.set()
    await until(lambda: len(hook.calls) == 2 * IN_FLIGHT)

    assert hook.most_at_once == IN_FLIGHT
    ids = [orjson.loads(call.body)["id"] for call in hook.calls]
    for number in range(1, 2 * IN_FLIGHT + 1, 2):
        assert ids.index(event_id(number)) < ids.index(event_id(number + 1))


@pytest.mark.parametrize(
    ("behave", "reason"),
    [
        (reply(200, b"<!doctype html><title>Log in to Free Wi-Fi"), "not_a_receiver"),
        (reply(302, Location="/elsewhere"), "redirect"),
        (reply(404), "http_404"),
        (reply(401), "http_401"),
        (reply(400), "http_400"),
    ],
)
async def test_a_receiver_that_requires_a_person_is_refused_and_all_events_are_kept(
    site: Site, hook: Receiver, behave: Behaviour, reason: str
) -> None:
    hook.behave = behave
    await site.set_webhook(hook.url)
    await site.accept(1, 2)
    await until(lambda: site.link("hook").state is LinkState.REFUSED)

    assert site.link("hook").reason == reason
    assert await site.waiting() == 2
    assert {call.path for call in hook.calls} == {"/"}


async def test_setting_a_refused_destination_again_tries_at_once(site: Site, hook: Receiver) -> None:
    hook.behave = reply(404)
    await site.set_webhook(f"{hook.url}/wrong")
    await site.accept(1)
    await until(lambda: site.link("hook").state is LinkState.REFUSED)

    hook.behave = accept
    await site.set_webhook(f"{hook.url}/right")
    await until(lambda: site.link("hook").state is LinkState.CONNECTED)

    assert hook.calls[-1].path == "/right"
    assert await site.waiting() == 0


async def test_a_rejected_event_is_moved_aside_and_does_not_block_others(site: Site, hook: Receiver) -> None:
    hook.behave = in_turn(accept, reply(422), accept)
    await site.set_webhook(hook.url)
    await site.accept(1)
    await until(lambda: len(hook.calls) == 1)
    await site.accept(2)
    await until(lambda: len(hook.calls) == 2)
    await site.accept(3)
    await until(lambda: len(hook.calls) == 3)
    await until(lambda: site.link("hook").state is LinkState.CONNECTED)

    [rejected] = await site.outbox.rejected()
    assert (rejected.event, rejected.destination, rejected.code) == (event_id(2), "hook", "refused_by_destination")


async def test_an_event_is_rejected_after_twenty_failures_while_others_were_delivered(
    hook: Receiver, tmp_path: Path
) -> None:
    poison = event_id(1).encode()

    async def behave(_request: web.Request, body: bytes) -> web.Response:
        if poison not in body:
            return web.Response(status=204)
        return web.Response(status=500, headers={"Retry-After": "0"}, text="no such table: orders")

    hook.behave = behave
    limits = Limits(longest_backoff=0)
    async with running_site(tmp_path / "site", limits) as site:
        await site.set_webhook(hook.url)
        for number in range(1, 40):
            await site.accept(number)
            came = event_id(number).encode()
            await until(partial(hook.has_received, came))
        async with asyncio.timeout(20):
            while not (rejected := await site.outbox.rejected()):
                pass
        replies = await site.store.read(lambda transaction: transaction.rows("SELECT reply FROM outbox_rejected"))
    assert [(each.event, each.code) for each in rejected] == [(event_id(1), "poison")]
    assert replies == [("no such table: orders",)]


async def test_a_400_after_failures_only_is_about_the_address(site: Site, hook: Receiver) -> None:
    hook.behave = in_turn(reply(500), reply(400))
    await site.set_webhook(hook.url)
    await site.accept(1, 2)
    await until(lambda: site.link("hook").state is LinkState.REFUSED)
    assert await site.outbox.rejected() == ()
    assert await site.waiting() == 2


async def test_an_urgent_event_waits_for_one_reply_and_not_for_a_queue(site: Site, hook: Receiver) -> None:
    replying = asyncio.Event()

    async def behave(_request: web.Request, _body: bytes) -> web.Response:
        await replying.wait()
        return web.Response(status=204)

    hook.behave = behave
    await site.set_webhook(hook.url, kinds=(EventKind.ALERT, EventKind.DEVICE))
    for number in range(1, 20):
        about = replace(event(number), kind=EventKind.DEVICE, priority=Priority.CHANGE, key="one device")
        await site.outbox.accept(about)
    await until(lambda: len(hook.calls) == 1)
    await site.accept(99)
    replying.set()
    await until(lambda: len(hook.calls) == 20)
    ids = [orjson.loads(call.body)["id"] for call in hook.calls]
    assert ids.index(event_id(99)) <= 1


async def test_a_400_rejects_the_event_after_an_earlier_delivery_and_a_restart(site: Site, hook: Receiver) -> None:
    hook.behave = in_turn(accept, reply(400))
    await site.set_webhook(hook.url)
    await site.accept(1)
    await until(lambda: site.link("hook").state is LinkState.CONNECTED)
    await site.restart()

    await site.accept(2)
    await until(lambda: len(hook.calls) == 2)
    async with asyncio.timeout(20):
        while not await site.outbox.rejected():
            pass


async def test_an_event_that_fails_is_sent_again_with_the_same_key_and_body(site: Site, hook: Receiver) -> None:
    hook.behave = in_turn(reply(503), accept)
    await site.set_webhook(hook.url)
    await site.accept(1)
    await until(lambda: len(hook.calls) == 2)

    first, second = hook.calls
    assert first.headers["Idempotency-Key"] == second.headers["Idempotency-Key"]
    assert first.body == second.body


async def test_an_event_that_fails_alone_does_not_affect_others_or_the_link(site: Site, hook: Receiver) -> None:
    async def behave(_request: web.Request, body: bytes) -> web.Response:
        return web.Response(status=500 if orjson.loads(body)["id"] == event_id(1) else 204)

    hook.behave = behave
    site.alerts.gate.clear()
    await site.set_webhook(hook.url)
    await site.accept(1, 2, 3)
    site.alerts.gate.set()
    await until(lambda: site.link("hook").state is LinkState.CONNECTED)

    assert await site.waiting() == 1


@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_is_honoured(site: Site, hook: Receiver, status: int) -> None:
    hook.behave = in_turn(reply(status, Retry_After="2"), accept)
    await site.set_webhook(hook.url)
    await site.accept(1)
    await until(lambda: len(hook.calls) == 1)
    await until(lambda: site.link("hook").reason == f"http_{status}")
    await until(lambda: len(hook.calls) == 2)

    assert hook.calls[1].at - hook.calls[0].at >= 1.95


async def test_a_reply_that_breaks_off_confirms_nothing(site: Site, hook: Receiver) -> None:
    hook.behave = in_turn(break_off, accept)
    await site.set_webhook(hook.url)
    await site.accept(1)
    await until(lambda: len(hook.calls) == 2)

    assert len(set(hook.keys)) == 1
    assert site.alerts.stored == []


async def test_a_reply_without_end_confirms_nothing(site: Site, hook: Receiver) -> None:
    hook.behave = reply(200, b"x" * (http_request.MAX_REPLY + 1))
    await site.set_webhook(hook.url)
    await site.accept(1)
    await until(lambda: site.link("hook").reason == "reply_too_long")
    assert await site.waiting() == 1


async def test_a_receiver_without_a_reply_is_offline(
    site: Site, hook: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_request, "SILENCE_SECONDS", 0.2)
    hook.behave = in_turn(keep_silent, accept)
    await site.set_webhook(hook.url)
    await site.accept(1)
    await until(lambda: site.link("hook").reason == "timeout")
    await until(lambda: site.link("hook").state is LinkState.CONNECTED)

    assert len(set(hook.keys)) == 1


async def test_events_accepted_in_an_outage_are_delivered_after_it_once_and_in_order(
    site: Site, hook: Receiver
) -> None:
    await site.set_webhook(hook.url)
    await site.accept(1)
    await until(lambda: len(hook.calls) == 1)
    await hook.stop()
    for number in range(2, 12):
        await site.outbox.accept(event(number, alert=1))
    await until(lambda: site.link("hook").state is LinkState.OFFLINE)
    assert site.link("hook").reason in ("unreachable", "connection_lost")
    assert await site.waiting() == 10

    await hook.start()
    await until(lambda: len(hook.calls) == 11)

    assert [key[-26:] for key in hook.keys] == [event_id(number) for number in range(1, 12)]


async def test_every_change_of_a_link_is_announced(site: Site, hook: Receiver) -> None:
    await site.set_webhook(hook.url)
    for behaviour, state in ((accept, LinkState.CONNECTED), (reply(404), LinkState.REFUSED)):
        hook.behave = behaviour
        site.link_changed.clear()
        await site.accept(len(hook.calls))
        async with asyncio.timeout(20):
            while site.link("hook").state is not state:
                await site.link_changed.wait()
                site.link_changed.clear()


async def test_an_unknown_host_is_offline(site: Site) -> None:
    await site.set_webhook("http://nowhere.invalid/")
    await site.accept(1)
    await until(lambda: site.link("hook").reason == "name_unknown")


async def test_an_untrusted_certificate_is_refused(site: Site) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(tls)
    async with receiver(tls=tls) as server:
        await site.set_webhook(server.url)
        await site.accept(1)
        await until(lambda: site.link("hook").state is LinkState.REFUSED)
        assert site.link("hook").reason == "certificate"
        assert server.calls == []


async def test_a_receiver_without_tls_is_refused(site: Site, hook: Receiver) -> None:
    await site.set_webhook(hook.url.replace("http:", "https:"))
    await site.accept(1)
    await until(lambda: site.link("hook").reason == "tls")


async def test_nothing_is_sent_while_the_gate_is_closed(site: Site, hook: Receiver) -> None:
    site.alerts.gate.clear()
    await site.set_webhook(hook.url)
    await site.accept(1)
    async with asyncio.timeout(20):
        while await site.waiting() != 1:
            pass
    assert hook.calls == []
    site.alerts.gate.set()
    await until(lambda: len(hook.calls) == 1)


async def test_a_receivers_text_about_a_rejected_event_is_stored_without_secrets(site: Site, hook: Receiver) -> None:
    said = (
        "Bearer abc-def-123 may not post to /in/deep-secret?token=hush%21hush, nor hush!hush, nor abc-def-123\0\x1b[2J"
    )
    hook.behave = in_turn(accept, reply(422, f"({said})".encode() + b"\xff" * 2_000))
    await site.set_webhook(
        f"{hook.url}/in/deep-secret?token=hush%21hush", header="Authorization", header_value="Bearer abc-def-123"
    )
    await site.accept(1, 2)
    await until(lambda: len(hook.calls) == 2)
    async with asyncio.timeout(20):
        while not await site.outbox.rejected():
            pass
    [(kept,)] = await site.store.read(lambda transaction: transaction.rows("SELECT reply FROM outbox_rejected"))
    assert kept.startswith("(*** may not post to ***, nor ***, nor ***  [2J)")
    assert 900 < len(kept.encode()) <= 1024


def test_an_empty_reply_is_not_quoted() -> None:
    assert http_request.quote(" \r\n\0 ") is None
