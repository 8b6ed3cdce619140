"""Settings of destinations are checked, stored with their secrets, and shown without them."""

import logging
from pathlib import Path

import pytest

from process_cosmos_gateway.contract.destinations import EventKind, LinkState
from process_cosmos_gateway.contract.errors import Code
from process_cosmos_gateway.destinations.destination import Refused
from process_cosmos_gateway.destinations.settings import WebhookSettings, public_address
from process_cosmos_gateway.destinations.webhook import Webhook
from process_cosmos_gateway.errors import RequestRefusedError, StoreError
from tests.support.waiting import until

from .conftest import Site, running_site
from .parts import Receiver, delivery, reply

CANARY = "canary-5b1d0c7e"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.org",
        "ftp://example.org/",
        "file:///etc/passwd",
        "http://",
        "https://:443/",
        "https://example.org:0/",
        "https://example.org:99999/",
        "https://[::1/",
        "https://hooks..example.org/",
        "https://" + "x" * 64 + ".example.org/",
        "https://exa mple.org/",
        "https://example.org\\@elsewhere/",
        "https://example.org/\r\nX: y",
        "https://example.org/" + "x" * 3000,
    ],
)
async def test_an_invalid_url_is_refused(site: Site, url: str) -> None:
    with pytest.raises(RequestRefusedError) as caught:
        await site.set_webhook(url)
    assert caught.value.code is Code.URL_INVALID


@pytest.mark.parametrize(
    "settings",
    [
        {"name": ""},
        {"name": "x" * 65},
        {"name": " a"},
        {"name": "a\nb"},
        {"header": "X-Key"},
        {"header_value": "v"},
        {"header": "X Key", "header_value": "v"},
        {"header": "Content-Type", "header_value": "v"},
        {"header": "idempotency-key", "header_value": "v"},
        {"header": "X-Key", "header_value": "a\r\nb"},
        {"header": "X-Key", "header_value": "x" * 5000},
    ],
)
async def test_settings_that_cannot_be_used_are_refused(site: Site, settings: dict[str, str]) -> None:
    with pytest.raises(RequestRefusedError) as caught:
        await site.set_webhook("https://example.org/", **settings)
    assert caught.value.code is Code.MALFORMED
    assert site.destinations.links() == ()


async def test_credentials_in_both_url_and_header_are_refused(site: Site) -> None:
    with pytest.raises(RequestRefusedError, match="not both"):
        await site.set_webhook("https://user:pw@example.org/", header="authorization", header_value="Bearer x")


async def test_settings_the_client_cannot_use_fail_the_link() -> None:
    settings = WebhookSettings(
        name="hook",
        url="http://user:pw@127.0.0.1/",
        kinds=(EventKind.ALERT,),
        header="Authorization",
        header_value="Bearer x",
    )
    hook = Webhook(settings)
    assert (await hook.send([delivery(1)], proven=True, token=None)).trouble == Refused(reason="url")
    await hook.close()


@pytest.mark.parametrize("attempt", ["remove", "replace"])
async def test_a_destination_whose_change_cannot_be_stored_continues(
    site: Site, hook: Receiver, monkeypatch: pytest.MonkeyPatch, attempt: str
) -> None:
    await site.set_webhook(hook.url)

    async def refuse(*_: object) -> None:
        raise StoreError("the disk is full")

    change = site.destinations.remove("hook") if attempt == "remove" else site.set_webhook("https://elsewhere.example/")
    with monkeypatch.context() as broken:
        broken.setattr(site.store, "write", refuse)
        with pytest.raises(StoreError):
            await change
    await site.accept(1)
    await until(lambda: len(hook.calls) == 1)
    await site.destinations.remove("hook")


@pytest.mark.parametrize(
    ("url", "address"),
    [
        (f"https://user:{CANARY}@Example.org/{CANARY}?k={CANARY}#{CANARY}", "https://example.org:443"),
        ("http://192.0.2.7:8080/x", "http://192.0.2.7:8080"),
        ("https://[2001:db8::1]/x", "https://[2001:db8::1]:443"),
    ],
)
def test_an_address_is_the_part_of_a_url_that_is_not_secret(url: str, address: str) -> None:
    assert public_address(url) == address


async def test_secrets_reach_only_the_receiver(site: Site, hook: Receiver, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    hook.behave = reply(404)
    await site.set_webhook(f"{hook.url}/{CANARY}", header="X-Key", header_value=CANARY)
    await site.accept(1)
    await until(lambda: site.link("hook").state is LinkState.REFUSED)
    await hook.stop()
    await site.set_webhook(f"{hook.url}/{CANARY}", header="X-Key", header_value=CANARY)
    await until(lambda: site.link("hook").reason == "unreachable")

    assert hook.calls[0].headers["X-Key"] == CANARY
    assert "hook" in caplog.text
    assert CANARY not in caplog.text
    assert CANARY not in repr(site.destinations.links())


async def test_destinations_survive_a_restart(tmp_path: Path, hook: Receiver) -> None:
    async with running_site(tmp_path) as site:
        await site.set_webhook(hook.url, header="X-Key", header_value="v")
        site.alerts.gate.clear()
        await site.accept(1)
    async with running_site(tmp_path) as site:
        await until(lambda: len(hook.calls) == 1)
        assert site.link("hook").address == hook.url
    assert hook.calls[0].headers["X-Key"] == "v"


async def test_a_removed_destination_is_deleted_with_its_waiting_events(tmp_path: Path, hook: Receiver) -> None:
    async with running_site(tmp_path) as site:
        site.alerts.gate.clear()
        await site.set_webhook(hook.url)
        await site.accept(1)
        await site.destinations.remove("hook")
        assert site.destinations.links() == ()
        assert await site.waiting() == 0
        with pytest.raises(RequestRefusedError) as caught:
            await site.destinations.remove("hook")
        assert caught.value.code is Code.UNKNOWN_DESTINATION
    async with running_site(tmp_path) as site:
        assert site.destinations.links() == ()
    assert hook.calls == []


async def test_events_that_could_not_be_settled_are_sent_again(
    site: Site, hook: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle = site.outbox.settle

    async def fail_once(*arguments: object) -> None:
        monkeypatch.setattr(site.outbox, "settle", settle)
        raise StoreError("the disk is full")

    monkeypatch.setattr(site.outbox, "settle", fail_once)
    await site.set_webhook(hook.url)
    await site.accept(1)
    await until(lambda: site.link("hook").reason == "store_failed")
    await until(lambda: site.link("hook").state is LinkState.CONNECTED)

    assert len(hook.calls) == 2
    assert len(set(hook.keys)) == 1


async def test_destinations_fail_independently(site: Site, hook: Receiver) -> None:
    await site.set_webhook(hook.url, name="well")
    await site.set_webhook("http://127.0.0.1:1/", name="away")
    await site.accept(1)
    await until(lambda: site.link("away").state is LinkState.OFFLINE and site.link("away").reason == "unreachable")
    await until(lambda: site.link("well").state is LinkState.CONNECTED)

    assert [link.name for link in site.destinations.links()] == ["away", "well"]
