"""A destination that cannot be used as stored is listed with the reason until set again or removed."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from process_cosmos_gateway.contract.destinations import (
    ChangeDestination,
    DestinationKind,
    EventKind,
    Link,
    LinkState,
    TestDestination,
)
from process_cosmos_gateway.contract.errors import Code
from process_cosmos_gateway.destinations.settings import CloudSettings, WebhookSettings, load_kinds, save
from process_cosmos_gateway.destinations.unusable import UnusableDestinations
from process_cosmos_gateway.errors import RequestRefusedError, StoreError
from process_cosmos_gateway.store import Transaction
from tests.cloud.endpoint import endpoint_process
from tests.gateway.store.parts import HandClock
from tests.support.waiting import until

from .conftest import Site, running_site
from .parts import Receiver
from .test_cloud_replies import enrolled

NAME = "bad"
ENDPOINT = "https://endpoint.example:8443"


async def listed(site: Site) -> Link:
    """Return the state of the destination, once the destinations run."""
    await until(lambda: any(link.name == NAME for link in site.destinations.links()))
    return site.link(NAME)


async def not_reached(site: Site) -> None:
    """Wait until the outbox reports that no event reaches the destination."""
    async with asyncio.timeout(20):
        while await site.store.read(lambda transaction: site.outbox.is_reachable(transaction, NAME)):
            pass


async def spoil(site: Site, hook: Receiver, change: Callable[[Transaction], object]) -> None:
    """Enqueue one event for the destination, change its row with ``change``, and set up a second one that works."""
    site.alerts.gate.clear()
    await site.set_webhook(hook.url, NAME)
    await site.set_webhook(hook.url, "good")
    await site.accept(1)
    await site.store.write(change)
    await site.restart()


def unreadable(transaction: Transaction) -> None:
    transaction.run("UPDATE destination SET settings = x'7b' WHERE name = ?", NAME)


def of_another_kind(transaction: Transaction) -> None:
    transaction.run("UPDATE destination SET kind = 'pigeon' WHERE name = ?", NAME)


@pytest.fixture
def with_wrong_key(tmp_path: Path) -> Callable[[Transaction], object]:
    credentials = replace(enrolled(tmp_path / "ca"), key=enrolled(tmp_path / "other").key)
    kinds = (EventKind.ALERT,)
    settings = CloudSettings(name=NAME, kinds=kinds, url=ENDPOINT, credentials=credentials, label="Head office")
    return lambda transaction: save(transaction, settings)


async def test_a_destination_whose_credentials_cannot_be_used_is_listed_and_removed_with_its_queue(
    site: Site, hook: Receiver, with_wrong_key: Callable[[Transaction], None]
) -> None:
    await spoil(site, hook, with_wrong_key)
    link = await listed(site)
    assert (link.kind, link.address, link.label) == (DestinationKind.CLOUD, ENDPOINT, "Head office")
    assert (link.state, link.reason) == (LinkState.REFUSED, "store_row_unreadable")
    assert link.state_age is not None
    await not_reached(site)
    with pytest.raises(RequestRefusedError) as caught:
        await site.destinations.test(TestDestination(id="1", name=NAME))
    assert caught.value.code is Code.ENROLMENT_REFUSED
    site.alerts.gate.set()
    await until(lambda: site.link("good").state is LinkState.CONNECTED)
    assert await site.waiting() == 1
    await site.destinations.remove(NAME)
    assert [link.name for link in site.destinations.links()] == ["good"]
    assert await site.waiting() == 0
    await site.restart()
    await until(lambda: bool(site.destinations.links()))
    assert [link.name for link in site.destinations.links()] == ["good"]


@pytest.mark.parametrize("change", [unreadable, of_another_kind])
async def test_a_destination_whose_row_cannot_be_read_is_listed_and_removed_with_its_queue(
    site: Site, hook: Receiver, change: Callable[[Transaction], None]
) -> None:
    await spoil(site, hook, change)
    link = await listed(site)
    assert (link.kind, link.address, link.reason) == (DestinationKind.WEBHOOK, "-", "store_row_unreadable")
    await not_reached(site)
    await site.destinations.remove(NAME)
    site.alerts.gate.set()
    await until(lambda: len(hook.calls) == 1)
    assert [link.name for link in site.destinations.links()] == ["good"]
    assert await site.store.read(load_kinds) == {"good": DestinationKind.WEBHOOK}
    with pytest.raises(RequestRefusedError) as caught:
        await site.destinations.remove(NAME)
    assert caught.value.code is Code.UNKNOWN_DESTINATION


async def test_a_destination_that_cannot_be_deleted_stays_listed(
    site: Site, hook: Receiver, monkeypatch: pytest.MonkeyPatch, with_wrong_key: Callable[[Transaction], None]
) -> None:
    async def refuse(*_: object) -> None:
        raise StoreError("the disk is full")

    await spoil(site, hook, with_wrong_key)
    before = await listed(site)
    await not_reached(site)
    with monkeypatch.context() as broken:
        broken.setattr(site.store, "write", refuse)
        with pytest.raises(StoreError):
            await site.destinations.remove(NAME)
    assert replace(site.link(NAME), state_age=before.state_age) == before
    await site.destinations.remove(NAME)


async def test_a_change_with_an_address_delivers_the_waiting_events(site: Site, hook: Receiver) -> None:
    await spoil(site, hook, unreadable)
    await listed(site)
    with pytest.raises(RequestRefusedError) as caught:
        await site.destinations.change(ChangeDestination(id="1", name=NAME, label="Hook"))
    assert caught.value.code is Code.UNKNOWN_DESTINATION
    await site.destinations.change(
        ChangeDestination(id="1", name=NAME, label="Hook", url=f"{hook.url}/anew", header="X-Key", header_value="v")
    )
    site.alerts.gate.set()
    await until(lambda: len(hook.calls) == 2)
    assert {(call.path, call.headers.get("X-Key")) for call in hook.calls} == {("/", None), ("/anew", "v")}
    await until(lambda: site.link(NAME).state is LinkState.CONNECTED)
    assert site.link(NAME).label == "Hook"


async def test_a_new_enrolment_delivers_the_waiting_events(
    tmp_path: Path, hook: Receiver, with_wrong_key: Callable[[Transaction], None]
) -> None:
    async with endpoint_process(tmp_path / "cloud") as cloud, running_site(tmp_path / "gateway") as site:
        await spoil(site, hook, with_wrong_key)
        await listed(site)
        await site.set_cloud(await cloud.code(), NAME)
        site.alerts.gate.set()
        await until(lambda: site.link(NAME).state is LinkState.CONNECTED)
        assert len(await cloud.ledger()) == 1


@pytest.mark.parametrize(
    ("url", "shown"), [("https://hook.example/s3cret?token=s3cret", "https://hook.example:443"), ("no address", "-")]
)
def test_the_address_of_a_webhook_is_shown_without_its_secrets_or_not_at_all(url: str, shown: str) -> None:
    unusable = UnusableDestinations(HandClock())
    settings = WebhookSettings(name=NAME, kinds=(EventKind.DEVICE,), url=url, label="Hook")
    unusable.add(NAME, DestinationKind.WEBHOOK, settings)
    [link] = unusable.links()
    assert (link.address, link.label, link.state) == (shown, "Hook", LinkState.REFUSED)
