"""A failing event delays only events of its own key: keys of devices, programs and alerts never coincide."""

from pathlib import Path
from typing import Any

import pytest

from process_cosmos_gateway.contract.destinations import EventKind, Priority
from process_cosmos_gateway.contract.events import event_type
from process_cosmos_gateway.devices.mqtt.mqtt_session import GAP
from process_cosmos_gateway.outbox import GAP_KEY, Delivered, Failed, Outbox, Rejected, device_key, program_key
from tests.gateway.store.parts import HandClock, opened

from .parts import ALL, accept, event

ALERT = "01J0000000000000000000000A"
"""The order key of an alert is its id."""


@pytest.mark.parametrize("device", ["boiler", "wot/boiler", "broker", "program/boiler", "#gap", "#program/x"])
def test_order_keys_of_different_sources_differ(device: str) -> None:
    others = [program_key(device), program_key("x"), program_key("/boiler"), GAP_KEY, ALERT, device_key(ALERT)]
    assert device_key(device) not in others
    assert len({*others}) == len(others)


def test_the_key_of_an_ordinary_device_is_its_id() -> None:
    assert device_key("wot/leak-1") == "wot/leak-1"


@pytest.mark.parametrize(
    ("device", "other"), [(device_key("boiler"), program_key("boiler")), (device_key(ALERT), ALERT)]
)
async def test_a_device_named_like_an_alert_or_a_program_subject_blocks_neither(
    outbox: Outbox, device: str, other: str
) -> None:
    await outbox.register("cloud", ALL)
    await accept(outbox, event("of a device", key=device, priority=Priority.CHANGE))
    [delivery] = await outbox.deliveries("cloud", 10)
    await outbox.settle("cloud", [(delivery, Failed("HTTP 500"))])
    await accept(outbox, event("of another", key=other, priority=Priority.CHANGE))
    [delivery] = await outbox.deliveries("cloud", 10)
    assert delivery.key == other
    await outbox.settle("cloud", [(delivery, Delivered())])


@pytest.mark.parametrize(
    ("kind", "subject", "key"),
    [
        ("weather.rain", "roof", program_key("roof")),
        ("process_cosmos.device.changed.v1", "wot/leak-1", "wot/leak-1"),
        ("process_cosmos.device.changed.v1", ALERT, device_key(ALERT)),
        ("process_cosmos.device.event.v1", "#odd", device_key("#odd")),
        (GAP, "broker", GAP_KEY),
    ],
)
async def test_events_stored_before_the_update_get_the_keys_of_later_ones(
    tmp_path: Path, clock: HandClock, kind: str, subject: str, key: str
) -> None:
    async with opened(tmp_path) as store:
        outbox = Outbox(store, clock)
        await outbox.register("cloud", ALL)
        before: dict[str, Any] = {"type": kind, "kind": EventKind.DEVICE}
        await accept(outbox, event("refused", subject, Priority.CHANGE, **before))
        [refused] = await outbox.deliveries("cloud", 10)
        await outbox.settle("cloud", [(refused, Rejected("refused_by_destination", "no"))])
        await accept(outbox, event("waits", subject, Priority.CHANGE, **before))
        if not kind.startswith("process_cosmos."):
            await accept(outbox, event("urgent", subject, **before))
        await store.write(lambda transaction: transaction.run("UPDATE meta SET value = 3 WHERE key = 'schema'"))
    async with opened(tmp_path) as store:
        outbox = Outbox(store, clock)
        await outbox.send_again()
        assert {delivery.key for delivery in await outbox.deliveries("cloud", 10)} == {key}


@pytest.mark.parametrize("kind", ["opened", "notification_requested"])
async def test_alert_events_stored_before_the_update_keep_the_alert_id_as_key(
    tmp_path: Path, clock: HandClock, kind: str
) -> None:
    async with opened(tmp_path) as store:
        outbox = Outbox(store, clock)
        await outbox.register("cloud", ALL)
        await accept(outbox, event("waits", ALERT, type=event_type("alert", kind)))
        await store.write(lambda transaction: transaction.run("UPDATE meta SET value = 3 WHERE key = 'schema'"))
    async with opened(tmp_path) as store:
        [delivery] = await Outbox(store, clock).deliveries("cloud", 10)
        assert delivery.key == ALERT
