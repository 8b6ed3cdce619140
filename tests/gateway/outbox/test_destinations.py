"""Registration of destinations, and the events the outbox stores for each."""

import asyncio
from dataclasses import replace

import orjson

from process_cosmos_gateway.contract.destinations import EventKind, Priority, Waiting
from process_cosmos_gateway.outbox import Delivered, Outbox, Rejected
from process_cosmos_gateway.store import Store
from tests.gateway.store.parts import HandClock

from .parts import ALL, WITHIN, accept, drain, event


async def test_an_accepted_event_is_stored_as_the_cloud_event_destinations_receive(
    store: Store, outbox: Outbox
) -> None:
    await outbox.register("cloud", ALL)
    accepted = event("leak")
    await accept(outbox, accepted)
    [delivery] = await outbox.deliveries("cloud", 10)
    document = orjson.loads(delivery.body)
    assert document["source"] == f"/sites/{store.site}"
    assert (document["id"], document["subject"], document["data"]) == (accepted.id, "key", {"name": "leak"})
    assert (delivery.id, delivery.key, delivery.attempts, delivery.replayed) == (accepted.id, "key", 0, False)


async def test_events_pending_before_a_restart_are_available_at_once(store: Store, clock: HandClock) -> None:
    before = Outbox(store, clock)
    await before.register("cloud", ALL)
    await accept(before, event("leak"))
    after = Outbox(store, clock)
    async with asyncio.timeout(WITHIN):
        await after.wait_for_events("cloud")
    assert await drain(after, "cloud") == ["leak"]


async def test_a_later_subscription_to_alerts_starts_with_the_open_alerts(outbox: Outbox) -> None:
    outbox.add_callbacks(on_alert_subscription=lambda _, name: [event("open", only=name)])
    await outbox.register("hook", (EventKind.DEVICE,))
    assert await drain(outbox, "hook") == []
    await outbox.register("hook", ALL)
    await outbox.register("hook", ALL)
    assert await drain(outbox, "hook") == ["open"]


async def test_without_a_destination_nothing_is_queued(outbox: Outbox) -> None:
    await accept(outbox, event("1"))
    assert (await outbox.depths()).waiting == Waiting()
    await outbox.register("cloud", ALL)
    assert await drain(outbox, "cloud") == []


async def test_an_event_is_pending_until_all_its_destinations_have_confirmed(outbox: Outbox) -> None:
    await outbox.register("cloud", ALL)
    await outbox.register("hook", (EventKind.ALERT,))
    await accept(outbox, event("a"), event("c", priority=Priority.CHANGE))
    assert await drain(outbox, "cloud") == ["a", "c"]
    assert (await outbox.depths()).waiting == Waiting(urgent=1)
    assert await drain(outbox, "hook") == ["a"]
    assert (await outbox.depths()).waiting == Waiting()


async def test_an_offline_destination_keeps_only_its_own_events(outbox: Outbox) -> None:
    await outbox.register("online", ALL)
    await outbox.register("offline", ALL)
    await accept(outbox, event("for both"), *(event("for one", only="online") for _ in range(3)))
    await drain(outbox, "online")
    assert (await outbox.depths()).waiting == Waiting(urgent=1)
    assert await drain(outbox, "offline") == ["for both"]


async def test_an_event_for_one_destination_reaches_it_without_a_subscription(outbox: Outbox) -> None:
    await outbox.register("cloud", (EventKind.DEVICE,))
    await outbox.register("hook", ALL)
    await accept(outbox, event("1", only="cloud"), event("2"), event("3", only="unknown"))
    assert await drain(outbox, "cloud") == ["1"]
    assert await drain(outbox, "hook") == ["2"]
    assert (await outbox.depths()).waiting == Waiting()


async def test_a_new_destination_starts_at_the_end_with_the_open_alerts(outbox: Outbox) -> None:
    open_alert = event("open_alert")
    outbox.add_callbacks(on_alert_subscription=lambda _, destination: [replace(open_alert, only=destination)])
    await outbox.register("cloud", ALL)
    assert await drain(outbox, "cloud") == ["open_alert"]
    await accept(outbox, open_alert)
    await outbox.register("hook", ALL)
    await outbox.register("readings", (EventKind.READING,))
    assert await drain(outbox, "hook") == ["open_alert"]
    assert await drain(outbox, "readings") == []
    assert await drain(outbox, "cloud") == ["open_alert"]


async def test_registering_again_keeps_pending_events_and_changes_the_kinds(outbox: Outbox) -> None:
    await outbox.register("cloud", ALL)
    await accept(outbox, event("a"), event("c", priority=Priority.CHANGE))
    await outbox.register("cloud", (EventKind.ALERT,))
    assert (await outbox.depths()).waiting == Waiting(urgent=1)
    assert await drain(outbox, "cloud") == ["a"]


async def test_unregistering_a_destination_deletes_events_pending_for_it_alone(outbox: Outbox) -> None:
    await outbox.register("removed", ALL)
    await outbox.register("online", (EventKind.ALERT,))
    await accept(outbox, event("a"), event("only", only="removed"), event("c", priority=Priority.CHANGE))
    deliveries = await outbox.deliveries("removed", 1)
    await outbox.settle("removed", [(deliveries[0], Rejected("refused_by_destination", "no"))])
    await outbox.unregister("removed")
    depths = await outbox.depths()
    assert (depths.waiting, depths.rejected) == (Waiting(urgent=1), 0)
    assert await outbox.deliveries("removed", 10) == []
    await outbox.settle("removed", [(deliveries[0], Delivered())])
    assert await drain(outbox, "online") == ["a"]


async def test_an_unreachable_destination_is_reported_once_until_a_delivery(store: Store, outbox: Outbox) -> None:
    reported: list[str] = []
    outbox.add_callbacks(on_unreachable=lambda _, destination: reported.append(destination))
    await outbox.register("cloud", ALL)
    await accept(outbox, event("1"))
    await outbox.mark_unreachable("cloud")
    await outbox.mark_unreachable("cloud")
    assert reported == ["cloud"]
    assert not await store.read(lambda transaction: outbox.is_reachable(transaction, "cloud"))
    await drain(outbox, "cloud")
    assert await store.read(lambda transaction: outbox.is_reachable(transaction, "cloud"))
    assert not await store.read(lambda transaction: outbox.is_reachable(transaction, "unknown"))
    await outbox.mark_unreachable("cloud")
    assert reported == ["cloud", "cloud"]


async def test_wait_for_events_returns_when_an_event_can_be_sent(outbox: Outbox) -> None:
    await outbox.register("cloud", ALL)
    assert await outbox.deliveries("cloud", 1) == []
    waiting = asyncio.create_task(outbox.wait_for_events("cloud"))
    await asyncio.sleep(0)
    assert not waiting.done()
    await accept(outbox, event("1"))
    await asyncio.wait_for(waiting, WITHIN)
    await outbox.deliveries("cloud", 1)
    await asyncio.wait_for(outbox.wait_for_events("cloud"), WITHIN)  # the event is not settled yet
