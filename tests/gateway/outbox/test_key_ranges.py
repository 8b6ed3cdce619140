"""Events of other keys pass any number of events blocked behind a failed one, which are not reread at each fetch."""

import asyncio
from collections.abc import Sequence

import pytest

from process_cosmos_gateway.contract.destinations import EventKind, Priority, Waiting
from process_cosmos_gateway.contract.identifiers import Ulid
from process_cosmos_gateway.outbox import Delivered, Failed, Limits, Outbox
from process_cosmos_gateway.outbox.dequeue import FetchRequest, FetchResult, fetch_deliveries
from process_cosmos_gateway.outbox.key_ranges import WIDTH
from process_cosmos_gateway.outbox.quotas import MB
from process_cosmos_gateway.store import Store
from tests.gateway.store.parts import HandClock, new_ulids
from tests.gateway.store.plans import Explained

from .parts import ALL, accept, drain, event, names

QUEUED = 10 * WIDTH


@pytest.mark.parametrize("others", [(), ("archive",)], ids=["alone", "beside another destination"])
async def test_events_of_other_keys_pass_a_blocked_backlog_in_order(
    outbox: Outbox, store: Store, clock: HandClock, others: Sequence[str]
) -> None:
    for name in ("hook", *others):
        await outbox.register(name, ALL)
    blocked = [f"a{number}" for number in range(2 * WIDTH)]
    await asyncio.gather(*(outbox.accept(event(name, "a")) for name in blocked))
    await accept(outbox, *(event(f"b{number}", "b") for number in range(4)))
    first, *_ = await outbox.deliveries("hook", 5)
    await outbox.settle("hook", [(first, Failed("HTTP 500"))])
    for number in range(3):
        [delivery] = await outbox.deliveries("hook", 1)
        assert names([delivery]) == [f"b{number}"]
        await outbox.settle("hook", [(delivery, Delivered())])
        left = await store.read(lambda transaction: transaction.rows("SELECT count(*) FROM outbox_exception"))
        assert left == [(1,)], "the events that were passed need no exception rows"
    assert (await outbox.depths()).waiting == Waiting(urgent=len(blocked) + (4 if others else 1))

    for name in others:
        assert await drain(outbox, name) == [*blocked, "b0", "b1", "b2", "b3"]
    clock.advance(2)
    drained = await drain(outbox, "hook")
    assert ([name for name in drained if name != "b3"], len(drained)) == (blocked, len(blocked) + 1)
    assert await store.read(lambda transaction: transaction.rows("SELECT count(*) FROM outbox_skip")) == [(0,)]


async def test_newly_subscribed_kinds_are_found_in_ranges_indexed_before(
    outbox: Outbox,
) -> None:
    await outbox.register("hook", (EventKind.ALERT,))
    await outbox.register("archive", ALL)
    await accept(outbox, event("a0", "a"), event("d", "d", kind=EventKind.DEVICE))
    await asyncio.gather(*(outbox.accept(event(f"a{number}", "a")) for number in range(1, 2 * WIDTH)))
    busy = [(Priority.URGENT, "a")]
    assert await outbox.deliveries("hook", 5, busy=busy) == []
    await outbox.register("hook", ALL)
    assert names(await outbox.deliveries("hook", 5, busy=busy)) == ["d"]


def test_a_fetch_reads_a_bounded_part_of_the_queue_and_no_part_twice() -> None:
    transaction, new = Explained(), new_ulids()
    transaction.run("INSERT INTO outbox_destination (name) VALUES ('hook')")
    transaction.run("INSERT INTO outbox_kind VALUES ('device', 'hook')")
    transaction.run("INSERT INTO outbox_cursor VALUES ('hook', 'urgent', 0)")
    row = "INSERT INTO outbox_urgent (id, type, kind, subject, key, accepted_at, checksum, body) VALUES "
    transaction.insert(row, [(new(), "t", "device", "s", "a", 0.0, 0, b"") for _ in range(QUEUED)])
    request = FetchRequest(
        destination="hook",
        limit=5,
        limits=Limits(quota=dict.fromkeys(Priority, MB)),
        site=Ulid("0" * 26),
        priorities=[Priority.URGENT],
        busy=[(Priority.URGENT, "a")],
    )

    def fetch_and_count_ranges() -> tuple[FetchResult, int]:
        transaction.ran.clear()
        result = fetch_deliveries(transaction, request)
        return result, sum("json_each" in sql and "UNION ALL" in sql for sql in transaction.ran)

    first, second, third = fetch_and_count_ranges(), fetch_and_count_ranges(), fetch_and_count_ranges()
    assert (first[0].is_incomplete, first[1]) == (True, 8)
    assert (second[0].is_incomplete, second[1]) == (False, 3)
    assert (third[0].is_incomplete, third[1]) == (False, 1), "the last range may have grown"
    [steps] = [steps for sql, steps in transaction.plans.items() if "json_each" in sql and "UNION ALL" in sql]
    assert [step for step in steps if "queue" in step] == [
        "SEARCH queue USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"
    ]
