"""What the outbox does when there is no more room, and how the link is shared."""

from datetime import timedelta
from pathlib import Path

import pytest

from process_cosmos_gateway.contract.destinations import EventKind, Priority, Waiting
from process_cosmos_gateway.outbox import Added, Delivered, DropReason, Event, Limits, Outbox, OutboxFullError
from process_cosmos_gateway.outbox.quotas import MB, READING_BYTES
from process_cosmos_gateway.store import Store
from tests.gateway.store.parts import HandClock

from .parts import ALL, ULIDS, accept, drain, event, measure, names

CHANGE, URGENT, READING = Priority.CHANGE, Priority.URGENT, Priority.READING


def change(number: int, slot: str | None = None) -> Event:
    """Return a change of 400 bytes or so."""
    return event(f"c{number}", priority=CHANGE, slot=slot, data={"name": f"c{number}", "padding": "x" * 200})


def limits(parked: int = MB, **quota: int) -> Limits:
    """Return limits with some quotas small."""
    return Limits(quota={priority: quota.get(priority, MB) for priority in Priority}, overflow_bytes=parked)


async def test_an_away_destination_costs_only_its_own_share(store: Store, clock: HandClock) -> None:
    outbox = Outbox(store, clock, limits(change=10_000, reading=READING_BYTES * 100))
    await outbox.register("here", ALL)
    await outbox.register("away", ALL)
    got: list[str] = []
    for number in range(60):
        await accept(outbox, change(number))
        await measure(store, outbox, number)
        got += await drain(outbox, "here")
    assert sorted(got) == sorted([f"c{number}" for number in range(60)] + [f"m{number}" for number in range(60)])
    depths = await outbox.depths()
    late = await drain(outbox, "away")
    lost = {key: number for key, number in depths.drops.items() if number}
    assert lost == {
        (CHANGE, DropReason.QUOTA): 60 - sum(name[0] == "c" for name in late),
        (READING, DropReason.QUOTA): 60 - sum(name[0] == "m" for name in late),
    }
    assert late[-1] == "m59"
    assert depths.bytes[CHANGE] <= 5_000
    assert (await outbox.depths()).waiting == Waiting()
    assert (await outbox.depths()).bytes == dict.fromkeys(Priority, 0)


async def test_changes_keep_the_newest_of_each_slot_before_the_oldest_are_dropped(
    store: Store, clock: HandClock
) -> None:
    outbox = Outbox(store, clock, limits(change=10_000))
    await outbox.register("away", ALL)
    await accept(outbox, change(0, "rare"), *(change(number, "frequent") for number in range(1, 100)))
    depths = await outbox.depths()
    left = await drain(outbox, "away")
    assert (left[0], left[-1]) == ("c0", "c99")
    assert depths.drops == {(CHANGE, DropReason.SUPERSEDED): 100 - len(left)}


async def test_parked_alarms_leave_in_order_once_there_is_room(store: Store, clock: HandClock) -> None:
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


async def test_beyond_the_reserve_only_the_newest_of_an_alert_is_parked(store: Store, clock: HandClock) -> None:
    outbox = Outbox(store, clock, limits(urgent=600, parked=600))
    await outbox.register("cloud", ALL)
    await accept(outbox, *(event(f"a{number}", key="one") for number in range(10)))
    depths = await outbox.depths()
    got = await drain(outbox, "cloud")
    assert got[-1] == "a9"
    assert depths.drops == {(URGENT, DropReason.SUPERSEDED): 10 - len(got)}


async def test_a_parked_alarm_that_is_withdrawn_is_not_sent(store: Store, clock: HandClock) -> None:
    outbox = Outbox(store, clock, limits(urgent=300))
    await outbox.register("cloud", ALL)
    parked = event("parked", only="cloud")
    await accept(outbox, event("first"), event("second"), parked)
    await store.write(lambda transaction: outbox.withdraw(transaction, parked.id, "cloud"))
    assert await drain(outbox, "cloud") == ["first", "second"]


async def test_a_producers_alarm_without_room_is_refused_and_nothing_of_it_kept(store: Store, clock: HandClock) -> None:
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


async def test_a_change_without_room_is_dropped_and_counted_and_its_id_forgotten(
    store: Store, clock: HandClock
) -> None:
    outbox = Outbox(store, clock, limits(change=300))
    await outbox.register("cloud", ALL)
    long = change(1)
    assert await store.write(lambda transaction: outbox.add(transaction, long)) is Added.DROPPED
    with pytest.raises(OutboxFullError):
        await outbox.accept(long)
    assert (await outbox.depths()).drops == {(CHANGE, DropReason.QUOTA): 1}
    roomy = Outbox(store, clock)
    assert await roomy.accept(long) is Added.ADDED


async def test_a_change_is_dropped_for_a_full_disk_with_its_reason_and_its_id_forgotten(tmp_path: Path) -> None:
    store = await Store.open(tmp_path, ULIDS, free_fn=lambda _: 0)
    outbox, refused = Outbox(store, HandClock()), change(1)
    await outbox.register("cloud", ALL)
    assert await store.write(lambda transaction: outbox.add(transaction, refused)) is Added.DROPPED
    await measure(store, outbox, 1)
    assert (await outbox.depths()).drops == {(CHANGE, DropReason.DISK): 1, (READING, DropReason.DISK): 1}
    assert await outbox.last_own_id_ms() is None
    await store.close()


async def test_a_parked_alarm_expires_at_its_own_time(store: Store, clock: HandClock) -> None:
    outbox = Outbox(store, clock, limits(urgent=300))
    await outbox.register("cloud", ALL)
    soon = clock.now() + timedelta(seconds=10)
    await accept(outbox, event("first"), event("late", expires_at=soon), event("good"))
    clock.advance(10)
    [first] = await outbox.deliveries("cloud", 10)
    depths = await outbox.depths()
    assert (names([first]), depths.waiting.urgent) == (["first"], 2)
    assert depths.drops == {(URGENT, DropReason.EXPIRED): 1}
    assert await drain(outbox, "cloud") == ["first", "good"]
    assert (await outbox.depths()).drops == {(URGENT, DropReason.EXPIRED): 1}


async def test_parked_alarms_leave_also_when_all_before_them_expire_or_are_damaged(
    store: Store, clock: HandClock
) -> None:
    outbox = Outbox(store, clock, limits(urgent=300))
    await outbox.register("cloud", ALL)
    soon = clock.now() + timedelta(seconds=10)
    await accept(outbox, event("late", expires_at=soon), event("parked"), event("behind"))
    clock.advance(10)
    assert names(await outbox.deliveries("cloud", 10)) == ["parked"]
    await store.write(lambda transaction: transaction.run("UPDATE outbox_urgent SET body = CAST('{' AS BLOB)"))
    assert await drain(outbox, "cloud") == ["behind"]


async def test_what_has_expired_makes_room_among_the_parked_before_anything_is_superseded(
    store: Store, clock: HandClock
) -> None:
    outbox = Outbox(store, clock, limits(urgent=300, parked=600))
    await outbox.register("cloud", ALL)
    soon = clock.now() + timedelta(seconds=10)
    await accept(outbox, event("first"), event("late", expires_at=soon), event("a1"))
    clock.advance(10)
    await accept(outbox, event("a2"))
    assert (await outbox.depths()).drops == {(URGENT, DropReason.EXPIRED): 1}
    assert await drain(outbox, "cloud") == ["first", "a1", "a2"]


async def test_expired_events_are_never_sent_but_counted(outbox: Outbox, clock: HandClock) -> None:
    await outbox.register("cloud", ALL)
    soon = clock.now() + timedelta(seconds=10)
    await accept(outbox, event("late", expires_at=soon), event("good"))
    clock.advance(10)
    assert await drain(outbox, "cloud") == ["good"]
    assert (await outbox.depths()).drops == {(URGENT, DropReason.EXPIRED): 1}


async def test_a_damaged_event_is_set_aside_and_never_sent(store: Store, outbox: Outbox) -> None:
    await outbox.register("cloud", ALL)
    await accept(outbox, event("bad"), event("good"))
    flip = "UPDATE outbox_urgent SET body = CAST('{' AS BLOB) WHERE sequence = 1"
    await store.write(lambda transaction: transaction.run(flip))
    assert await drain(outbox, "cloud") == ["good"]
    assert (await outbox.depths()).drops == {(URGENT, DropReason.DAMAGED): 1}
    kept = await store.read(lambda transaction: transaction.rows("SELECT origin FROM quarantine"))
    assert kept == [("outbox_urgent",)]


async def test_an_alarm_overtakes_100_000_measurements(store: Store, outbox: Outbox) -> None:
    await outbox.register("cloud", ALL)
    for begin in range(0, 100_000, 10_000):
        await measure(store, outbox, *range(begin, begin + 10_000))
    await outbox.deliveries("cloud", 10)
    await accept(outbox, event("urgent"))
    first, *_ = await outbox.deliveries("cloud", 10)
    assert names([first]) == ["urgent"]
    assert (await outbox.depths()).waiting == Waiting(urgent=1, reading=100_000)


async def test_measurements_keep_a_tenth_and_changes_a_fifth_of_the_link_under_a_flood_of_alarms(
    store: Store, outbox: Outbox
) -> None:
    await outbox.register("cloud", ALL)
    await measure(store, outbox, *range(20_000))
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
    whole = sum(sent.values())
    assert sent[READING] >= whole / 10
    assert sent[CHANGE] >= whole / 5
    assert sent[URGENT] >= whole / 2
