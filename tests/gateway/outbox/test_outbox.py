"""Acceptance, order, deduplication and withdrawal, on a real store."""

import asyncio
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from process_cosmos_gateway.contract.destinations import Priority, Waiting
from process_cosmos_gateway.contract.identifiers import Ulid
from process_cosmos_gateway.outbox import Added, Failed, Outbox
from process_cosmos_gateway.store import Store, Transaction
from tests.gateway.store.parts import HandClock, opened

from .parts import ALL, ULIDS, WITHIN, accept, drain, enqueue_readings, event, names


async def test_urgent_events_are_sent_first_and_each_priority_in_order(store: Store, outbox: Outbox) -> None:
    await outbox.register("cloud", ALL)
    await enqueue_readings(store, outbox, 1)
    await accept(
        outbox,
        event("c1", priority=Priority.CHANGE),
        event("a1"),
        event("c2", priority=Priority.CHANGE),
        event("a2"),
    )
    assert names(await outbox.deliveries("cloud", 4)) == ["a1", "a2", "c1", "c2"]
    assert await drain(outbox, "cloud") == ["a1", "a2", "c1", "c2", "m1"]


async def test_deliveries_are_returned_again_until_settled(outbox: Outbox) -> None:
    await outbox.register("cloud", ALL)
    await accept(outbox, event("1"), event("2"))
    assert names(await outbox.deliveries("cloud", 10)) == names(await outbox.deliveries("cloud", 10)) == ["1", "2"]


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


async def test_a_withdrawn_event_is_not_sent_and_unblocks_its_key(store: Store, outbox: Outbox) -> None:
    await outbox.register("cloud", ALL)
    request = event("notification_requested", only="cloud")
    await accept(outbox, request, event("closed"))
    [delivery, _] = await outbox.deliveries("cloud", 10)
    await outbox.settle("cloud", [(delivery, Failed("timeout"))])
    assert await outbox.deliveries("cloud", 10) == []
    await store.write(lambda transaction: outbox.withdraw(transaction, request.id, "cloud"))
    assert await drain(outbox, "cloud") == ["closed"]
    await outbox.settle("cloud", [(delivery, Failed("it was in flight"))])
    assert (await outbox.depths()).waiting == Waiting()
    assert await outbox.accept(request) is Added.ADDED


async def test_an_added_event_is_rolled_back_with_its_transaction(store: Store, outbox: Outbox) -> None:
    await outbox.register("cloud", ALL)

    def change(transaction: Transaction) -> None:
        outbox.add(transaction, event("1"))
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await store.write(change)
    await outbox.settle("cloud", [])
    assert await drain(outbox, "cloud") == []
    assert (await outbox.depths()).waiting == Waiting()


async def test_depths_report_the_age_of_the_oldest_pending_event(outbox: Outbox, clock: HandClock) -> None:
    await outbox.register("cloud", ALL)
    assert (await outbox.depths()).oldest is None
    await accept(outbox, event("1"))
    clock.advance(10)
    await accept(outbox, event("2", priority=Priority.CHANGE))
    assert (await outbox.depths()).oldest == 10


CHILD = """
import asyncio, os, signal, sys
from pathlib import Path
from tests.gateway.outbox.parts import ALL, event
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


async def test_a_repeat_after_a_kill_between_commit_and_acknowledgement_is_a_duplicate(
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
