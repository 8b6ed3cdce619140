"""Rows that devices leave in the store, and for how long."""

from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

from process_cosmos_gateway.devices import repository
from process_cosmos_gateway.devices.readings import readings
from process_cosmos_gateway.devices.things.values import Reading
from process_cosmos_gateway.store import Store, Transaction
from tests.gateway.store.parts import opened

from .parts import rows

DAY = 86_400.0
NOW = 1_800_000_000.0
TIMES = "SELECT time - 1800000000 FROM device_reading ORDER BY time"
ROWS = "SELECT (SELECT count(*) FROM device), (SELECT count(*) FROM device_property)"


async def delete_old(store: Store, now: float) -> None:
    after: int | None = 0
    while after is not None:
        after = await store.write(partial(readings.delete_old, before=now - 10 * DAY, now=now, after=after))


def store_readings(transaction: Transaction, *times: float, received: float = NOW, device: str = "tank") -> None:
    new_readings = [Reading(value=time, time=NOW + time) for time in times]
    readings.store_readings(transaction, device, "level", new_readings, received)


@pytest.mark.parametrize("own_time", [0, -100 * DAY, 1e9])
async def test_a_reading_is_kept_for_ten_days_after_its_receipt_whatever_its_own_time(
    tmp_path: Path, own_time: float
) -> None:
    async with opened(tmp_path) as store:
        await store.write(lambda transaction: store_readings(transaction, own_time))
        await delete_old(store, NOW + 9 * DAY)
        assert await rows(store, TIMES) == [(own_time,)]
        await delete_old(store, NOW + 11 * DAY)
        assert await rows(store, TIMES) == []


async def test_a_reading_slightly_in_the_future_is_deleted_ten_days_after_its_own_time(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.write(lambda transaction: store_readings(transaction, 5 * DAY))
        await delete_old(store, NOW + 14 * DAY)
        await delete_old(store, NOW + 16 * DAY)
        assert await rows(store, TIMES) == []


async def test_added_and_withdrawn_things_leave_no_rows(tmp_path: Path) -> None:
    def add_and_withdraw(transaction: Transaction) -> None:
        for number in range(20):
            repository.store_description(transaction, f"thing-{number}", "td", b"{}", ["a", "b"])
            repository.withdraw_device(transaction, f"thing-{number}")

    async with opened(tmp_path) as store:
        await store.write(add_and_withdraw)
        assert await rows(store, ROWS) == [(0, 0)]


async def test_a_new_description_leaves_no_rows_of_removed_properties(tmp_path: Path) -> None:
    def change(transaction: Transaction) -> None:
        for number in range(20):
            repository.store_description(transaction, "thing", "td", b"{}", [f"{number}"])
            repository.store_value(transaction, "thing", f"{number}", Reading(value=1, time=NOW))

    async with opened(tmp_path) as store:
        await store.write(change)
        assert await rows(store, ROWS) == [(1, 1)]


async def test_held_readings_of_a_withdrawn_thing_stay_and_property_numbers_are_not_mixed_up(tmp_path: Path) -> None:
    gate = "INSERT INTO device_gate SELECT number, 0, 1.0, 2.0, ?, 3.0, NULL, 4.0 FROM device_property"

    def add_and_withdraw(transaction: Transaction, held: float | None) -> None:
        repository.store_description(transaction, "thing", "td", b"{}", ["level"])
        transaction.run(gate, held)
        repository.withdraw_device(transaction, "thing")

    async with opened(tmp_path) as store:
        await store.write(partial(add_and_withdraw, held=None))
        assert await rows(store, "SELECT count(*) FROM device_gate") == [(0,)]
        await store.write(partial(add_and_withdraw, held=1.0))
        assert await rows(store, ROWS) == [(1, 1)]


async def test_old_readings_are_deleted_in_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readings, "_MAX_ROWS", 7)
    monkeypatch.setattr(readings, "_MAX_PROPERTIES", 2)
    left = "SELECT count(*) FROM device_reading"

    def store_all(transaction: Transaction) -> None:
        for number in range(5):
            store_readings(transaction, *range(10), device=f"tank-{number}")

    async with opened(tmp_path) as store:
        await store.write(store_all)
        after: int | None = 0
        counts = [50]
        while after is not None:
            after = await store.write(partial(readings.delete_old, before=NOW + DAY, now=NOW + 11 * DAY, after=after))
            [(count,)] = await rows(store, left)
            counts.append(int(str(count)))
        assert max(before - after for before, after in pairwise(counts)) == 7
        assert await rows(store, ROWS) == [(0, 0)]


async def test_a_withdrawn_thing_is_deleted_with_its_last_reading(tmp_path: Path) -> None:
    def read_and_withdraw(transaction: Transaction) -> None:
        repository.store_description(transaction, "tank", "td", b"{}", ["level"])
        store_readings(transaction, 0)
        repository.withdraw_device(transaction, "tank")

    async with opened(tmp_path) as store:
        await store.write(read_and_withdraw)
        await delete_old(store, NOW)
        assert await rows(store, ROWS) == [(1, 1)]
        await delete_old(store, NOW + 11 * DAY)
        assert await rows(store, ROWS) == [(0, 0)]


async def test_a_known_thing_keeps_its_values_and_writes(tmp_path: Path) -> None:
    held = Reading(value=1, time=NOW)
    write = repository.StoredWrite(device="tank", name="pump", value=True, written_at=NOW, expires_at=NOW + 1)

    def add(transaction: Transaction) -> None:
        repository.store_description(transaction, "tank", "td", b"{}", ["level", "pump", "silent"])
        repository.store_value(transaction, "tank", "level", held)
        repository.store_write(transaction, write)

    async with opened(tmp_path) as store:
        await store.write(add)
        await delete_old(store, NOW + 100 * DAY)
        (known,) = await store.read(repository.load_devices)
        assert (known.topic, known.values) == ("td", {"level": held})
        assert await store.read(repository.load_writes) == [write]
        await store.write(partial(repository.store_value, device="tank", name="silent", reading=held))
        (known,) = await store.read(repository.load_devices)
        assert known.values == {"level": held, "silent": held}


async def test_only_the_marks_of_the_newest_commit_are_stored(tmp_path: Path) -> None:
    def receive(transaction: Transaction) -> None:
        for first in range(0, 70, 7):
            repository.store_message_marks(
                transaction, "session", [each.to_bytes(2) + bytes(16) for each in range(first, first + 7)]
            )

    async with opened(tmp_path) as store:
        await store.write(receive)
        known = await store.read(lambda transaction: repository.load_message_marks(transaction, "session"))
        assert [int.from_bytes(mark[:2]) for mark in known] == list(range(63, 70))
        assert await store.read(lambda transaction: repository.load_message_marks(transaction, "another")) == []
