"""Readings are sent in batches that keep their id and bytes until they are settled."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import orjson
import pytest

from process_cosmos_gateway.contract.destinations import EventKind, Priority, Waiting
from process_cosmos_gateway.contract.identifiers import split_names
from process_cosmos_gateway.outbox import (
    Delivered,
    DropReason,
    Failed,
    Limits,
    Outbox,
    OutgoingReading,
    Rejected,
    series,
)
from process_cosmos_gateway.store import Store, Transaction
from tests.gateway.store.parts import HandClock, opened

from .parts import ALL, accept, drain, enqueue_readings, event, names, readings

READING = Priority.READING


async def test_a_batch_repeated_after_a_crash_has_the_same_id_and_bytes(tmp_path: Path, clock: HandClock) -> None:
    async with opened(tmp_path) as store:
        outbox = Outbox(store, clock)
        await outbox.register("cloud", ALL)
        await enqueue_readings(store, outbox, 1, 2)
        [before] = await outbox.deliveries("cloud", 10)
    async with opened(tmp_path) as store:
        outbox = Outbox(store, clock)
        await enqueue_readings(store, outbox, 3)
        [after] = await outbox.deliveries("cloud", 10)
        assert (before.id, before.body) == (after.id, after.body)
        await outbox.settle("cloud", [(after, Delivered())])
        [following] = await outbox.deliveries("cloud", 10)
        assert (names([following]), following.id == after.id) == (["m3"], False)
        await outbox.settle("cloud", [(after, Delivered())])  # a repeated older reply confirms nothing
        assert names(await outbox.deliveries("cloud", 10)) == ["m3"]


async def test_a_rejected_batch_is_stored_and_can_be_requeued(store: Store, outbox: Outbox) -> None:
    await outbox.register("cloud", ALL)
    await enqueue_readings(store, outbox, 1, 2)
    [batch] = await outbox.deliveries("cloud", 10)
    await outbox.settle("cloud", [(batch, Rejected("refused_by_destination", "no"))])
    [listed] = await outbox.rejected()
    assert (listed.event, listed.attempts, (await outbox.depths()).waiting) == (batch.id, 1, Waiting())
    assert await outbox.send_again([listed.number + 1]) == 0
    assert await outbox.send_again([listed.number]) == 1
    [again] = await outbox.deliveries("cloud", 10)
    assert (again.id, again.replayed, await outbox.discard_rejected()) == (batch.id, True, 0)
    assert orjson.loads(again.body) == {**orjson.loads(batch.body), "replayed": True}


async def test_a_failing_batch_backs_off_and_is_rejected_as_poison(store: Store, clock: HandClock) -> None:
    outbox = Outbox(store, clock, Limits(strikes=2))
    await outbox.register("cloud", ALL)
    await enqueue_readings(store, outbox, 1)
    for _ in range(2):
        await accept(outbox, event("good"))
        deliveries = await outbox.deliveries("cloud", 10)
        results = [(each, Failed("HTTP 500") if each.priority is READING else Delivered()) for each in deliveries]
        await outbox.settle("cloud", results)
        clock.advance(60)
    assert [each.code for each in await outbox.rejected()] == ["poison"]
    assert await outbox.deliveries("cloud", 10) == []


async def test_a_batch_keeps_its_unit_after_the_device_has_changed_it(store: Store, outbox: Outbox) -> None:
    await outbox.register("cloud", ALL)
    await enqueue_readings(store, outbox, 1)
    [first] = await outbox.deliveries("cloud", 10)
    gallons = [replace(each, unit="gal") for each in readings(2)]
    await store.write(lambda transaction: outbox.add_readings(transaction, gallons))
    assert await outbox.deliveries("cloud", 10) == [first]
    await outbox.settle("cloud", [(first, Delivered())])
    [second] = await outbox.deliveries("cloud", 10)
    assert [orjson.loads(each.body)["data"][0]["u"] for each in (first, second)] == ["l", "gal"]


async def test_a_batch_whose_readings_were_lost_in_a_recovery_blocks_no_others(store: Store, outbox: Outbox) -> None:
    await outbox.register("cloud", ALL)
    await enqueue_readings(store, outbox, 1)
    await outbox.deliveries("cloud", 10)
    await store.write(lambda transaction: transaction.run("DELETE FROM outbox_reading"))
    await enqueue_readings(store, outbox, 2)
    assert await drain(outbox, "cloud") == ["m2"]


async def test_readings_are_encoded_as_senml_records(store: Store, outbox: Outbox) -> None:
    await outbox.register("cloud", (EventKind.READING,))
    some = [
        *readings(1.5),
        OutgoingReading(device="door", property="angle", unit=None, time=2.0, value=90),
    ]
    await store.write(lambda transaction: outbox.add_readings(transaction, some))
    [batch] = await outbox.deliveries("cloud", 10)
    assert b'"data":[{"n":"meter/level","t":101.5,"u":"l","v":1.5}' in batch.body
    assert b'{"n":"door/angle","t":2.0,"v":90.0}' in batch.body


async def test_devices_whose_joined_names_coincide_have_different_names_in_batches(
    store: Store, outbox: Outbox
) -> None:
    await outbox.register("cloud", (EventKind.READING,))
    some = [
        OutgoingReading(device="wot", property="kitchen/leak", unit=None, time=1.0, value=0),
        OutgoingReading(device="wot/kitchen", property="leak", unit=None, time=1.0, value=1),
    ]
    await store.write(lambda transaction: outbox.add_readings(transaction, some))
    [batch] = await outbox.deliveries("cloud", 10)
    encoded = [record["n"] for record in orjson.loads(batch.body)["data"]]
    assert encoded == ["wot/kitchen%2Fleak", "wot%2Fkitchen/leak"]
    assert [split_names(name) for name in encoded] == [(each.device, each.property) for each in some]


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE outbox_reading SET value = 2.5 WHERE sequence = 2",
        "UPDATE outbox_reading SET value = x'00' WHERE sequence = 2",
        "UPDATE outbox_reading SET time = 1.0 WHERE sequence = 2",
        "UPDATE outbox_reading SET accepted_at = 1.0 WHERE sequence = 2",
        "UPDATE outbox_reading SET series = 2 WHERE sequence = 2",
        "UPDATE outbox_reading SET series = 7 WHERE sequence = 2",
        "UPDATE outbox_reading SET checksum = 1 WHERE sequence = 2",
    ],
)
async def test_a_damaged_reading_is_quarantined_and_the_others_are_sent(
    store: Store, outbox: Outbox, damage: str
) -> None:
    await outbox.register("cloud", ALL)
    await outbox.register("archive", (EventKind.READING,))
    await enqueue_readings(store, outbox, 1, 2)
    other = readings(3, device="other")
    await store.write(lambda transaction: outbox.add_readings(transaction, other))
    await outbox.deliveries("archive", 10)
    await store.write(lambda transaction: transaction.run(damage))
    assert await drain(outbox, "cloud") == ["m1", "m3"]
    assert await drain(outbox, "archive") == ["m1", "m3"]
    depths = await outbox.depths()
    assert depths.drops == {(READING, DropReason.DAMAGED): 2}, "once per destination that was waiting for it"
    assert (depths.waiting, depths.bytes[READING]) == (Waiting(), 0)
    kept = await store.read(lambda transaction: transaction.rows("SELECT origin FROM quarantine"))
    assert kept == [("outbox_reading",)]


async def test_a_damaged_series_loses_only_its_own_readings(store: Store, outbox: Outbox) -> None:
    await outbox.register("cloud", ALL)
    await enqueue_readings(store, outbox, 1, 2)
    other = readings(3, device="other")
    await store.write(lambda transaction: outbox.add_readings(transaction, other))
    await store.write(lambda transaction: transaction.run("UPDATE outbox_series SET unit = 'm' WHERE number = 1"))
    assert await drain(outbox, "cloud") == ["m3"]
    assert (await outbox.depths()).drops == {(READING, DropReason.DAMAGED): 2}


async def test_a_batch_with_a_reading_damaged_after_an_attempt_gets_a_new_id(store: Store, outbox: Outbox) -> None:
    await outbox.register("cloud", ALL)
    await enqueue_readings(store, outbox, 1, 2)
    [tried] = await outbox.deliveries("cloud", 10)
    await store.write(lambda transaction: transaction.run("UPDATE outbox_reading SET value = 5.0 WHERE value = 2"))
    [again] = await outbox.deliveries("cloud", 10)
    assert (names([again]), again.id > tried.id) == (["m1"], True)


async def test_series_without_pending_readings_are_deleted(
    store: Store, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(series, "_READ_AT_ONCE", 3)
    monkeypatch.setattr(series, "_DELETED_AT_ONCE", 2)
    await outbox.register("cloud", ALL)
    for number in range(10):
        some = readings(number, device=f"sent {number}")
        await store.write(partial(outbox.add_readings, readings=some))
    assert len(await drain(outbox, "cloud")) == 10
    waiting = [each for number in range(5) for each in readings(number, device=f"pending {number}")]
    await store.write(partial(outbox.add_readings, readings=waiting))
    read, late = store.read, readings(7, device="sent 7")

    async def read_then_add[T](question: Callable[[Transaction], T]) -> T:
        result = await read(question)
        await store.write(partial(outbox.add_readings, readings=late[:1]))
        late.clear()
        return result

    with monkeypatch.context() as patch:
        patch.setattr(store, "read", read_then_add)
        await outbox.delete_unused_series()
    left = await store.read(lambda transaction: transaction.rows("SELECT device FROM outbox_series ORDER BY device"))
    assert left == [*((f"pending {number}",) for number in range(5)), ("sent 7",)]
    assert len(await drain(outbox, "cloud")) == 6
    assert (await outbox.depths()).drops == {}


async def test_no_kind_of_zero_is_reported_as_damage(store: Store, outbox: Outbox) -> None:
    await outbox.register("cloud", ALL)
    zeros = [OutgoingReading(device="d", property="p", unit=None, time=-0.0, value=value) for value in (0.0, -0.0, 0)]
    await store.write(lambda transaction: outbox.add_readings(transaction, zeros))
    assert await drain(outbox, "cloud") == ["m0", "m-0", "m0"]


async def test_batch_ids_increase_also_when_the_clock_was_set_back_over_a_restart(
    tmp_path: Path, clock: HandClock
) -> None:
    ids = []
    for number in range(3):
        clock.set_wall(-3600.0 * number)
        async with opened(tmp_path) as store:
            outbox = Outbox(store, clock)
            await outbox.register("cloud", ALL)
            for value in (1, 2):
                await enqueue_readings(store, outbox, value)
                [batch] = await outbox.deliveries("cloud", 10)
                await outbox.settle("cloud", [(batch, Delivered())])
                ids.append(batch.id)
    assert ids == sorted(set(ids))
