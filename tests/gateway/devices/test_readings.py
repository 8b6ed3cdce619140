"""Retention of raw readings by bytes and age, and readings that are already older when they arrive."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from process_cosmos_gateway.clock import SystemClock
from process_cosmos_gateway.devices import repository
from process_cosmos_gateway.devices.readings import readings
from process_cosmos_gateway.devices.readings.retention import Retention, history_quota
from process_cosmos_gateway.devices.things.values import Reading
from process_cosmos_gateway.outbox import Outbox
from process_cosmos_gateway.store import Store, Transaction, disk_reserve
from process_cosmos_gateway.store.disk_reserve import RESERVE
from process_cosmos_testbed.broker import Broker
from tests.gateway.store.parts import new_ulids, opened

from .parts import client, rows, running_devices, set_up_tank

NOW = 1_800_000_000.0
HOUR = 3600.0
COUNTED = "SELECT total(bytes) FROM device_property"
SIZE = "SELECT 48 * count(*) + total(iif(typeof(value) = 'text', octet_length(value), 0)) FROM device_reading"


def store_readings(transaction: Transaction, name: str, count: int, every: float, text: str | None = None) -> None:
    new_readings = [Reading(value=place if text is None else text, time=NOW + place * every) for place in range(count)]
    readings.store_readings(transaction, "tank", name, new_readings, NOW)


async def test_above_the_quota_the_oldest_readings_of_all_properties_are_deleted_and_counted(tmp_path: Path) -> None:
    counts: Counter[str] = Counter()
    async with opened(tmp_path) as store:
        await store.write(lambda transaction: store_readings(transaction, "often", 3_000, every=10))
        await store.write(lambda transaction: store_readings(transaction, "rarely", 30, every=1000))
        retention = Retention(
            store, Outbox(store, SystemClock()), SystemClock(), counts, 2_000 * readings.READING_BYTES
        )
        await retention.enforce_quota()
        [(often, first), (rarely, other)] = await rows(
            store, "SELECT count(*), min(time) FROM device_reading GROUP BY property ORDER BY property"
        )
        assert isinstance(first, float)
        assert isinstance(other, float)
        assert abs(first - other) < HOUR
        assert 1_000 < int(str(often)) + int(str(rarely)) <= 1_900
        assert counts["readings_forgotten"] == 3_030 - int(str(often)) - int(str(rarely))
        assert await rows(store, COUNTED) == await rows(store, SIZE)
        before = counts.total()
        await retention.enforce_quota()
        assert counts.total() == before


async def test_texts_count_with_their_bytes_and_repeats_do_not_count(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        for _ in range(2):
            await store.write(lambda transaction: store_readings(transaction, "state", 3, every=1, text="döse"))
        assert await rows(store, COUNTED) == [(3 * (readings.READING_BYTES + 5),)] == await rows(store, SIZE)
        await store.write(lambda transaction: readings.delete_old(transaction, NOW + 1, NOW + 100))
        assert await rows(store, COUNTED) == [(2 * (readings.READING_BYTES + 5),)] == await rows(store, SIZE)


async def test_many_readings_of_the_same_time_are_deleted_too(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        new_readings = [Reading(value=place, time=NOW) for place in range(2_500)]
        await store.write(lambda transaction: readings.store_readings(transaction, "tank", "level", new_readings, NOW))
        await Retention(store, Outbox(store, SystemClock()), SystemClock(), Counter(), 100).enforce_quota()
        assert await rows(store, COUNTED) == [(0,)]


async def test_a_byte_counter_that_is_too_high_does_not_loop(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.write(lambda transaction: store_readings(transaction, "level", 3, every=1))
        await store.write(lambda transaction: transaction.run("UPDATE device_property SET bytes = 1000000000"))
        await Retention(store, Outbox(store, SystemClock()), SystemClock(), Counter(), 100).enforce_quota()


async def test_retention_runs_by_itself(broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("process_cosmos_gateway.devices.readings.retention._CHECK_SECONDS", 0.02)
    async with running_devices(tmp_path, broker.options) as gateway, client(broker.options) as tank:
        gateway.devices._retention.max_bytes = 200
        await set_up_tank(gateway, tank)
        for value in range(20):
            await tank.publish("wot/tank/properties/level", value)
        await gateway.wait_for_rows("SELECT total(bytes) <= 200 FROM device_property", [(1,)])
        await gateway.wait_for_rows("SELECT count(*) < 5 FROM device_reading", [(1,)])


async def test_a_reading_older_than_the_retention_time_is_stored_forwarded_once_and_counted(
    broker: Broker, tmp_path: Path
) -> None:
    old = [{"bt": 1_700_000_000, "v": 1}, {"bt": 1_700_000_000, "t": 1, "v": 2}]
    async with running_devices(tmp_path, broker.options) as gateway, client(broker.options) as tank:
        await set_up_tank(gateway, tank)
        for document in (old, old, 7):
            await tank.publish("wot/tank/properties/level", document)
        await gateway.wait_for_rows("SELECT count(*) FROM device_reading", [(3,)])
        batches = await gateway.wait_for_events(lambda event: event["type"].endswith("readings.v1"), 1)
        assert [record["v"] for batch in batches for record in batch["data"]] == [1, 2, 7]
        assert gateway.devices.counts["too_old"] == 2


@given(free=st.floats(0, 1e12), taken=st.floats(0, 1e10), more=st.floats(0, 1e12))
def test_raw_readings_leave_free_reserves_for_other_data(free: float, taken: float, more: float) -> None:
    quota = history_quota(5e8, free, RESERVE, taken)
    assert 0 <= quota <= history_quota(5e8, free + more, RESERVE, taken) <= 5e8
    if free >= 4 * RESERVE:
        assert quota == 5e8, "nothing is deleted while there is space"
    else:
        assert quota <= max(0, taken - (4 * RESERVE - free))


async def test_raw_readings_are_deleted_when_the_disk_fills_but_no_more_than_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_reserve, "_MAX_AGE_SECONDS", 0.0)
    free = 1000 * RESERVE
    store = await Store.open(tmp_path, new_ulids(), free_fn=lambda _: free)
    counts: Counter[str] = Counter()
    retention = Retention(store, Outbox(store, SystemClock()), SystemClock(), counts, 1e12)
    try:
        await store.write(lambda transaction: store_readings(transaction, "often", 60_000, every=0.1))
        await retention.enforce_quota()
        assert not counts
        free = 4 * RESERVE - 500_000
        await retention.enforce_quota()
        assert 500_000 // readings.READING_BYTES <= counts["readings_forgotten"] < 30_000
        await retention.enforce_quota()
        assert counts["readings_forgotten"] < 30_000
    finally:
        await store.close()


async def test_readings_of_withdrawn_things_stay_for_a_limited_number_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readings, "_MAX_ROWS", 100)
    monkeypatch.setattr("process_cosmos_gateway.devices.readings.retention.MAX_WITHDRAWN", 5)
    counts: Counter[str] = Counter()

    def add_and_withdraw(transaction: Transaction) -> None:
        for number in range(40):
            device = f"thing-{number:02d}"
            repository.store_description(transaction, device, f"{device}/td", b"{}", ["level"])
            new_readings = [Reading(value=each, time=NOW + each) for each in range(10)]
            readings.store_readings(transaction, device, "level", new_readings, SystemClock().now().timestamp())
            if number != 3:
                repository.withdraw_device(transaction, device)

    async with opened(tmp_path) as store:
        await store.write(add_and_withdraw)
        await Retention(store, Outbox(store, SystemClock()), SystemClock(), counts, 1e9).delete_expired()
        left = await rows(store, "SELECT id FROM device ORDER BY id")
        assert [device for (device,) in left] == ["thing-03", *(f"thing-{number}" for number in range(35, 40))]
        assert await rows(store, "SELECT count(*) FROM device_reading") == [(60,)]
        assert counts["readings_forgotten"] == 340
