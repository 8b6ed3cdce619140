"""A boolean whose true means closed or dry: the gateway inverts it in both directions."""

from pathlib import Path
from typing import Any

import pytest

from process_cosmos_gateway.contract.errors import Code
from process_cosmos_gateway.errors import RequestRefusedError
from process_cosmos_testbed.broker import Broker
from tests.support.waiting import until

from .parts import client, description, running_devices

TD = "wot/tank/td"
CLOSED = "wot/tank/properties/valveClosed"
DRY = "wot/tank/properties/noLeak"


def tank(**members: object) -> dict[str, Any]:
    """Return the description of a valve that reports whether it is closed, and a sensor whether it is dry."""
    base = "mqtt://b/"
    forms = [{"href": base + CLOSED, "op": "observeproperty"}, {"href": f"{base}{CLOSED}/set", "op": "writeproperty"}]
    valve = {"type": "boolean", "forms": forms, **members}
    leak = {
        "type": "boolean",
        "cosmos:trueMeans": "dry",
        "forms": [{"href": base + DRY, "op": "observeproperty"}],
    }
    return description(properties={"valveClosed": valve, "noLeak": leak}, events={})


async def test_values_and_writes_are_inverted(broker: Broker, tmp_path: Path) -> None:
    async with (
        running_devices(tmp_path, broker.options) as gateway,
        client(broker.options, topics=[f"{CLOSED}/set"]) as device,
    ):
        await device.publish(CLOSED, False, retain=True)
        await device.publish(TD, tank(**{"cosmos:trueMeans": "closed"}), retain=True)
        await until(lambda: gateway.value("wot/tank", "valveClosed") is True)
        await gateway.write("wot/tank", "valveClosed", False)
        await until(lambda: [message.payload for message in device.received] == [b"true"])
        await device.publish(CLOSED, True)
        await until(lambda: gateway.value("wot/tank", "valveClosed") is False)
        await gateway.wait_for_rows("SELECT count(*) FROM device_write", [(0,)])
        await device.publish(DRY, [{"vb": True}])
        await until(lambda: gateway.value("wot/tank", "noLeak") is False)
        changed = await gateway.wait_for_events(lambda each: each["data"].get("property") == "noLeak", 1)
        assert changed[0]["data"]["value"] is False
    async with running_devices(tmp_path, broker.options) as gateway:
        assert gateway.value("wot/tank", "valveClosed") is False


async def test_a_property_of_unknown_polarity_is_never_written(broker: Broker, tmp_path: Path) -> None:
    async with (
        running_devices(tmp_path, broker.options) as gateway,
        client(broker.options, topics=[f"{CLOSED}/set"]) as device,
    ):
        await device.publish(CLOSED, True, retain=True)
        await device.publish(TD, tank(), retain=True)
        await until(lambda: gateway.value("wot/tank", "valveClosed") is True)
        with pytest.raises(RequestRefusedError) as refused:
            await gateway.write("wot/tank", "valveClosed", False)
        assert refused.value.code == Code.READ_ONLY
        await device.publish(f"{CLOSED}/set", "end")
        await until(lambda: device.received)
        assert [message.payload for message in device.received] == [b'"end"']


async def test_a_declared_polarity_discards_the_value_read_before(broker: Broker, tmp_path: Path) -> None:
    async with running_devices(tmp_path, broker.options) as gateway, client(broker.options) as device:
        await device.publish(CLOSED, True, retain=True)
        await device.publish(TD, tank(), retain=True)
        await until(lambda: gateway.value("wot/tank", "valveClosed") is True)
        await device.publish(TD, tank(**{"cosmos:trueMeans": "closed"}), retain=True)
        await device.publish(CLOSED, True)
        await until(lambda: gateway.value("wot/tank", "valveClosed") is False)
