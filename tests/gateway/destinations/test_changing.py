"""A destination can be corrected, renamed and tested without losing waiting events."""

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest

from process_cosmos_gateway.contract.destinations import (
    ApproveReply,
    ChangeDestination,
    DestinationTested,
    EventKind,
    LinkState,
    TestDestination,
)
from process_cosmos_gateway.contract.errors import Code
from process_cosmos_gateway.destinations import service
from process_cosmos_gateway.destinations.confirmation import body_digest
from process_cosmos_gateway.destinations.settings import (
    MOST_APPROVED,
    StoredDestination,
    WebhookSettings,
    load_one,
    store_inbox_cursor,
    store_token,
)
from process_cosmos_gateway.errors import RequestRefusedError
from tests.cloud.endpoint import endpoint_process, run_command
from tests.support.waiting import until

from .conftest import Site, running_site
from .parts import Behaviour, Receiver, accept, event_id, keep_silent, receiver, reply

PAGE = b"<p>Thank you, stored."


async def change(site: Site, **members: Any) -> None:  # noqa: ANN401 - those of ``ChangeDestination``
    await site.destinations.change(ChangeDestination(id="1", **{"name": "hook", **members}))


async def try_out(site: Site, name: str = "hook") -> DestinationTested:
    return await site.destinations.test(TestDestination(id="7", name=name))


async def approve(site: Site, reply_digest: str, name: str = "hook") -> None:
    await site.destinations.approve(ApproveReply(id="1", name=name, digest=reply_digest))


async def kept(site: Site, name: str = "hook") -> StoredDestination:
    found = await site.store.read(lambda transaction: load_one(transaction, name))
    assert found is not None
    return found


async def settings(site: Site) -> WebhookSettings:
    found = (await kept(site)).settings
    assert isinstance(found, WebhookSettings)
    return found


async def test_a_corrected_address_gets_waiting_events_in_order_and_at_once(site: Site, hook: Receiver) -> None:
    hook.behave = reply(404)
    await site.set_webhook(f"{hook.url}/wrong", header="X-Key", header_value="old")
    await site.accept(1, 2, 3)
    await until(lambda: len(hook.calls) == 3 and site.link("hook").state is LinkState.REFUSED)

    hook.behave = accept
    hook.calls.clear()
    await change(site, url=f"{hook.url}/right", header_value="new")
    await until(lambda: site.link("hook").state is LinkState.CONNECTED)

    assert sorted(key[-26:] for key in hook.keys) == [event_id(number) for number in (1, 2, 3)]
    assert {(call.path, call.headers["X-Key"]) for call in hook.calls} == {("/right", "new")}
    assert await site.waiting() == 0


async def test_a_change_survives_a_restart_and_keeps_other_settings(tmp_path: Path, hook: Receiver) -> None:
    async with running_site(tmp_path) as site:
        await site.set_webhook(hook.url, header="X-Key", header_value="v")
        await change(site, label="Site office")
        before = await settings(site)
        assert (before.url, before.header, before.header_value, before.label) == (hook.url, "X-Key", "v", "Site office")
        await change(site, kinds=(EventKind.DEVICE,), header="X-Token")
    async with running_site(tmp_path) as site:
        await until(lambda: bool(site.destinations.links()))
        link, after = site.link("hook"), await settings(site)
        assert (link.name, link.label, link.kinds) == ("hook", "Site office", (EventKind.DEVICE,))
        assert (after.header, after.header_value) == ("X-Token", "v")
        await change(site, label="", header="")
        removed = await settings(site)
        assert (site.link("hook").label, removed.header, removed.header_value) == (None, None, None)


async def test_proof_and_cursor_are_kept_but_another_address_resets_the_proof(site: Site, hook: Receiver) -> None:
    await site.set_webhook(hook.url)
    await site.accept(1)
    await until(lambda: site.link("hook").state is LinkState.CONNECTED)
    await site.store.write(lambda transaction: store_inbox_cursor(transaction, "hook", 7))
    await site.store.write(lambda transaction: store_token(transaction, "hook", "3-abc"))

    await change(site, label="x", header="X-Key", header_value="v")
    same = await kept(site)
    assert (same.proven, same.inbox_cursor, same.token) == (True, 7, "3-abc")

    await change(site, url=f"{hook.url}/elsewhere")
    other = await kept(site)
    assert (other.proven, other.inbox_cursor, other.token) == (False, 7, "3-abc")


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({"name": "unknown"}, Code.UNKNOWN_DESTINATION),
        ({"url": "ftp://example.org"}, Code.URL_INVALID),
        ({"url": ""}, Code.URL_INVALID),
        ({"label": "x" * 65}, Code.MALFORMED),
        ({"label": "a\nb"}, Code.MALFORMED),
        ({"header": "Host", "header_value": "x"}, Code.MALFORMED),
        ({"header": "X-Other"}, Code.MALFORMED),
        ({"header_value": "v"}, Code.MALFORMED),
        ({"header": "", "header_value": "v"}, Code.MALFORMED),
    ],
)
async def test_an_impossible_change_is_refused_and_nothing_changes(
    site: Site, hook: Receiver, members: dict[str, str], code: Code
) -> None:
    await site.set_webhook(hook.url)
    before = await settings(site)
    with pytest.raises(RequestRefusedError) as caught:
        await change(site, **members)
    assert caught.value.code is code
    assert await settings(site) == before
    await site.accept(1)
    await until(lambda: len(hook.calls) == 1)


async def test_a_test_event_bypasses_the_queue_and_waiting_events_are_sent_at_once(site: Site, hook: Receiver) -> None:
    hook.behave = reply(404)
    await site.set_webhook(hook.url, header="X-Key", header_value="v")
    await site.accept(1)
    await until(lambda: site.link("hook").state is LinkState.REFUSED)
    assert await try_out(site) == DestinationTested(id="7", delivered=False, reason="http_404", status=404)

    hook.behave = accept
    hook.calls.clear()
    assert await try_out(site) == DestinationTested(id="7", delivered=True, status=204)
    await until(lambda: site.link("hook").state is LinkState.CONNECTED)

    sent = orjson.loads(hook.calls[0].body)
    assert (sent["type"], sent["subject"], sent["source"]) == (service.TEST_TYPE, "hook", f"/sites/{site.store.site}")
    assert sent["data"]["message"]
    assert hook.calls[0].headers["X-Key"] == "v"
    assert hook.calls[0].headers["Idempotency-Key"] == f"{sent['source']}/{sent['id']}"
    assert await site.waiting() == 0


@pytest.mark.parametrize(
    ("behave", "expected"),
    [
        (reply(503), {"reason": "http_503", "status": 503}),
        (reply(422, b'{"no": 1}'), {"reason": "refused_by_destination", "status": 422, "reply": '{"no": 1}'}),
        (reply(302), {"reason": "redirect", "status": 302}),
        (reply(404, PAGE), {"reason": "http_404", "status": 404, "reply": PAGE.decode()}),
        (
            reply(200, PAGE),
            {
                "reason": "not_a_receiver",
                "status": 200,
                "reply": PAGE.decode(),
                "approvable": True,
                "digest": body_digest(PAGE),
            },
        ),
    ],
)
async def test_a_test_reports_the_reply(
    site: Site, hook: Receiver, behave: Behaviour, expected: dict[str, Any]
) -> None:
    hook.behave = behave
    await site.set_webhook(hook.url)
    assert await try_out(site) == DestinationTested(id="7", delivered=False, **expected)


async def test_a_test_of_an_unknown_destination_is_refused(site: Site, hook: Receiver) -> None:
    with pytest.raises(RequestRefusedError) as caught:
        await try_out(site)
    assert caught.value.code is Code.UNKNOWN_DESTINATION
    await site.set_webhook(hook.url)
    await hook.stop()
    assert (await try_out(site)).reason == "unreachable"


async def test_a_test_has_a_time_limit(site: Site, hook: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "TEST_SECONDS", 0.1)
    hook.behave = keep_silent
    await site.set_webhook(hook.url)
    assert await try_out(site) == DestinationTested(id="7", delivered=False, reason="timeout")


async def test_an_approved_reply_confirms_at_once_and_after_a_restart(site: Site, hook: Receiver) -> None:
    hook.behave = reply(200, PAGE)
    await site.set_webhook(hook.url)
    await site.accept(1)
    await until(lambda: site.link("hook").reason == "not_a_receiver")

    await approve(site, body_digest(PAGE))
    await until(lambda: site.link("hook").state is LinkState.CONNECTED)
    assert await site.waiting() == 0

    await site.restart()
    await site.accept(2)
    await until(lambda: len(hook.calls) >= 3 and site.link("hook").state is LinkState.CONNECTED)
    hook.behave = reply(200, PAGE + b"!")
    await site.accept(3)
    await until(lambda: site.link("hook").reason == "not_a_receiver")


async def test_approvals_belong_to_an_address_and_are_limited(site: Site, hook: Receiver) -> None:
    await site.set_webhook(hook.url)
    digests = [body_digest(bytes([number])) for number in range(MOST_APPROVED + 1)]
    for each in digests:
        await approve(site, each)
    await approve(site, digests[1])
    assert (await settings(site)).approved == (*digests[2:], digests[1])
    await change(site, label="x")
    await site.set_webhook(hook.url)
    assert len((await settings(site)).approved) == MOST_APPROVED
    await change(site, url=f"{hook.url}/elsewhere")
    assert (await settings(site)).approved == ()


@pytest.mark.parametrize("wrong", ["", "x" * 64, "A" * 64, "0" * 63])
async def test_an_invalid_digest_is_refused(site: Site, hook: Receiver, wrong: str) -> None:
    await site.set_webhook(hook.url)
    with pytest.raises(RequestRefusedError) as caught:
        await approve(site, wrong)
    assert caught.value.code is Code.MALFORMED


async def test_a_link_reports_the_age_of_its_state(site: Site, hook: Receiver) -> None:
    await site.set_webhook(hook.url)
    first = site.link("hook")
    assert (first.state, first.label) == (LinkState.OFFLINE, None)
    assert first.state_age is not None
    await site.accept(1)
    await until(lambda: site.link("hook").state is LinkState.CONNECTED)
    connected = site.link("hook").state_age
    assert connected is not None
    await site.accept(2)
    await until(lambda: len(hook.calls) == 2)
    await until(lambda: (site.link("hook").state_age or 0.0) > connected)


async def test_a_change_while_a_request_hangs_waits_for_nothing(site: Site, hook: Receiver) -> None:
    hook.behave = keep_silent
    await site.set_webhook(hook.url)
    await site.accept(1)
    await until(lambda: len(hook.calls) == 1)
    async with receiver() as other:
        await change(site, url=other.url)
        await until(lambda: len(other.calls) == 1)
        await until(lambda: site.link("hook").state is LinkState.CONNECTED)
    assert await site.waiting() == 0


async def test_a_cloud_endpoint_is_renamed_and_tested_without_storing_test_events(site: Site, tmp_path: Path) -> None:
    async with endpoint_process(tmp_path / "cloud") as cloud:
        await site.set_cloud(await cloud.code())
        await change(site, name="cloud", label="Head office")
        assert site.link("cloud").label == "Head office"
        for members in ({"url": "https://example.org"}, {"header": "X"}, {"header_value": "v"}):
            with pytest.raises(RequestRefusedError) as caught:
                await change(site, name="cloud", **members)
            assert caught.value.code is Code.MALFORMED
        with pytest.raises(RequestRefusedError) as refused:
            await approve(site, "0" * 64, "cloud")
        assert refused.value.code is Code.MALFORMED

        assert await try_out(site, "cloud") == DestinationTested(id="7", delivered=True, status=200)
        assert await cloud.ledger() == []
        await site.accept(1)
        await until(lambda: site.link("cloud").state is LinkState.CONNECTED)

        await run_command(cloud.folder, "revoke", site.store.site)
        revoked = await try_out(site, "cloud")
        assert (revoked.delivered, revoked.reason, revoked.status) == (False, "certificate_revoked", 403)
    assert (await try_out(site, "cloud")).reason == "unreachable"


@pytest.mark.parametrize("turns", range(0, 40, 3))
async def test_a_destination_that_is_set_when_the_session_ends_goes_on_sending(tmp_path: Path, turns: int) -> None:
    async with running_site(tmp_path) as site, receiver() as hook:
        await site.set_webhook(hook.url)
        await site.accept(1)
        await until(lambda: len(hook.calls) == 1)
        setting = asyncio.create_task(site.set_webhook(f"{hook.url}?again"))
        for _ in range(turns):
            await asyncio.sleep(0)
        setting.cancel()
        await asyncio.wait({setting})
        await site.accept(2)
        await until(lambda: len(hook.calls) == 2)
