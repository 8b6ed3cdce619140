"""A boolean whose true means closed or dry: everybody but the device sees it the other way round."""

from pathlib import Path
from typing import Any

import pytest

from process_cosmos_gateway.contract.errors import Code
from process_cosmos_gateway.errors import RequestRefusedError
from tests.brokers import Broker

from .parts import client, description, hearing, until

TD = "wot/tank/td"
CLOSED = "wot/tank/properties/valveClosed"
DRY = "wot/tank/properties/noLeak"


def tank(**members: object) -> dict[str, Any]:
    """Describe a valve that says whether it is closed, and a sensor that says whether it is dry."""
    base = "mqtt://b/"
    forms = [{"href": base + CLOSED, "op": "observeproperty"}, {"href": f"{base}{CLOSED}/set", "op": "writeproperty"}]
    valve = {"type": "boolean", "forms": forms, **members}
    leak = {
        "type": "boolean",
        "cosmos:trueMeans": "dry",
        "forms": [{"href": base + DRY, "op": "observeproperty"}],
    }
    return description(properties={"valveClosed": valve, "noLeak": leak}, events={})


async def test_values_are_turned_on_their_way_up_and_writes_on_their_way_down(broker: Broker, tmp_path: Path) -> None:
    async with (
        hearing(tmp_path, broker.options) as heard,
        client(broker.options, topics=[f"{CLOSED}/set"]) as device,
    ):
        await device.say(CLOSED, False, retain=True)
        await device.say(TD, tank(**{"cosmos:trueMeans": "closed"}), retain=True)
        await until(lambda: heard.value("wot/tank", "valveClosed") is True)
        await heard.write("wot/tank", "valveClosed", False)
        await until(lambda: [message.payload for message in device.heard] == [b"true"])
        await device.say(CLOSED, True)
        await until(lambda: heard.value("wot/tank", "valveClosed") is False)
        await heard.until_rows("SELECT count(*) FROM device_write", [(0,)])
        await device.say(DRY, [{"vb": True}])
        await until(lambda: heard.value("wot/tank", "noLeak") is False)
        changed = await heard.until_drained(lambda each: each["data"].get("property") == "noLeak", 1)
        assert changed[0]["data"]["value"] is False
    async with hearing(tmp_path, broker.options) as heard:
        assert heard.value("wot/tank", "valveClosed") is False


async def test_what_nobody_has_said_the_meaning_of_is_never_written(broker: Broker, tmp_path: Path) -> None:
    async with (
        hearing(tmp_path, broker.options) as heard,
        client(broker.options, topics=[f"{CLOSED}/set"]) as device,
    ):
        await device.say(CLOSED, True, retain=True)
        await device.say(TD, tank(), retain=True)
        await until(lambda: heard.value("wot/tank", "valveClosed") is True)
        with pytest.raises(RequestRefusedError) as refused:
            await heard.write("wot/tank", "valveClosed", False)
        assert refused.value.code == Code.READ_ONLY
        await device.say(f"{CLOSED}/set", "end")
        await until(lambda: device.heard)
        assert [message.payload for message in device.heard] == [b'"end"']


async def test_a_value_of_before_is_not_taken_for_its_opposite_when_the_meaning_is_told(
    broker: Broker, tmp_path: Path
) -> None:
    async with hearing(tmp_path, broker.options) as heard, client(broker.options) as device:
        await device.say(CLOSED, True, retain=True)
        await device.say(TD, tank(), retain=True)
        await until(lambda: heard.value("wot/tank", "valveClosed") is True)
        await device.say(TD, tank(**{"cosmos:trueMeans": "closed"}), retain=True)
        await device.say(CLOSED, True)
        await until(lambda: heard.value("wot/tank", "valveClosed") is False)
