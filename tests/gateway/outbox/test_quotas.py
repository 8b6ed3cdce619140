"""Quotas: eviction, alerts beyond their quota, and refusals; and the shares of the link."""

from pathlib import Path

import pytest

from process_cosmos_gateway.contract.destinations import EventKind, Priority, Waiting
from process_cosmos_gateway.outbox import Added, Delivered, DropReason, Event, Limits, Outbox, OutboxFullError
from process_cosmos_gateway.outbox.quotas import MB, READING_BYTES
from process_cosmos_gateway.store import Store
from tests.gateway.store.parts import HandClock

from .parts import ALL, ULIDS, accept, drain, enqueue_readings, event, names

CHANGE, URGENT, READING = Priority.CHANGE, Priority.URGENT, Priority.READING


def change(number: int, slot: str | None = None) -> Event:
    """Return a change of about 400 bytes."""
    return event(f"c{number}", priority=CHANGE, slot=slot, data={"name": f"c{number}", "padding": "x" * 200})


def limits(overflow: int = MB, **quota: int) -> Limits:
    """Return limits of 1 MiB, except for the given quotas."""
    return Limits(quota={priority: quota.get(priority, MB) for priority in Priority}, overflow_bytes=overflow)


async def test_an_offline_destination_uses_only_its_own_share(store: Store, clock: HandClock) -> None:
    outbox = Outbox(store, clock, limits(change=10_000, reading=READING_BYTES * 100))
    await outbox.register("online", ALL)
    await outbox.register("offline", ALL)
    received: list[str] = []
    for number in range(60):
        await accept(outbox, change(number))
        await enqueue_readings(store, outbox, number)
        received += await drain(outbox, "online")
    assert sorted(received) == sorted([f"c{number}" for number in range(60)] + [f"m{number}" for number in range(60)])
    depths = await outbox.depths()
    late = await drain(outbox, "offline")
    lost = {key: number for key, number in depths.drops.items() if number}
    assert lost == {
        (CHANGE, DropReason.QUOTA): 60 - sum(name[0] == "c" for name in late),
        (READING, DropReason.QUOTA): 60 - sum(name[0] == "m" for name in late),
    }
    assert late[-1] == "m59"
    assert depths.bytes[CHANGE] <= 5_000
    assert (await outbox.depths()).waiting == Waiting()
    assert (await outbox.depths()).bytes == dict.fromkeys(Priority, 0)


async def test_superseded_changes_are_dropped_before_the_oldest(store: Store, clock: HandClock) -> None:
    outbox = Outbox(store, clock, limits(change=10_000))
    await outbox.register("offline", ALL)
    await accept(outbox, change(0, "rare"), *(change(number, "frequent") for number in range(1, 100)))
    depths = await outbox.depths()
    left = await drain(outbox, "offline")
    assert (left[0], left[-1]) == ("c0", "c99")
    assert depths.drops == {(CHANGE, DropReason.SUPERSEDED): 100 - len(left)}


async def test_alerts_beyond_their_share_are_neither_refused_nor_reordered(store: Store, clock: HandClock) -> None:
    outbox = Outbox(store, clock, limits(urgent=2_000))
    await outbox.register("cloud", ALL)
    await outbox.register("quick", ALL)
    for number in range(20):
        await accept(outbox, event(f"a{number}", key=f"alert {number}"))
        assert await drain(outbox, "quick") == [f"a{number}"]
    depths = await outbox.depths()
    assert (depths.waiting.urgent, URGENT in depths.full, dict(depths.drops)) == (20, True, {})
    assert await drain(outbox, "cloud") == [f"a{number}" for number in range(20)]
    assert (await outbox.depths()).waiting == Waiting()


async def test_far_beyond_the_share_only_the_newest_event_of_an_alert_stays(store: Store, clock: HandClock) -> None:
    outbox = Outbox(store, clock, limits(urgent=600, overflow=600))
    await outbox.register("cloud", ALL)
    await accept(outbox, *(event(f"a{number}", key="one", slot="one") for number in range(10)))
    await accept(outbox, event("other", key="two", slot="two"), event("request", key="one", slot="one/request"))
    depths = await outbox.depths()
    received = await drain(outbox, "cloud")
    assert received[-3:] == ["a9", "other", "request"]
    assert depths.drops == {(URGENT, DropReason.SUPERSEDED): 12 - len(received)}


async def test_an_event_withdrawn_beyond_the_share_is_not_sent(store: Store, clock: HandClock) -> None:
    outbox = Outbox(store, clock, limits(urgent=300))
    await outbox.register("cloud", ALL)
    overflowing = event("overflowing", only="cloud")
    await accept(outbox, event("first"), event("second"), overflowing)
    await store.write(lambda transaction: outbox.withdraw(transaction, overflowing.id, "cloud"))
    assert await drain(outbox, "cloud") == ["first", "second"]


async def test_an_urgent_event_of_no_alert_without_room_is_refused_and_not_stored(
    store: Store, clock: HandClock
) -> None:
    outbox = Outbox(store, clock, limits(urgent=300))
    await outbox.register("cloud", ALL)
    first, second = (event(name, kind=EventKind.DEVICE) for name in ("first", "second"))
    await accept(outbox, first)
    with pytest.raises(OutboxFullError):
        await outbox.accept(second)
    with pytest.raises(OutboxFullError):
        await store.write(lambda transaction: outbox.add(transaction, second))
    assert await drain(outbox, "cloud") == ["first"]
    assert await outbox.accept(second) is Added.ADDED


async def test_a_change_without_room_is_dropped_and_counted_and_its_id_not_stored(
    store: Store, clock: HandClock
) -> None:
    outbox = Outbox(store, clock, limits(change=300))
    await outbox.register("cloud", ALL)
    long = change(1)
    assert await store.write(lambda transaction: outbox.add(transaction, long)) is Added.DROPPED
    with pytest.raises(OutboxFullError):
        await outbox.accept(long)
    assert (await outbox.depths()).drops == {(CHANGE, DropReason.QUOTA): 1}
    larger = Outbox(store, clock)
    assert await larger.accept(long) is Added.ADDED


async def test_a_full_disk_drops_a_change_with_its_reason_and_without_its_id(tmp_path: Path) -> None:
    store = await Store.open(tmp_path, ULIDS, free_fn=lambda _: 0)
    outbox, refused = Outbox(store, HandClock()), change(1)
    await outbox.register("cloud", ALL)
    assert await store.write(lambda transaction: outbox.add(transaction, refused)) is Added.DROPPED
    await enqueue_readings(store, outbox, 1)
    assert (await outbox.depths()).drops == {(CHANGE, DropReason.DISK): 1, (READING, DropReason.DISK): 1}
    assert await outbox.last_own_id_ms() is None
    await store.close()


async def test_a_damaged_event_is_quarantined_and_never_sent(store: Store, outbox: Outbox) -> None:
    await outbox.register("cloud", ALL)
    await accept(outbox, event("bad"), event("good"))
    flip = "UPDATE outbox_urgent SET body = CAST('{' AS BLOB) WHERE sequence = 1"
    await store.write(lambda transaction: transaction.run(flip))
    assert await drain(outbox, "cloud") == ["good"]
    assert (await outbox.depths()).drops == {(URGENT, DropReason.DAMAGED): 1}
    kept = await store.read(lambda transaction: transaction.rows("SELECT origin FROM quarantine"))
    assert kept == [("outbox_urgent",)]


async def test_an_urgent_event_overtakes_100_000_readings(store: Store, outbox: Outbox) -> None:
    await outbox.register("cloud", ALL)
    for begin in range(0, 100_000, 10_000):
        await enqueue_readings(store, outbox, *range(begin, begin + 10_000))
    await outbox.deliveries("cloud", 10)
    await accept(outbox, event("urgent"))
    first, *_ = await outbox.deliveries("cloud", 10)
    assert names([first]) == ["urgent"]
    assert (await outbox.depths()).waiting == Waiting(urgent=1, reading=100_000)


async def test_readings_keep_a_tenth_and_changes_a_fifth_of_the_link_under_a_flood_of_urgent_events(
    store: Store, outbox: Outbox
) -> None:
    await outbox.register("cloud", ALL)
    await enqueue_readings(store, outbox, *range(20_000))
    await store.write(
        lambda transaction: [
            outbox.add(transaction, each)
            for number in range(5_000)
            for each in (change(number), event(f"a{number}", data={"padding": "x" * 200}))
        ]
    )
    sent = dict.fromkeys(Priority, 0)
    while sum(sent.values()) < 1_500_000:
        deliveries = await outbox.deliveries("cloud", 500)
        assert deliveries[0].priority is URGENT or sent[URGENT]
        for delivery in deliveries:
            sent[delivery.priority] += len(delivery.body)
        await outbox.settle("cloud", [(delivery, Delivered()) for delivery in deliveries])
    total = sum(sent.values())
    assert sent[READING] >= total / 10
    assert sent[CHANGE] >= total / 5
    assert sent[URGENT] >= total / 2
