"""Events that fail temporarily, turn into poison, or are rejected."""

import asyncio
from pathlib import Path

import orjson

from process_cosmos_gateway.contract.destinations import Priority, Waiting
from process_cosmos_gateway.outbox import Delivered, DeliveryResult, Failed, Limits, Outbox, Rejected
from process_cosmos_gateway.store import Store
from tests.gateway.store.parts import HandClock, opened

from .parts import ALL, WITHIN, accept, drain, enqueue_readings, event, names


async def test_a_failed_event_holds_back_its_key_and_lets_others_pass(outbox: Outbox, clock: HandClock) -> None:
    await outbox.register("cloud", ALL)
    await accept(outbox, event("a1", "a"), event("b1", "b"), event("a2", "a"), event("b2", "b"))
    first, *_ = await outbox.deliveries("cloud", 1)
    await outbox.settle("cloud", [(first, Failed("timeout"))])
    assert await drain(outbox, "cloud") == ["b1", "b2"]
    clock.advance(1)
    [again] = await outbox.deliveries("cloud", 10)
    assert (names([again]), again.attempts) == (["a1"], 1)
    await outbox.settle("cloud", [(again, Delivered())])
    assert await drain(outbox, "cloud") == ["a2"]
    assert (await outbox.depths()).waiting == Waiting()


async def test_events_behind_a_failed_one_wait_also_after_a_restart(tmp_path: Path, clock: HandClock) -> None:
    async with opened(tmp_path) as store:
        outbox = Outbox(store, clock)
        await outbox.register("cloud", ALL)
        await accept(outbox, event("a1", "a"), event("a2", "a"), event("b1", "b"))
        first, *_ = await outbox.deliveries("cloud", 10)
        await outbox.settle("cloud", [(first, Failed("timeout"))])
    async with opened(tmp_path) as store:
        outbox = Outbox(store, clock)
        assert names(await outbox.deliveries("cloud", 10)) == ["a1", "b1"]


async def test_a_batch_settled_in_part_leaves_the_rest_in_order(outbox: Outbox) -> None:
    await outbox.register("cloud", ALL)
    await accept(outbox, *(event(str(number), key=f"k{number % 2}") for number in range(6)))
    deliveries = await outbox.deliveries("cloud", 6)
    await outbox.settle("cloud", [(deliveries[1], Delivered()), (deliveries[3], Delivered())])
    assert await drain(outbox, "cloud", limit=2) == ["0", "2", "4", "5"]


async def test_busy_keys_are_skipped_and_other_keys_behind_them_are_returned(outbox: Outbox) -> None:
    await outbox.register("hook", ALL)
    await accept(outbox, *(event(f"a{number}", "a") for number in range(20)), event("b1", "b"), event("c1", "c"))
    busy = [(Priority.URGENT, "a"), (Priority.URGENT, "c")]
    found = await outbox.deliveries("hook", 5, busy=busy)
    assert names(found) == ["b1"]
    await outbox.settle("hook", [(found[0], Delivered())])
    assert await outbox.deliveries("hook", 5, busy=busy) == []
    assert names(await outbox.deliveries("hook", 2)) == ["a0", "a1"]
    assert len(await drain(outbox, "hook", limit=5)) == 21


async def test_only_the_requested_priorities_are_returned(store: Store, outbox: Outbox) -> None:
    await outbox.register("hook", ALL)
    await accept(outbox, event("urgent"), event("change", priority=Priority.CHANGE))
    await enqueue_readings(store, outbox, 1.0)
    for priorities, expected in (((Priority.URGENT,), ["urgent"]), ((Priority.CHANGE,), ["change"]), ((), [])):
        assert names(await outbox.deliveries("hook", 5, priorities=priorities)) == expected
    batches = await outbox.deliveries("hook", 5, priorities=[Priority.READING])
    assert names(batches) == ["m1"]
    assert await outbox.deliveries("hook", 5, busy=[(each.priority, each.key) for each in batches]) != batches


async def test_each_failure_doubles_the_backoff_up_to_a_limit(outbox: Outbox, clock: HandClock) -> None:
    await outbox.register("cloud", ALL)
    await accept(outbox, event("1"))
    delays = []
    for _ in range(8):
        [delivery] = await outbox.deliveries("cloud", 1)
        await outbox.settle("cloud", [(delivery, Failed("timeout"))])
        seconds = 0
        while not await outbox.deliveries("cloud", 1):
            clock.advance(1)
            seconds += 1
        delays.append(seconds)
    assert delays == [1, 2, 4, 8, 16, 32, 60, 60]


async def test_an_event_that_fails_while_others_are_delivered_is_rejected_as_poison(
    store: Store, clock: HandClock
) -> None:
    outbox = Outbox(store, clock, Limits(longest_backoff=0))
    settled: dict[str, DeliveryResult] = {}
    outbox.add_callbacks(on_settled=lambda _, __, delivery, result: settled.update({names([delivery])[0]: result}))
    await outbox.register("cloud", ALL)
    await accept(outbox, event("poison", "bad"), event("after poison", "bad"))
    for number in range(20):
        assert (await outbox.depths()).rejected == 0
        await accept(outbox, event(f"good {number}", "good"))
        deliveries = dict(zip(names(found := await outbox.deliveries("cloud", 10)), found, strict=True))
        await outbox.settle(
            "cloud", [(deliveries["poison"], Failed("HTTP 500")), (deliveries[f"good {number}"], Delivered())]
        )
    [rejected] = await outbox.rejected()
    assert (rejected.code, rejected.destination) == ("poison", "cloud")
    assert "HTTP 500" in rejected.message
    assert isinstance(settled["poison"], Rejected)
    assert await drain(outbox, "cloud") == ["after poison"]


async def test_an_event_that_fails_while_nothing_is_delivered_is_never_poison(store: Store, clock: HandClock) -> None:
    outbox = Outbox(store, clock, Limits(longest_backoff=0))
    await outbox.register("cloud", ALL)
    await accept(outbox, event("1"))
    for _ in range(50):
        [delivery] = await outbox.deliveries("cloud", 1)
        await outbox.settle("cloud", [(delivery, Failed("timeout"))])
    assert (await outbox.depths()).rejected == 0
    assert await drain(outbox, "cloud") == ["1"]


async def test_further_events_behind_a_poison_event_delay_no_other_key(store: Store, clock: HandClock) -> None:
    outbox = Outbox(store, clock, Limits(unsettled=5))
    await outbox.register("cloud", ALL)
    await accept(outbox, event("poison", "bad"))
    delivered: list[str] = []
    while not (await outbox.depths()).rejected:
        number = len(delivered)
        await accept(
            outbox, event(f"bad {number}", "bad"), event(f"bad too {number}", "bad"), event(str(number), "good")
        )
        deliveries = list(
            {delivery.key: delivery for delivery in reversed(await outbox.deliveries("cloud", 10))}.values()
        )
        sent = names(deliveries)  # the first event of each key, as a webhook receives them
        await outbox.settle(
            "cloud",
            [
                (each, Failed("500") if name == "poison" else Delivered())
                for each, name in zip(deliveries, sent, strict=True)
            ],
        )
        delivered += [name for name in sent if name != "poison"]
        assert delivered == [str(each) for each in range(number + 1)], (
            "the event of the other device was delivered at once"
        )
        clock.advance(61)
    await accept(outbox, event("bad at last", "bad"))
    held_back = [f"bad{too} {number}" for number in range(len(delivered)) for too in ("", " too")]
    assert await drain(outbox, "cloud") == [*held_back, "bad at last"], "the other events of the key follow in order"


async def test_a_rejected_event_blocks_no_other_and_can_be_requeued_or_discarded(outbox: Outbox) -> None:
    await outbox.register("cloud", ALL)
    await outbox.register("hook", ALL)
    bad = event("bad")
    await accept(outbox, bad, event("next"))
    first, _ = await outbox.deliveries("cloud", 10)
    await outbox.settle("cloud", [(first, Rejected("refused_by_destination", "no such field", "{}"))])
    assert await drain(outbox, "cloud") == ["next"]
    assert await drain(outbox, "hook") == ["bad", "next"]
    [listed] = await outbox.rejected()
    assert (listed.event, listed.destination, listed.message, listed.reply) == (bad.id, "cloud", "no such field", "{}")
    assert (await outbox.depths()).waiting == Waiting()

    assert await outbox.send_again() == 1
    assert await outbox.rejected() == ()
    assert await outbox.deliveries("hook", 10) == []
    [again] = await outbox.deliveries("cloud", 10)
    assert (again.id, again.replayed) == (bad.id, True)
    assert orjson.loads(again.body)["replayed"] is True, "the receiver can see that the event is replayed"

    await outbox.settle("cloud", [(again, Rejected("refused_by_destination", "not yet"))])
    await outbox.send_again()
    [once_more] = await outbox.deliveries("cloud", 10)
    assert once_more.body == again.body
    await outbox.settle("cloud", [(once_more, Rejected("refused_by_destination", "still not"))])
    assert (await outbox.depths()).rejected == 1
    assert await outbox.discard_rejected() == 1
    depths = await outbox.depths()
    assert (depths.rejected, depths.waiting) == (0, Waiting())


async def test_wait_for_events_returns_when_a_retry_is_due(outbox: Outbox, clock: HandClock) -> None:
    await outbox.register("cloud", ALL)
    await accept(outbox, event("1"))
    [delivery] = await outbox.deliveries("cloud", 1)
    await outbox.settle("cloud", [(delivery, Failed("timeout"))])
    assert await outbox.deliveries("cloud", 1) == []
    waiting = asyncio.create_task(outbox.wait_for_events("cloud"))
    await asyncio.sleep(0)
    assert not waiting.done()
    clock.advance(1)
    await asyncio.wait_for(waiting, WITHIN)
    assert names(await outbox.deliveries("cloud", 1)) == ["1"]


async def test_many_failed_events_stop_the_cursor_to_limit_the_exceptions(store: Store, clock: HandClock) -> None:
    outbox = Outbox(store, clock, Limits(unsettled=3))
    await outbox.register("cloud", ALL)
    await accept(outbox, *(event(str(number), key=f"k{number}") for number in range(6)))
    deliveries = await outbox.deliveries("cloud", 3)
    await outbox.settle("cloud", [(delivery, Failed("timeout")) for delivery in deliveries])
    assert await outbox.deliveries("cloud", 10) == []
    clock.advance(1)
    assert await drain(outbox, "cloud") == ["0", "1", "2", "3", "4", "5"]
