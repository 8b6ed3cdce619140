"""The status: whose facts it shows, and what makes it news."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from process_cosmos_gateway.api.status import StatusReader, without_ages
from process_cosmos_gateway.contract.codec import encode
from process_cosmos_gateway.contract.destinations import (
    BrokerLink,
    DestinationKind,
    Drop,
    EventKind,
    Link,
    LinkState,
    Priority,
    Recovered,
    StorageState,
)
from process_cosmos_gateway.contract.errors import Code
from process_cosmos_gateway.outbox import DropReason, Limits, Outbox, OutboxFullError
from process_cosmos_gateway.store import Recovered as RecoveredTables
from process_cosmos_gateway.store import StorageHealth, Store, Transaction
from tests.gateway.outbox.parts import event
from tests.gateway.store.parts import HandClock, opened

REFUSED = Link(
    name="cloud",
    kind=DestinationKind.CLOUD,
    address="https://cloud.example",
    kinds=(EventKind.ALERT,),
    state=LinkState.REFUSED,
    state_age=1,
    reason=Code.IDENTITY_CONFLICT,
)


@dataclass
class Owners:
    """What the owners of facts say."""

    counts: Counter[str] = field(default_factory=Counter)
    broker_connected: bool = True
    broker_dropped: int = 0
    gaps: int = 0
    identity_conflict: bool = False
    broker_link: BrokerLink | None = None
    found: tuple[Link, ...] = ()

    def links(self) -> tuple[Link, ...]:
        return self.found


@dataclass
class Desk:
    """A reader with a real outbox and store behind it."""

    store: Store
    outbox: Outbox
    owners: Owners

    def __post_init__(self) -> None:
        owners: Any = self.owners
        self.reader = StatusReader(owners, owners, self.outbox, self.store)


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with opened(tmp_path) as store:
        outbox = Outbox(store, HandClock(), Limits(quota=dict.fromkeys(Priority, 3_000)))
        yield Desk(store, outbox, Owners())


async def test_what_devices_said_in_vain_is_counted_in_the_status_and_is_no_news_by_itself(desk: Desk) -> None:
    desk.owners.counts.update({"garbage": 2, "clock_skewed": 0, Code.TOPIC_TAKEN: 1})
    before = await desk.reader.read()
    desk.owners.counts["garbage"] += 1
    after = await desk.reader.read()
    assert (before.passed_over, after.passed_over) == (
        {"garbage": 2, "topic_taken": 1},
        {"garbage": 3, "topic_taken": 1},
    )
    assert b'"topic_taken":1' in encode(after)
    assert without_ages(before) == without_ages(after)
    assert without_ages(before) != without_ages(replace(after, rejected=1))


async def test_every_drop_is_shown_with_priority_reason_and_count(desk: Desk) -> None:
    def drop(transaction: Transaction) -> None:
        desk.outbox.count_drop(transaction, Priority.READING, DropReason.VOLUME, 7)
        desk.outbox.count_drop(transaction, Priority.READING, DropReason.DISK, 2)
        desk.outbox.count_drop(transaction, Priority.CHANGE, DropReason.EXPIRED, 1)

    assert (await desk.reader.read()).drops == ()
    await desk.store.write(drop)
    status = await desk.reader.read()
    assert status.dropped == 10
    assert status.drops == (
        Drop(priority=Priority.CHANGE, reason="expired", count=1),
        Drop(priority=Priority.READING, reason="disk", count=2),
        Drop(priority=Priority.READING, reason="volume", count=7),
    )


async def test_a_priority_without_room_is_shown(desk: Desk) -> None:
    await desk.outbox.register("cloud", [EventKind.ALERT, EventKind.DEVICE])
    assert (await desk.reader.read()).full == ()
    with suppress(OutboxFullError):
        for number in range(40):
            await desk.outbox.accept(event(f"{number}", kind=EventKind.DEVICE))
    assert (await desk.reader.read()).full == (Priority.URGENT,)


async def test_how_the_disk_does_and_what_was_salvaged_is_shown(desk: Desk) -> None:
    well = await desk.reader.read()
    assert (well.storage, well.storage_reason, well.recovered) == (StorageState.OK, None, None)
    at = datetime(2026, 11, 21, 3, 4, 5, tzinfo=UTC)
    desk.store.recovered = RecoveredTables({"outbox_urgent": 100, "reading": 20}, {"reading": 3}, at)
    desk.store._monitor.health = StorageHealth(StorageState.FULL, "database or disk is full")
    ill = await desk.reader.read()
    assert (ill.storage, ill.storage_reason) == (StorageState.FULL, "database or disk is full")
    assert ill.recovered == Recovered(kept=120, lost=3, at=at)


async def test_what_the_broker_dropped_and_forgot_is_shown(desk: Desk) -> None:
    desk.owners.broker_dropped, desk.owners.gaps = 17, 2
    status = await desk.reader.read()
    assert (status.broker_dropped, status.gaps) == (17, 2)


async def test_a_broker_that_met_another_gateway_of_this_site_is_an_identity_conflict(desk: Desk) -> None:
    assert not (await desk.reader.read()).identity_conflict
    desk.owners.identity_conflict = True
    assert (await desk.reader.read()).identity_conflict


async def test_a_link_that_met_another_gateway_of_this_site_is_an_identity_conflict(desk: Desk) -> None:
    desk.owners.found = (replace(REFUSED, reason="timeout"),)
    assert not (await desk.reader.read()).identity_conflict
    desk.owners.found = (REFUSED,)
    assert (await desk.reader.read()).identity_conflict


async def test_how_the_link_to_the_broker_stands_is_shown_and_is_news(desk: Desk) -> None:
    before = await desk.reader.read()
    desk.owners.broker_link = BrokerLink(reason="login_refused", needs_help=True)
    after = await desk.reader.read()
    assert (before.broker, after.broker) == (None, desk.owners.broker_link)
    assert without_ages(before) != without_ages(after)
