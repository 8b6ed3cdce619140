"""Contents of the status, and which changes cause a new message."""

import asyncio
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
class FakeSources:
    """Fake of devices and destinations as sources of the status."""

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
class StatusHarness:
    """Status reader with a real outbox and store."""

    store: Store
    outbox: Outbox
    sources: FakeSources

    def __post_init__(self) -> None:
        sources: Any = self.sources
        self.reader = StatusReader(sources, sources, self.outbox, self.store, asyncio.Event())


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[StatusHarness]:
    async with opened(tmp_path) as store:
        outbox = Outbox(store, HandClock(), Limits(quota=dict.fromkeys(Priority, 3_000)))
        yield StatusHarness(store, outbox, FakeSources())


async def test_ignored_device_messages_are_counted_and_cause_no_new_status(harness: StatusHarness) -> None:
    harness.sources.counts.update({"garbage": 2, "clock_skewed": 0, Code.TOPIC_TAKEN: 1})
    before = await harness.reader.read()
    harness.sources.counts["garbage"] += 1
    after = await harness.reader.read()
    assert (before.passed_over, after.passed_over) == (
        {"garbage": 2, "topic_taken": 1},
        {"garbage": 3, "topic_taken": 1},
    )
    assert b'"topic_taken":1' in encode(after)
    assert without_ages(before) == without_ages(after)
    assert without_ages(before) != without_ages(replace(after, rejected=1))


async def test_drops_are_shown_with_priority_reason_and_count(harness: StatusHarness) -> None:
    def drop(transaction: Transaction) -> None:
        harness.outbox.count_drop(transaction, Priority.READING, DropReason.VOLUME, 7)
        harness.outbox.count_drop(transaction, Priority.READING, DropReason.DISK, 2)
        harness.outbox.count_drop(transaction, Priority.CHANGE, DropReason.SUPERSEDED, 1)

    assert (await harness.reader.read()).drops == ()
    await harness.store.write(drop)
    status = await harness.reader.read()
    assert status.dropped == 10
    assert status.drops == (
        Drop(priority=Priority.CHANGE, reason="superseded", count=1),
        Drop(priority=Priority.READING, reason="disk", count=2),
        Drop(priority=Priority.READING, reason="volume", count=7),
    )


async def test_a_full_priority_is_shown(harness: StatusHarness) -> None:
    await harness.outbox.register("cloud", [EventKind.ALERT, EventKind.DEVICE])
    assert (await harness.reader.read()).full == ()
    with suppress(OutboxFullError):
        for number in range(40):
            await harness.outbox.accept(event(f"{number}", kind=EventKind.DEVICE))
    assert (await harness.reader.read()).full == (Priority.URGENT,)


async def test_storage_state_and_recovery_are_shown(harness: StatusHarness) -> None:
    healthy = await harness.reader.read()
    assert (healthy.storage, healthy.storage_reason, healthy.recovered) == (StorageState.OK, None, None)
    at = datetime(2026, 11, 21, 3, 4, 5, tzinfo=UTC)
    harness.store.recovered = RecoveredTables({"outbox_urgent": 100, "reading": 20}, {"reading": 3}, at)
    harness.store._monitor.health = StorageHealth(StorageState.FULL, "database or disk is full")
    failed = await harness.reader.read()
    assert (failed.storage, failed.storage_reason) == (StorageState.FULL, "database or disk is full")
    assert failed.recovered == Recovered(kept=120, lost=3, at=at)


async def test_messages_and_sessions_lost_by_the_broker_are_shown(harness: StatusHarness) -> None:
    harness.sources.broker_dropped, harness.sources.gaps = 17, 2
    status = await harness.reader.read()
    assert (status.broker_dropped, status.gaps) == (17, 2)


async def test_another_gateway_of_this_site_at_the_broker_is_an_identity_conflict(harness: StatusHarness) -> None:
    assert not (await harness.reader.read()).identity_conflict
    harness.sources.identity_conflict = True
    assert (await harness.reader.read()).identity_conflict


async def test_another_gateway_of_this_site_at_a_destination_is_an_identity_conflict(harness: StatusHarness) -> None:
    harness.sources.found = (replace(REFUSED, reason="timeout"),)
    assert not (await harness.reader.read()).identity_conflict
    harness.sources.found = (REFUSED,)
    assert (await harness.reader.read()).identity_conflict


async def test_the_state_of_the_broker_connection_is_shown_and_causes_a_new_status(harness: StatusHarness) -> None:
    before = await harness.reader.read()
    harness.sources.broker_link = BrokerLink(reason="login_refused", needs_help=True)
    after = await harness.reader.read()
    assert (before.broker, after.broker) == (None, harness.sources.broker_link)
    assert without_ages(before) != without_ages(after)
