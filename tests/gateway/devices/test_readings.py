"""For how long raw readings stay, by bytes, and what is older than that when it comes."""

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
from tests.brokers import Broker
from tests.gateway.store.parts import new_ulids, opened

from .parts import client, hearing, ready

NOW = 1_800_000_000.0
HOUR = 3600.0
COUNTED = "SELECT total(bytes) FROM device_property"
SIZE = "SELECT 48 * count(*) + total(iif(typeof(value) = 'text', octet_length(value), 0)) FROM device_reading"


async def rows(store: Store, sql: str) -> list[tuple[object, ...]]:
    return await store.read(lambda transaction: transaction.rows(sql))


def keep(transaction: Transaction, name: str, count: int, every: float, text: str | None = None) -> None:
    said = [Reading(value=place if text is None else text, time=NOW + place * every) for place in range(count)]
    readings.keep(transaction, "tank", name, said, NOW)


async def test_beyond_their_bytes_the_oldest_readings_of_all_properties_go_and_are_counted(tmp_path: Path) -> None:
    counts: Counter[str] = Counter()
    async with opened(tmp_path) as store:
        await store.write(lambda transaction: keep(transaction, "often", 3_000, every=10))
        await store.write(lambda transaction: keep(transaction, "rarely", 30, every=1000))
        retention = Retention(
            store, Outbox(store, SystemClock()), SystemClock(), counts, 2_000 * readings.READING_BYTES
        )
        await retention.make_room()
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
        await retention.make_room()
        assert counts.total() == before


async def test_texts_count_with_their_bytes_and_repeats_not_at_all(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        for _ in range(2):
            await store.write(lambda transaction: keep(transaction, "state", 3, every=1, text="döse"))
        assert await rows(store, COUNTED) == [(3 * (readings.READING_BYTES + 5),)] == await rows(store, SIZE)
        await store.write(lambda transaction: readings.forget_old(transaction, NOW + 1, NOW + 100))
        assert await rows(store, COUNTED) == [(2 * (readings.READING_BYTES + 5),)] == await rows(store, SIZE)


async def test_many_readings_of_one_moment_go_too(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        said = [Reading(value=place, time=NOW) for place in range(2_500)]
        await store.write(lambda transaction: readings.keep(transaction, "tank", "level", said, NOW))
        await Retention(store, Outbox(store, SystemClock()), SystemClock(), Counter(), 100).make_room()
        assert await rows(store, COUNTED) == [(0,)]


async def test_a_counter_that_says_more_than_there_is_ends_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.write(lambda transaction: keep(transaction, "level", 3, every=1))
        await store.write(lambda transaction: transaction.run("UPDATE device_property SET bytes = 1000000000"))
        await Retention(store, Outbox(store, SystemClock()), SystemClock(), Counter(), 100).make_room()


async def test_the_shelf_keeps_room_by_itself(broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("process_cosmos_gateway.devices.readings.retention._LOOK_SECONDS", 0.02)
    async with hearing(tmp_path, broker.options) as heard, client(broker.options) as tank:
        heard.devices._retention._most = 200
        await ready(heard, tank)
        for value in range(20):
            await tank.say("wot/tank/properties/level", value)
        await heard.until_rows("SELECT total(bytes) <= 200 FROM device_property", [(1,)])
        await heard.until_rows("SELECT count(*) < 5 FROM device_reading", [(1,)])


async def test_a_reading_older_than_the_days_is_kept_forwarded_once_and_counted(broker: Broker, tmp_path: Path) -> None:
    old = [{"bt": 1_700_000_000, "v": 1}, {"bt": 1_700_000_000, "t": 1, "v": 2}]
    async with hearing(tmp_path, broker.options) as heard, client(broker.options) as tank:
        await ready(heard, tank)
        for document in (old, old, 7):
            await tank.say("wot/tank/properties/level", document)
        await heard.until_rows("SELECT count(*) FROM device_reading", [(3,)])
        packs = await heard.until_drained(lambda event: event["type"].endswith("readings.v1"), 1)
        assert [record["v"] for pack in packs for record in pack["data"]] == [1, 2, 7]
        assert heard.devices.counts["too_old"] == 2


@given(free=st.floats(0, 1e12), taken=st.floats(0, 1e10), more=st.floats(0, 1e12))
def test_raw_readings_leave_others_the_room_that_they_need(free: float, taken: float, more: float) -> None:
    quota = history_quota(5e8, free, RESERVE, taken)
    assert 0 <= quota <= history_quota(5e8, free + more, RESERVE, taken) <= 5e8
    if free >= 4 * RESERVE:
        assert quota == 5e8, "nothing is forgotten while there is room"
    else:
        assert quota <= max(0, taken - (4 * RESERVE - free))


async def test_raw_readings_give_way_when_the_disk_fills_and_no_more_than_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_reserve, "_MAX_AGE_SECONDS", 0.0)
    free = 1000 * RESERVE
    store = await Store.open(tmp_path, new_ulids(), free_fn=lambda _: free)
    counts: Counter[str] = Counter()
    retention = Retention(store, Outbox(store, SystemClock()), SystemClock(), counts, 1e12)
    try:
        await store.write(lambda transaction: keep(transaction, "often", 60_000, every=0.1))
        await retention.make_room()
        assert not counts
        free = 4 * RESERVE - 500_000
        await retention.make_room()
        assert 500_000 // readings.READING_BYTES <= counts["readings_forgotten"] < 30_000
        await retention.make_room()
        assert counts["readings_forgotten"] < 30_000
    finally:
        await store.close()


async def test_of_the_things_that_come_and_go_only_so_many_leave_readings_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readings, "_AT_ONCE", 100)
    monkeypatch.setattr("process_cosmos_gateway.devices.readings.retention.MOST_WITHDRAWN", 5)
    counts: Counter[str] = Counter()

    def come_and_go(transaction: Transaction) -> None:
        for number in range(40):
            device = f"thing-{number:02d}"
            repository.keep_description(transaction, device, f"{device}/td", b"{}", ["level"])
            said = [Reading(value=each, time=NOW + each) for each in range(10)]
            readings.keep(transaction, device, "level", said, SystemClock().now().timestamp())
            if number != 3:
                repository.withdraw(transaction, device)

    async with opened(tmp_path) as store:
        await store.write(come_and_go)
        await Retention(store, Outbox(store, SystemClock()), SystemClock(), counts, 1e9).tidy()
        left = await rows(store, "SELECT id FROM device ORDER BY id")
        assert [device for (device,) in left] == ["thing-03", *(f"thing-{number}" for number in range(35, 40))]
        assert await rows(store, "SELECT count(*) FROM device_reading") == [(60,)]
        assert counts["readings_forgotten"] == 340
