"""A damaged row does not affect the rows beside it."""

import zlib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from process_cosmos_gateway.contract.alerts import TransitionKind
from process_cosmos_gateway.contract.destinations import EventKind
from process_cosmos_gateway.destinations import settings as destination_settings
from process_cosmos_gateway.devices import repository
from process_cosmos_gateway.devices.things.values import Reading
from process_cosmos_gateway.store import Transaction
from tests.support.hostile import documents, nested

from .alerts.parts import LEAK, gateway, key, leak_opened, request
from .store.parts import HandClock, new_ulids

STORED = {
    "alert": "UPDATE alert SET body = ?1, event = ?1 WHERE id = 'bad'",
    "destination": "UPDATE destination SET settings = ?1 WHERE name = 'bad'",
    "value": "UPDATE device_property SET value = ?1 WHERE name = 'bad'",
}


@pytest.mark.parametrize("row", STORED)
@settings(max_examples=10, deadline=None, suppress_health_check=[*HealthCheck])
@given(text=documents)
async def test_an_unreadable_row_does_not_affect_the_rows_beside_it(
    tmp_path_factory: pytest.TempPathFactory, row: str, text: bytes
) -> None:
    clock = HandClock()
    async with gateway(tmp_path_factory.mktemp("rows"), clock, ("cloud",)) as parts:
        await parts.opens_session()
        await parts.alerts.apply(leak_opened(new_ulids()(), (request(key()),)))

        def spoil(transaction: Transaction) -> None:
            names = "state, alive, run, n, notify_at, until_at, changed_at, body, event"
            transaction.run(f"INSERT INTO alert SELECT 'bad', {names} FROM alert")  # noqa: S608 - the test's own words
            hook = destination_settings.WebhookSettings(name="good", kinds=(), url="http://h/")
            for name in ("bad", "good"):
                destination_settings.save(transaction, replace(hook, name=name))
            repository.store_description(
                transaction, device="attic", topic="attic/td", description=b"{}", properties=("bad", "good")
            )
            for name in ("bad", "good"):
                repository.store_value(transaction, device="attic", name=name, reading=Reading(value=1.0, time=1.0))
            assert transaction.run(STORED[row], text) == 1

        await parts.store.write(spoil)
        _, heads = await parts.alerts.cursor_and_summaries()
        assert LEAK in {head.alert for head in heads}
        await parts.alerts.process_due_requests()
        assert await parts.requested() == [(1, 0, 0)]
        await parts.outbox.register("new", [EventKind.ALERT])
        assert await parts.types("new")
        kept = await parts.store.read(destination_settings.load_all)
        assert "good" in {each.settings.name for each in kept}
        [device] = await parts.store.read(repository.load_devices)
        assert "good" in device.values


async def test_an_unreadable_alert_is_moved_aside_once(tmp_path: Path) -> None:
    async with gateway(tmp_path, HandClock(), ("cloud",)) as parts:
        await parts.opens_session()
        await parts.alerts.apply(leak_opened(new_ulids()(), ()))
        await parts.store.write(lambda transaction: transaction.run("UPDATE alert SET body = x'00'"))
        for _ in range(2):
            await parts.alerts.process_due_requests()
        rows = await parts.store.read(lambda transaction: transaction.rows("SELECT origin FROM quarantine"))
        assert rows == [("alert",)]


async def test_an_event_of_254_levels_does_not_block_later_events(tmp_path: Path) -> None:
    async with gateway(tmp_path, HandClock(), ("cloud",)) as parts:
        await parts.opens_session()
        await parts.records_change(TransitionKind.OPENED)
        deep = b'{"id":"x","source":"/sites/x","data":' + nested(253) + b"}"
        await parts.store.write(
            lambda transaction: transaction.run(
                "UPDATE outbox_urgent SET body = ?, checksum = ?", deep, zlib.crc32(deep)
            )
        )
        await parts.records_change(TransitionKind.UPDATED, revision=2)
        assert [delivery.body == deep for delivery in await parts.outbox.deliveries("cloud", 10)] == [True, False]
