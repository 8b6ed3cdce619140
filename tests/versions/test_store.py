"""A store the previous version left behind when it was killed goes on under this one, and nothing of it is lost."""

import sqlite3
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from process_cosmos_gateway.alerts import Escalations
from process_cosmos_gateway.contract.identifiers import Ulid
from process_cosmos_gateway.destinations.settings import CloudSettings, WebhookSettings, load_all
from process_cosmos_gateway.devices import BrokerOptions, Devices
from process_cosmos_gateway.outbox import Added, Delivered, Outbox
from process_cosmos_gateway.store import Store, schema
from tests.gateway.outbox.parts import event
from tests.gateway.store.parts import HandClock, new_ulids, opened

from .parts import ALIVE, WRITTEN_AT, unpack


class Left:
    """What the previous version had on disk, read without a word of this project's code."""

    def __init__(self, folder: Path) -> None:
        """Read the files in ``folder``, which only belong to this object."""
        self._database = sqlite3.connect(folder / "gateway.sqlite")

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        return self._database.execute(sql).fetchall()

    def column(self, sql: str) -> list[Any]:
        """Return the only column of a query."""
        return [value for (value,) in self.rows(sql)]

    def close(self) -> None:
        """Let go of the files."""
        self._database.close()


@pytest.fixture
async def left(tmp_path: Path) -> AsyncIterator[Left]:
    """What was left, in a copy of its own."""
    left = Left(unpack("written", tmp_path / "copy"))
    yield left
    left.close()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    """The same files, opened by this version."""
    async with opened(unpack("written", tmp_path)) as store:
        assert store.recovered is None
        yield store


@pytest.fixture
def clock() -> HandClock:
    """Return a clock that goes on a minute after the kill."""
    clock = HandClock()
    clock.advance((WRITTEN_AT - clock.now()).total_seconds() + 60)
    return clock


async def test_the_store_is_the_same_site_with_the_newest_schema(left: Left, store: Store) -> None:
    assert left.column("SELECT value FROM meta WHERE key = 'schema'") == [1]
    assert schema.NEWEST > 1
    assert [store.site] == left.column("SELECT value FROM meta WHERE key = 'site'")
    assert [store.epoch] == left.column("SELECT value FROM meta WHERE key = 'epoch'")


@pytest.mark.parametrize("destination", ["cloud", "webhook"])
async def test_each_event_that_waited_is_sent_once_and_in_order(
    left: Left, store: Store, clock: HandClock, destination: str
) -> None:
    waiting = {}
    for priority in ("alarm", "change"):
        waiting[priority] = left.rows(
            f"SELECT id, body FROM outbox_{priority} WHERE sequence > (SELECT sequence FROM outbox_cursor "  # noqa: S608 - the test's own words
            f"WHERE destination = '{destination}' AND priority = '{priority}') ORDER BY sequence"
        )
    assert {priority: len(rows) for priority, rows in waiting.items()} == {"alarm": 7, "change": 3}
    outbox, sent = Outbox(store, clock), []
    while deliveries := await outbox.deliveries(destination, 3):
        sent += [(delivery.priority.value, delivery.id, delivery.body) for delivery in deliveries]
        await outbox.settle(destination, [(delivery, Delivered()) for delivery in deliveries])
    for priority, rows in waiting.items():
        assert [(name, body) for of, name, body in sent if of == priority] == rows
    assert (await outbox.depths()).waiting.urgent == 7, "the other destination has had nothing yet"


async def test_an_event_the_previous_version_had_taken_is_known(left: Left, store: Store, clock: HandClock) -> None:
    outbox = Outbox(store, clock)
    known = left.column("SELECT id FROM outbox_id")
    assert len(known) > 20
    for each in known:
        assert await outbox.accept(event("something else", id=Ulid(each))) is Added.CONFLICT


async def test_the_escalations_it_knew_are_greeted_with_as_they_were(
    left: Left, store: Store, clock: HandClock
) -> None:
    escalations = await Escalations.open(store, Outbox(store, clock), clock)
    cursor, heads = await escalations.greeting()
    assert cursor is not None
    assert [(cursor.run, cursor.n)] == left.rows(
        "SELECT run.value, n.value FROM escalation_memory AS run, escalation_memory AS n "
        "WHERE run.key = 'run' AND n.key = 'n'"
    )
    states = {head.escalation: head.state.value for head in heads}
    assert states == dict(left.rows("SELECT id, state FROM escalation"))
    assert states.keys() >= set(ALIVE.values())
    requests = "SELECT count(*) FROM escalation_ask"
    assert await store.read(lambda transaction: transaction.rows(requests)) == left.rows(requests)
    assert escalations.may_deliver() or "epoch" not in left.column("SELECT key FROM escalation_memory")


async def test_its_destinations_keep_their_secrets_and_what_they_have_proven(left: Left, store: Store) -> None:
    kept = {each.settings.name: each for each in await store.read(load_all)}
    assert kept.keys() == {"cloud", "webhook"}
    assert all(each.proven for each in kept.values())
    said = {name: orjson.loads(body) for name, body in left.rows("SELECT name, settings FROM destination")}
    webhook, cloud = kept["webhook"].settings, kept["cloud"].settings
    assert isinstance(webhook, WebhookSettings)
    assert (webhook.url, list(webhook.kinds)) == (said["webhook"]["url"], said["webhook"]["kinds"])
    assert isinstance(cloud, CloudSettings)
    now = orjson.loads(orjson.dumps(cloud))["credentials"]
    renew_at = datetime.fromisoformat(now.pop("renew_at"))
    assert now == said["cloud"]["credentials"]
    assert timedelta(days=180) < renew_at - WRITTEN_AT < timedelta(days=185)
    cloud.credentials.tls()


async def test_its_devices_are_there_with_their_values_and_raw_readings(
    left: Left, store: Store, clock: HandClock
) -> None:
    broker = BrokerOptions(host="127.0.0.1", port=1)  # nobody connects to it
    devices = Devices(store, Outbox(store, clock), clock, new_ulids(), broker)
    await devices.load()
    values = {each.id: {one.name: one.value for one in each.properties} for each in devices.devices()}
    said: dict[str, dict[str, Any]] = {}
    for name, item, value in left.rows(
        "SELECT device.id, name, value FROM device_property JOIN device ON device.number = device"
    ):
        said.setdefault(name, {})[item] = orjson.loads(value)
    assert values == said
    assert len(values) == 3
    readings = "SELECT property, time, value FROM device_reading"
    assert await store.read(lambda transaction: transaction.rows(readings)) == left.rows(readings)
    assert len(left.rows(readings)) > 10
