"""A failing event delays only events of its own key: keys of devices, programs and alerts never coincide."""

import pytest

from process_cosmos_gateway.contract.destinations import Priority
from process_cosmos_gateway.outbox import GAP_KEY, Delivered, Failed, Outbox, device_key, program_key

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
