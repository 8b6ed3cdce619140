"""Answers and acknowledgements given at the endpoint are fetched by their site."""

import asyncio
import time
from dataclasses import replace

import apsw
import pytest

from process_cosmos_cloud import server
from process_cosmos_cloud.inbox import add_item, page_after
from process_cosmos_gateway.contract.cloud import InboxItem
from process_cosmos_gateway.contract.durations import LONG_POLL
from process_cosmos_gateway.contract.identifiers import Ulid

from .conftest import NOW, OTHER, SITE
from .endpoint import Site, event

ALERT = Ulid("01J00000000000000000000001")
FIRST, SECOND = Ulid("01M00000000000000000000001"), Ulid("01M00000000000000000000002")


def an_answer(identifier: Ulid, alert: Ulid = ALERT) -> InboxItem:
    """Return an answer as the endpoint's command gives it."""
    return InboxItem(id=identifier, cursor=0, alert=alert, by="x", age=0.0, answer="a")


async def test_a_waiting_poll_ends_as_soon_as_there_is_an_answer(site: Site, connection: apsw.Connection) -> None:
    poll = asyncio.create_task(site.inbox())
    begun = time.monotonic()
    given = InboxItem(id=FIRST, cursor=0, alert=ALERT, by="Ada", age=0.0, revision=3, answer="turn_on_again")
    add_item(connection, Ulid(SITE), given, time.time() - 5)

    [item] = await poll

    assert time.monotonic() - begun < LONG_POLL / 2
    assert 5 <= item.pop("age") < 60
    assert item == {
        "id": FIRST,
        "cursor": 1,
        "alert": ALERT,
        "by": "Ada",
        "revision": 3,
        "answer": "turn_on_again",
        "acknowledge_for": None,
    }


async def test_a_poll_without_items_ends_empty(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "LONG_POLL", 0.0)
    assert await site.inbox() == []


async def test_a_poll_with_wait_0_is_answered_at_once(site: Site) -> None:
    begun = time.monotonic()
    assert await site.poll(0, wait="0") == (200, {"items": [], "newest": 0})
    assert time.monotonic() - begun < LONG_POLL / 2


@pytest.mark.parametrize("number", ["x", "-1", str(10**20)])
async def test_an_invalid_cursor_or_wait_is_refused(site: Site, number: str) -> None:
    for query in ({"after": number}, {"after": "0", "wait": number}):
        status, problem = await site.poll(**query)
        assert (status, problem["code"]) == (400, "malformed")


def test_a_site_sees_its_own_items_after_its_cursor_and_no_others(connection: apsw.Connection) -> None:
    for identifier, site in ((FIRST, SITE), (SECOND, SITE), (Ulid("01M00000000000000000000003"), OTHER)):
        add_item(connection, Ulid(site), an_answer(identifier), NOW)

    first = page_after(connection, Ulid(SITE), 0, NOW)
    rest = page_after(connection, Ulid(SITE), first.items[0].cursor, NOW)

    assert [item.id for item in first.items] == [FIRST, SECOND]
    assert [item.id for item in rest.items] == [SECOND]


async def test_a_cursor_that_was_never_given_is_answered_at_once_and_confirms_nothing(
    site: Site, connection: apsw.Connection
) -> None:
    add_item(connection, Ulid(SITE), an_answer(FIRST), NOW)
    add_item(connection, Ulid(OTHER), an_answer(SECOND), NOW)
    begun = time.monotonic()
    assert await site.poll(3) == (200, {"items": [], "newest": 2})
    assert time.monotonic() - begun < LONG_POLL / 2
    closed = event(1, site.site, type="process_cosmos.alert.resolved.v1", subject=ALERT)
    assert await site.send([closed]) == ["accepted"]
    assert [item["id"] for item in await site.inbox()] == [FIRST]


async def test_the_newest_cursor_stays_after_its_item_is_deleted(site: Site, connection: apsw.Connection) -> None:
    add_item(connection, Ulid(SITE), an_answer(FIRST), NOW)
    await site.poll(1, wait="0")
    closed = event(1, site.site, type="process_cosmos.alert.resolved.v1", subject=ALERT)
    assert await site.send([closed]) == ["accepted"]
    assert await site.poll(0, wait="0") == (200, {"items": [], "newest": 1})


@pytest.mark.parametrize("kind", ["answered", "unanswered", "resolved"])
async def test_a_site_restored_from_a_backup_does_not_get_settled_items_again(
    site: Site, connection: apsw.Connection, kind: str
) -> None:
    for identifier, alert in ((FIRST, ALERT), (SECOND, Ulid("01J00000000000000000000002"))):
        add_item(connection, Ulid(SITE), an_answer(identifier, alert), NOW)
    third = Ulid("01M00000000000000000000003")
    assert [item["id"] for item in await site.inbox()] == [FIRST, SECOND]
    add_item(connection, Ulid(SITE), an_answer(third), NOW)
    assert [item["id"] for item in await site.inbox(2)] == [third]

    closed = event(1, site.site, type=f"process_cosmos.alert.{kind}.v1", subject=ALERT)
    assert await site.send([closed]) == ["accepted"]

    # An answer given too late and not fetched yet stays, so that the site can refuse it.
    assert [item["id"] for item in await site.inbox()] == [SECOND, third]


def test_an_age_is_not_negative_after_the_clock_went_back(connection: apsw.Connection) -> None:
    given = replace(an_answer(FIRST), answer=None, acknowledge_for=60.0)
    add_item(connection, Ulid(SITE), given, NOW)
    [item] = page_after(connection, Ulid(SITE), 0, NOW - 3600).items
    assert (item.age, item.answer, item.acknowledge_for) == (0.0, None, 60.0)
