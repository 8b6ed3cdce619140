"""What the outbox promises, on a real store."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from process_cosmos_gateway.contract.destinations import EventKind, Priority, Waiting
from process_cosmos_gateway.contract.events import event_type
from process_cosmos_gateway.contract.identifiers import Ulid
from process_cosmos_gateway.outbox import Added, Delivered, Event, Failed, Limits, Outbox, Parcel, Rejected, Verdict
from process_cosmos_gateway.store import Store, Transaction
from tests.gateway.store.parts import HandClock, new_ulids, opened

WITHIN = 20
ULIDS = new_ulids()
ALL = (EventKind.ESCALATION, EventKind.DEVICE, EventKind.READING)
KINDS = {
    Priority.ALARM: EventKind.ESCALATION,
    Priority.CHANGE: EventKind.DEVICE,
    Priority.MEASUREMENT: EventKind.READING,
}


def event(name: str, key: str = "key", priority: Priority = Priority.ALARM, **more: object) -> Event:
    values: dict[str, Any] = {
        "id": ULIDS(),
        "type": event_type("test", "happened"),
        "kind": KINDS[priority],
        "priority": priority,
        "subject": key,
        "key": key,
        "time": HandClock().now(),
        "data": {"name": name},
    }
    return Event(**{**values, **more})


def names(parcels: Sequence[Parcel]) -> list[str]:
    return [orjson.loads(parcel.body)["data"]["name"] for parcel in parcels]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with opened(tmp_path) as store:
        yield store


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def outbox(store: Store, clock: HandClock) -> Outbox:
    return Outbox(store, clock)


async def accept(outbox: Outbox, *events: Event) -> None:
    for each in events:
        assert await outbox.accept(each) is Added.ADDED


async def drain(outbox: Outbox, destination: str, limit: int = 500) -> list[str]:
    got: list[str] = []
    while parcels := await outbox.parcels(destination, limit):
        got += names(parcels)
        await outbox.settle(destination, [(parcel, Delivered()) for parcel in parcels])
    return got


async def test_an_accepted_event_is_stored_as_the_cloud_event_destinations_get(store: Store, outbox: Outbox) -> None:
    await outbox.register("cloud", ALL)
    accepted = event("leak")
    await accept(outbox, accepted)
    [parcel] = await outbox.parcels("cloud", 10)
    document = orjson.loads(parcel.body)
    assert document["source"] == f"/sites/{store.site}"
    assert (document["id"], document["subject"], document["data"]) == (accepted.id, "key", {"name": "leak"})
    assert (parcel.id, parcel.key, parcel.attempts, parcel.replayed) == (accepted.id, "key", 0, False)


async def test_alarms_go_first_each_priority_in_order(outbox: Outbox) -> None:
    await outbox.register("cloud", ALL)
    await accept(
        outbox,
        event("m1", priority=Priority.MEASUREMENT),
        event("c1", priority=Priority.CHANGE),
        event("a1"),
        event("c2", priority=Priority.CHANGE),
        event("a2"),
    )
    assert names(await outbox.parcels("cloud", 4)) == ["a1", "a2", "c1", "c2"]
    assert await drain(outbox, "cloud") == ["a1", "a2", "c1", "c2", "m1"]


async def test_parcels_come_again_until_they_are_settled(outbox: Outbox) -> None:
    await outbox.register("cloud", ALL)
    await accept(outbox, event("1"), event("2"))
    assert names(await outbox.parcels("cloud", 10)) == names(await outbox.parcels("cloud", 10)) == ["1", "2"]


async def test_without_a_destination_nothing_is_queued(outbox: Outbox) -> None:
    await accept(outbox, event("1"))
    assert (await outbox.depths()).waiting == Waiting()
    await outbox.register("cloud", ALL)
    assert await drain(outbox, "cloud") == []


async def test_a_repeated_id_is_a_duplicate_also_after_delivery_and_a_restart(tmp_path: Path, clock: HandClock) -> None:
    once = event("once")
    async with opened(tmp_path) as store:
        outbox = Outbox(store, clock)
        await outbox.register("cloud", ALL)
        await accept(outbox, once)
        assert await outbox.accept(once) is Added.DUPLICATE
        assert await drain(outbox, "cloud") == ["once"]
    async with opened(tmp_path) as store:
        outbox = Outbox(store, clock)
        assert await outbox.accept(once) is Added.DUPLICATE
        assert await drain(outbox, "cloud") == []


async def test_an_id_with_other_content_is_a_conflict_and_counted(outbox: Outbox) -> None:
    await outbox.register("cloud", ALL)
    first = event("first")
    await accept(outbox, first)
    assert await outbox.accept(replace(first, data={"name": "other"})) is Added.CONFLICT
    assert (await outbox.depths()).conflicts == 1
    assert await drain(outbox, "cloud") == ["first"]


async def test_an_event_waits_until_every_destination_that_wants_it_has_confirmed(outbox: Outbox) -> None:
    await outbox.register("cloud", ALL)
    await outbox.register("hook", (EventKind.ESCALATION,))
    await accept(outbox, event("a"), event("c", priority=Priority.CHANGE))
    assert await drain(outbox, "cloud") == ["a", "c"]
    assert (await outbox.depths()).waiting == Waiting(alarm=1)
    assert await drain(outbox, "hook") == ["a"]
    assert (await outbox.depths()).waiting == Waiting()


async def test_a_destination_that_is_away_keeps_only_its_own_share(outbox: Outbox) -> None:
    await outbox.register("here", ALL)
    await outbox.register("away", ALL)
    await accept(outbox, event("for both"), *(event("for one", only="here") for _ in range(3)))
    await drain(outbox, "here")
    assert (await outbox.depths()).waiting == Waiting(alarm=1)
    assert await drain(outbox, "away") == ["for both"]


async def test_an_event_for_one_destination_reaches_it_although_it_does_not_subscribe(outbox: Outbox) -> None:
    await outbox.register("cloud", (EventKind.DEVICE,))
    await outbox.register("hook", ALL)
    await accept(outbox, event("1", only="cloud"), event("2"), event("3", only="nobody"))
    assert await drain(outbox, "cloud") == ["1"]
    assert await drain(outbox, "hook") == ["2"]
    assert (await outbox.depths()).waiting == Waiting()


async def test_a_failed_event_holds_back_its_key_and_lets_others_pass(outbox: Outbox, clock: HandClock) -> None:
    await outbox.register("cloud", ALL)
    await accept(outbox, event("a1", "a"), event("b1", "b"), event("a2", "a"), event("b2", "b"))
    first, *_ = await outbox.parcels("cloud", 1)
    await outbox.settle("cloud", [(first, Failed("timeout"))])
    assert await drain(outbox, "cloud") == ["b1", "b2"]
    clock.advance(1)
    [again] = await outbox.parcels("cloud", 10)
    assert (names([again]), again.attempts) == (["a1"], 1)
    await outbox.settle("cloud", [(again, Delivered())])
    assert await drain(outbox, "cloud") == ["a2"]
    assert (await outbox.depths()).waiting == Waiting()


async def test_what_follows_a_failed_event_waits_also_after_a_restart(tmp_path: Path, clock: HandClock) -> None:
    async with opened(tmp_path) as store:
        outbox = Outbox(store, clock)
        await outbox.register("cloud", ALL)
        await accept(outbox, event("a1", "a"), event("a2", "a"), event("b1", "b"))
        first, *_ = await outbox.parcels("cloud", 10)
        await outbox.settle("cloud", [(first, Failed("timeout"))])
    async with opened(tmp_path) as store:
        outbox = Outbox(store, clock)
        assert names(await outbox.parcels("cloud", 10)) == ["a1", "b1"]


async def test_a_batch_settled_in_part_leaves_the_rest_in_order(outbox: Outbox) -> None:
    await outbox.register("cloud", ALL)
    await accept(outbox, *(event(str(number), key=f"k{number % 2}") for number in range(6)))
    parcels = await outbox.parcels("cloud", 6)
    await outbox.settle("cloud", [(parcels[1], Delivered()), (parcels[3], Delivered())])
    assert await drain(outbox, "cloud", limit=2) == ["0", "2", "4", "5"]


async def test_each_failure_doubles_the_rest_up_to_a_limit(outbox: Outbox, clock: HandClock) -> None:
    await outbox.register("cloud", ALL)
    await accept(outbox, event("1"))
    rests = []
    for _ in range(8):
        [parcel] = await outbox.parcels("cloud", 1)
        await outbox.settle("cloud", [(parcel, Failed("timeout"))])
        seconds = 0
        while not await outbox.parcels("cloud", 1):
            clock.advance(1)
            seconds += 1
        rests.append(seconds)
    assert rests == [1, 2, 4, 8, 16, 32, 60, 60]


async def test_an_event_that_fails_while_others_pass_becomes_poison(store: Store, clock: HandClock) -> None:
    outbox = Outbox(store, clock, Limits(longest_rest=0))
    heard: dict[str, Verdict] = {}
    outbox.watch(on_settled=lambda _, __, parcel, verdict: heard.update({names([parcel])[0]: verdict}))
    await outbox.register("cloud", ALL)
    await accept(outbox, event("poison", "bad"), event("after poison", "bad"))
    for number in range(20):
        assert (await outbox.depths()).rejected == 0
        await accept(outbox, event(f"good {number}", "good"))
        parcels = dict(zip(names(found := await outbox.parcels("cloud", 10)), found, strict=True))
        await outbox.settle(
            "cloud", [(parcels["poison"], Failed("HTTP 500")), (parcels[f"good {number}"], Delivered())]
        )
    [rejected] = await outbox.rejected()
    assert (rejected.code, rejected.destination) == ("poison", "cloud")
    assert "HTTP 500" in rejected.message
    assert isinstance(heard["poison"], Rejected)
    assert await drain(outbox, "cloud") == ["after poison"]


async def test_an_event_that_fails_while_nothing_passes_never_becomes_poison(store: Store, clock: HandClock) -> None:
    outbox = Outbox(store, clock, Limits(longest_rest=0))
    await outbox.register("cloud", ALL)
    await accept(outbox, event("1"))
    for _ in range(50):
        [parcel] = await outbox.parcels("cloud", 1)
        await outbox.settle("cloud", [(parcel, Failed("timeout"))])
    assert (await outbox.depths()).rejected == 0
    assert await drain(outbox, "cloud") == ["1"]


async def test_a_rejected_event_blocks_nobody_and_can_be_sent_again_or_discarded(outbox: Outbox) -> None:
    await outbox.register("cloud", ALL)
    await outbox.register("hook", ALL)
    bad = event("bad")
    await accept(outbox, bad, event("next"))
    first, _ = await outbox.parcels("cloud", 10)
    await outbox.settle("cloud", [(first, Rejected("refused_by_destination", "no such field"))])
    assert await drain(outbox, "cloud") == ["next"]
    assert await drain(outbox, "hook") == ["bad", "next"]
    [listed] = await outbox.rejected()
    assert (listed.event, listed.destination, listed.message) == (bad.id, "cloud", "no such field")
    assert (await outbox.depths()).waiting == Waiting()

    assert await outbox.send_again() == 1
    assert await outbox.rejected() == ()
    assert await outbox.parcels("hook", 10) == []
    [again] = await outbox.parcels("cloud", 10)
    assert (again.id, again.replayed) == (bad.id, True)

    await outbox.settle("cloud", [(again, Rejected("refused_by_destination", "still not"))])
    assert (await outbox.depths()).rejected == 1
    assert await outbox.discard_rejected() == 1
    depths = await outbox.depths()
    assert (depths.rejected, depths.waiting) == (0, Waiting())


async def test_too_many_measurements_drop_the_oldest_and_are_counted(store: Store, clock: HandClock) -> None:
    outbox = Outbox(store, clock, Limits(measurements=3))
    await outbox.register("cloud", ALL)
    await accept(outbox, event("alarm"), *(event(f"m{n}", priority=Priority.MEASUREMENT) for n in range(5)))
    depths = await outbox.depths()
    assert (depths.waiting, depths.dropped) == (Waiting(alarm=1, measurement=3), 2)
    assert await drain(outbox, "cloud") == ["alarm", "m2", "m3", "m4"]


async def test_a_full_outbox_drops_measurements_and_never_an_alarm(store: Store, clock: HandClock) -> None:
    outbox = Outbox(store, clock, Limits(waiting=3))
    await outbox.register("cloud", ALL)
    await accept(outbox, *(event(f"m{n}", priority=Priority.MEASUREMENT) for n in range(2)))
    await accept(outbox, *(event(f"a{n}") for n in range(5)))
    assert (await outbox.depths()).dropped == 2
    assert await drain(outbox, "cloud") == ["a0", "a1", "a2", "a3", "a4"]


async def test_a_measurement_dropped_behind_the_cursor_is_forgotten_there_too(store: Store, clock: HandClock) -> None:
    outbox = Outbox(store, clock, Limits(measurements=2, longest_rest=0))
    await outbox.register("cloud", ALL)
    await accept(outbox, event("m0", priority=Priority.MEASUREMENT))
    parcels = await outbox.parcels("cloud", 1)
    await outbox.settle("cloud", [(parcels[0], Failed("timeout"))])
    await accept(outbox, *(event(f"m{n}", priority=Priority.MEASUREMENT) for n in range(1, 4)))
    await outbox.settle("cloud", [(parcels[0], Delivered())])
    assert await drain(outbox, "cloud") == ["m2", "m3"]
    rows = await store.read(lambda transaction: transaction.rows("SELECT * FROM outbox_exception"))
    assert rows == []


async def test_the_oldest_ids_are_forgotten_and_counted(store: Store, clock: HandClock) -> None:
    outbox = Outbox(store, clock, Limits(ids=2))
    first = event("first")
    await accept(outbox, first, event("2"), event("3"))
    assert (await outbox.depths()).forgotten == 3
    assert await outbox.accept(first) is Added.ADDED


async def test_a_new_destination_begins_at_the_end_but_hears_of_what_is_alive(outbox: Outbox) -> None:
    alive = event("alive")
    outbox.watch(on_joined=lambda _, destination: [replace(alive, only=destination)])
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
    await outbox.register("cloud", (EventKind.ESCALATION,))
    assert (await outbox.depths()).waiting == Waiting(alarm=1)
    assert await drain(outbox, "cloud") == ["a"]


async def test_a_forgotten_destination_takes_along_what_only_it_was_waiting_for(outbox: Outbox) -> None:
    await outbox.register("gone", ALL)
    await outbox.register("here", (EventKind.ESCALATION,))
    await accept(outbox, event("a"), event("only", only="gone"), event("c", priority=Priority.CHANGE))
    parcels = await outbox.parcels("gone", 1)
    await outbox.settle("gone", [(parcels[0], Rejected("refused_by_destination", "no"))])
    await outbox.forget("gone")
    depths = await outbox.depths()
    assert (depths.waiting, depths.rejected) == (Waiting(alarm=1), 0)
    assert await outbox.parcels("gone", 10) == []
    await outbox.settle("gone", [(parcels[0], Delivered())])
    assert await drain(outbox, "here") == ["a"]


async def test_a_withdrawn_event_is_not_sent_and_frees_what_it_held_back(store: Store, outbox: Outbox) -> None:
    await outbox.register("cloud", ALL)
    asked = event("asked", only="cloud")
    await accept(outbox, asked, event("closed"))
    [parcel, _] = await outbox.parcels("cloud", 10)
    await outbox.settle("cloud", [(parcel, Failed("timeout"))])
    assert await outbox.parcels("cloud", 10) == []
    await store.write(lambda transaction: outbox.withdraw(transaction, asked.id, "cloud"))
    assert await drain(outbox, "cloud") == ["closed"]
    await outbox.settle("cloud", [(parcel, Failed("it was on its way"))])
    assert (await outbox.depths()).waiting == Waiting()
    assert await outbox.accept(asked) is Added.ADDED


async def test_a_link_that_is_down_is_told_once_until_something_is_delivered(store: Store, outbox: Outbox) -> None:
    heard: list[str] = []
    outbox.watch(on_link_down=lambda _, destination: heard.append(destination))
    await outbox.register("cloud", ALL)
    await accept(outbox, event("1"))
    await outbox.link_down("cloud")
    await outbox.link_down("cloud")
    assert heard == ["cloud"]
    assert not await store.read(lambda transaction: outbox.reaches(transaction, "cloud"))
    await drain(outbox, "cloud")
    assert await store.read(lambda transaction: outbox.reaches(transaction, "cloud"))
    assert not await store.read(lambda transaction: outbox.reaches(transaction, "nobody"))
    await outbox.link_down("cloud")
    assert heard == ["cloud", "cloud"]


async def test_waiting_ends_when_there_is_something_to_send(outbox: Outbox) -> None:
    await outbox.register("cloud", ALL)
    assert await outbox.parcels("cloud", 1) == []
    waiting = asyncio.create_task(outbox.wait("cloud"))
    await asyncio.sleep(0)
    assert not waiting.done()
    await accept(outbox, event("1"))
    await asyncio.wait_for(waiting, WITHIN)
    await outbox.parcels("cloud", 1)
    await asyncio.wait_for(outbox.wait("cloud"), WITHIN)  # it was not settled


async def test_waiting_ends_when_a_failed_event_has_rested(outbox: Outbox, clock: HandClock) -> None:
    await outbox.register("cloud", ALL)
    await accept(outbox, event("1"))
    [parcel] = await outbox.parcels("cloud", 1)
    await outbox.settle("cloud", [(parcel, Failed("timeout"))])
    assert await outbox.parcels("cloud", 1) == []
    waiting = asyncio.create_task(outbox.wait("cloud"))
    await asyncio.sleep(0)
    assert not waiting.done()
    clock.advance(1)
    await asyncio.wait_for(waiting, WITHIN)
    assert names(await outbox.parcels("cloud", 1)) == ["1"]


async def test_an_event_of_somebodys_transaction_is_undone_with_it(store: Store, outbox: Outbox) -> None:
    await outbox.register("cloud", ALL)

    def change(transaction: Transaction) -> None:
        outbox.add(transaction, event("1"))
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await store.write(change)
    await outbox.settle("cloud", [])
    assert await drain(outbox, "cloud") == []
    assert (await outbox.depths()).waiting == Waiting()


async def test_many_unsettled_events_stop_the_cursor_so_that_the_list_behind_it_stays_short(
    store: Store, clock: HandClock
) -> None:
    outbox = Outbox(store, clock, Limits(unsettled=3))
    await outbox.register("cloud", ALL)
    await accept(outbox, *(event(str(number), key=f"k{number}") for number in range(6)))
    parcels = await outbox.parcels("cloud", 3)
    await outbox.settle("cloud", [(parcel, Failed("timeout")) for parcel in parcels])
    assert await outbox.parcels("cloud", 10) == []
    clock.advance(1)
    assert await drain(outbox, "cloud") == ["0", "1", "2", "3", "4", "5"]


async def test_the_age_of_the_oldest_waiting_event_is_known(outbox: Outbox, clock: HandClock) -> None:
    await outbox.register("cloud", ALL)
    assert (await outbox.depths()).oldest is None
    await accept(outbox, event("1"))
    clock.advance(10)
    await accept(outbox, event("2", priority=Priority.MEASUREMENT))
    assert (await outbox.depths()).oldest == 10


CHILD = """
import asyncio, os, signal, sys
from pathlib import Path
from tests.gateway.outbox.test_outbox import ALL, event
from tests.gateway.store.parts import HandClock, opened
from process_cosmos_gateway.outbox import Outbox

async def main():
    async with opened(Path(sys.argv[1])) as store:
        outbox = Outbox(store, HandClock())
        await outbox.register("cloud", ALL)
        def change(transaction):
            outbox.add(transaction, event("leak", id=sys.argv[2]))
            transaction.after_commit(lambda: os.kill(os.getpid(), signal.SIGKILL))
        await store.write(change)
        print("acknowledged", flush=True)

asyncio.run(main())
"""


async def test_a_kill_between_commit_and_acknowledgement_keeps_one_of_the_repeated_event(
    tmp_path: Path, clock: HandClock
) -> None:
    once = ULIDS()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CHILD, str(tmp_path), once, stdout=asyncio.subprocess.PIPE, env={**os.environ}
    )
    output, _ = await asyncio.wait_for(process.communicate(), WITHIN)
    assert (process.returncode, output) == (-signal.SIGKILL, b"")
    async with opened(tmp_path) as store:
        outbox = Outbox(store, clock)
        await outbox.register("cloud", ALL)
        assert await outbox.accept(event("leak", id=Ulid(once))) is Added.DUPLICATE
        assert await drain(outbox, "cloud") == ["leak"]
