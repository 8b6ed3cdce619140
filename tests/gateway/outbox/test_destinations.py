"""What the outbox keeps for each destination."""

import asyncio
from dataclasses import replace

import orjson

from process_cosmos_gateway.contract.destinations import EventKind, Priority, Waiting
from process_cosmos_gateway.outbox import Delivered, Outbox, Rejected
from process_cosmos_gateway.store import Store
from tests.gateway.store.parts import HandClock

from .parts import ALL, WITHIN, accept, drain, event


async def test_an_accepted_event_is_stored_as_the_cloud_event_destinations_get(store: Store, outbox: Outbox) -> None:
    await outbox.register("cloud", ALL)
    accepted = event("leak")
    await accept(outbox, accepted)
    [delivery] = await outbox.deliveries("cloud", 10)
    document = orjson.loads(delivery.body)
    assert document["source"] == f"/sites/{store.site}"
    assert (document["id"], document["subject"], document["data"]) == (accepted.id, "key", {"name": "leak"})
    assert (delivery.id, delivery.key, delivery.attempts, delivery.replayed) == (accepted.id, "key", 0, False)


async def test_what_waited_before_a_restart_is_not_waited_for_again(store: Store, clock: HandClock) -> None:
    before = Outbox(store, clock)
    await before.register("cloud", ALL)
    await accept(before, event("leak"))
    after = Outbox(store, clock)
    async with asyncio.timeout(WITHIN):
        await after.wait("cloud")
    assert await drain(after, "cloud") == ["leak"]


async def test_a_destination_a_salvage_saved_without_its_place_gets_what_waits(store: Store, clock: HandClock) -> None:
    before = Outbox(store, clock)
    await before.register("cloud", ALL)
    await accept(before, event("1"), event("2", priority=Priority.CHANGE))
    await store.write(lambda transaction: transaction.run("DELETE FROM outbox_cursor"))
    after = Outbox(store, clock)
    await after.register("cloud", ALL)
    assert (await after.depths()).waiting == Waiting(urgent=1, change=1)
    assert await drain(after, "cloud") == ["1", "2"]


async def test_a_destination_that_wants_alerts_later_hears_of_those_alive(outbox: Outbox) -> None:
    outbox.add_callbacks(on_alert_subscription=lambda _, name: [event("alive", only=name)])
    await outbox.register("hook", (EventKind.DEVICE,))
    assert await drain(outbox, "hook") == []
    await outbox.register("hook", ALL)
    await outbox.register("hook", ALL)
    assert await drain(outbox, "hook") == ["alive"]


async def test_without_a_destination_nothing_is_queued(outbox: Outbox) -> None:
    await accept(outbox, event("1"))
    assert (await outbox.depths()).waiting == Waiting()
    await outbox.register("cloud", ALL)
    assert await drain(outbox, "cloud") == []


async def test_an_event_waits_until_every_destination_that_wants_it_has_confirmed(outbox: Outbox) -> None:
    await outbox.register("cloud", ALL)
    await outbox.register("hook", (EventKind.ALERT,))
    await accept(outbox, event("a"), event("c", priority=Priority.CHANGE))
    assert await drain(outbox, "cloud") == ["a", "c"]
    assert (await outbox.depths()).waiting == Waiting(urgent=1)
    assert await drain(outbox, "hook") == ["a"]
    assert (await outbox.depths()).waiting == Waiting()


async def test_a_destination_that_is_away_keeps_only_its_own_share(outbox: Outbox) -> None:
    await outbox.register("here", ALL)
    await outbox.register("away", ALL)
    await accept(outbox, event("for both"), *(event("for one", only="here") for _ in range(3)))
    await drain(outbox, "here")
    assert (await outbox.depths()).waiting == Waiting(urgent=1)
    assert await drain(outbox, "away") == ["for both"]


async def test_an_event_for_one_destination_reaches_it_although_it_does_not_subscribe(outbox: Outbox) -> None:
    await outbox.register("cloud", (EventKind.DEVICE,))
    await outbox.register("hook", ALL)
    await accept(outbox, event("1", only="cloud"), event("2"), event("3", only="nobody"))
    assert await drain(outbox, "cloud") == ["1"]
    assert await drain(outbox, "hook") == ["2"]
    assert (await outbox.depths()).waiting == Waiting()


async def test_a_new_destination_begins_at_the_end_but_hears_of_what_is_alive(outbox: Outbox) -> None:
    alive = event("alive")
    outbox.add_callbacks(on_alert_subscription=lambda _, destination: [replace(alive, only=destination)])
    await outbox.register("cloud", ALL)
    assert await drain(outbox, "cloud") == ["alive"]
    await accept(outbox, alive)
    await outbox.register("hook", ALL)
    await outbox.register("readings", (EventKind.READING,))
    assert await drain(outbox, "hook") == ["alive"]
    assert await drain(outbox, "readings") == []
    assert await drain(outbox, "cloud") == ["alive"]


async def test_registering_again_keeps_what_waits_and_changes_the_kinds(outbox: Outbox) -> None:
    await outbox.register("cloud", ALL)
    await accept(outbox, event("a"), event("c", priority=Priority.CHANGE))
    await outbox.register("cloud", (EventKind.ALERT,))
    assert (await outbox.depths()).waiting == Waiting(urgent=1)
    assert await drain(outbox, "cloud") == ["a"]


async def test_a_forgotten_destination_takes_along_what_only_it_was_waiting_for(outbox: Outbox) -> None:
    await outbox.register("gone", ALL)
    await outbox.register("here", (EventKind.ALERT,))
    await accept(outbox, event("a"), event("only", only="gone"), event("c", priority=Priority.CHANGE))
    deliveries = await outbox.deliveries("gone", 1)
    await outbox.settle("gone", [(deliveries[0], Rejected("refused_by_destination", "no"))])
    await outbox.unregister("gone")
    depths = await outbox.depths()
    assert (depths.waiting, depths.rejected) == (Waiting(urgent=1), 0)
    assert await outbox.deliveries("gone", 10) == []
    await outbox.settle("gone", [(deliveries[0], Delivered())])
    assert await drain(outbox, "here") == ["a"]


async def test_a_link_that_is_down_is_told_once_until_something_is_delivered(store: Store, outbox: Outbox) -> None:
    heard: list[str] = []
    outbox.add_callbacks(on_unreachable=lambda _, destination: heard.append(destination))
    await outbox.register("cloud", ALL)
    await accept(outbox, event("1"))
    await outbox.mark_unreachable("cloud")
    await outbox.mark_unreachable("cloud")
    assert heard == ["cloud"]
    assert not await store.read(lambda transaction: outbox.is_reachable(transaction, "cloud"))
    await drain(outbox, "cloud")
    assert await store.read(lambda transaction: outbox.is_reachable(transaction, "cloud"))
    assert not await store.read(lambda transaction: outbox.is_reachable(transaction, "nobody"))
    await outbox.mark_unreachable("cloud")
    assert heard == ["cloud", "cloud"]


async def test_waiting_ends_when_there_is_something_to_send(outbox: Outbox) -> None:
    await outbox.register("cloud", ALL)
    assert await outbox.deliveries("cloud", 1) == []
    waiting = asyncio.create_task(outbox.wait_for_events("cloud"))
    await asyncio.sleep(0)
    assert not waiting.done()
    await accept(outbox, event("1"))
    await asyncio.wait_for(waiting, WITHIN)
    await outbox.deliveries("cloud", 1)
    await asyncio.wait_for(outbox.wait_for_events("cloud"), WITHIN)  # it was not settled
