"""A failing event holds back only what is about the same: names of devices, programs and alerts never meet."""

import pytest

from process_cosmos_gateway.contract.destinations import Priority
from process_cosmos_gateway.outbox import GAP_KEY, Delivered, Failed, Outbox, device_key, program_key

from .parts import ALL, accept, event

ALERT = "01J0000000000000000000000A"
"""The order key of an alert is its id."""


@pytest.mark.parametrize("device", ["boiler", "wot/boiler", "broker", "program/boiler", "#gap", "#program/x"])
def test_an_order_key_says_what_it_is_a_key_of(device: str) -> None:
    others = [program_key(device), program_key("x"), program_key("/boiler"), GAP_KEY, ALERT, device_key(ALERT)]
    assert device_key(device) not in others
    assert len({*others}) == len(others)


def test_the_key_of_an_ordinary_device_is_what_it_was() -> None:
    assert device_key("wot/leak-1") == "wot/leak-1"


@pytest.mark.parametrize(
    ("strange", "own"), [(device_key("boiler"), program_key("boiler")), (device_key(ALERT), ALERT)]
)
async def test_a_device_called_like_an_alert_or_a_programs_subject_holds_neither_back(
    outbox: Outbox, strange: str, own: str
) -> None:
    await outbox.register("cloud", ALL)
    await accept(outbox, event("of a device", key=strange, priority=Priority.CHANGE))
    [delivery] = await outbox.deliveries("cloud", 10)
    await outbox.settle("cloud", [(delivery, Failed("HTTP 500"))])
    await accept(outbox, event("of another", key=own, priority=Priority.CHANGE))
    [delivery] = await outbox.deliveries("cloud", 10)
    assert delivery.key == own
    await outbox.settle("cloud", [(delivery, Delivered())])
