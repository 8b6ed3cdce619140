"""Devices whose true means closed or dry are handled correctly, or listed in an issue; the valve is never opened."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, override

from homeassistant.core import HomeAssistant
from homeassistant.helpers import entity_registry as er
from homeassistant.helpers import issue_registry as ir

from custom_components.process_cosmos.const import DOMAIN
from process_cosmos_gateway.contract.devices import Value
from process_cosmos_gateway.options import BrokerOptions
from process_cosmos_testbed.broker import running_broker
from process_cosmos_testbed.processes import free_port
from process_cosmos_testbed.virtual_devices.device import Json, VirtualDevice
from tests.gateway.gateway_process import gateway_process
from tests.home_assistant.test_real_gateway import set_up_with, shown
from tests.support.waiting import until

from .house import LeakGuardHome

CLOSED = "valveClosed"
DRY = "noLeak"
VALVE = "valve.cellar"
LEAK = "binary_sensor.cellar_noleak"


class Backwards(VirtualDevice):
    """A device with ``valveClosed`` and ``noLeak``. ``true_means``: the meaning in its description."""

    def __init__(self, broker: BrokerOptions, true_means: Mapping[str, str]) -> None:
        """Create the device open and dry."""
        super().__init__(broker, "backwards", "Cellar")
        self.true_means = true_means
        self.values = {CLOSED: False, DRY: True}
        self.commands: list[Value] = []

    @override
    def properties(self) -> Mapping[str, Json]:
        said: dict[str, dict[str, Any]] = {CLOSED: {"type": "boolean"}, DRY: {"type": "boolean", "readOnly": True}}
        for name, means in self.true_means.items():
            said[name]["cosmos:trueMeans"] = means
        return said

    @override
    def on_write(self, name: str, value: Value) -> None:
        self.commands.append(value)
        self.values[name] = value

    async def describe_anew(self, true_means: Mapping[str, str]) -> None:
        """Publish an extended description."""
        self.true_means = true_means
        await self.vanish()


@asynccontextmanager
async def at_home(hass: HomeAssistant, folder: Path, true_means: Mapping[str, str]) -> AsyncIterator[Backwards]:
    """Run broker, gateway, the device and the integration."""
    (folder / "broker").mkdir()
    async with running_broker(folder / "broker") as broker:
        options = f'mqtt_host = "127.0.0.1"\nmqtt_port = {broker.options.port}\n'
        async with (
            gateway_process(folder, free_port(), options) as gateway,
            Backwards(broker.options, true_means) as it,
        ):
            entry = await set_up_with(hass, str(await gateway.pairing_line()))
            await until(lambda: shown(hass, LEAK))
            yield it
            await hass.async_block_till_done()
            await hass.config_entries.async_unload(entry.entry_id)


def asked(hass: HomeAssistant) -> set[str]:
    """Return the lines of the repair issue, one per property."""
    found = [issue for issue in ir.async_get(hass).issues.values() if issue.translation_key == "polarity_unknown"]
    return {line for issue in found for line in (issue.translation_placeholders or {})["properties"].splitlines()}


async def test_leak_guard_closes_a_valve_for_which_true_means_closed(
    home: LeakGuardHome, hass: HomeAssistant, notify_entity: str, socket_enabled: None, tmp_path: Path
) -> None:
    home.with_process_cosmos()
    async with at_home(hass, tmp_path, {CLOSED: "closed", DRY: "dry"}) as thing:
        await until(lambda: (shown(hass, VALVE), shown(hass, LEAK)) == ("open", "off"))
        state = hass.states.get(LEAK)
        assert state
        assert state.attributes["device_class"] == "moisture"
        await home.automation(sensors=[LEAK], valve=VALVE)
        await thing.report(DRY, False)
        await until(lambda: shown(hass, LEAK) == "on")
        await until(lambda: thing.commands)
        assert set(thing.commands) == {True}, "sent again until it is reported, never turned round"
        await thing.report(CLOSED, True)
        await until(lambda: shown(hass, VALVE) == "closed")
        await hass.services.async_call("valve", "open_valve", {"entity_id": VALVE}, blocking=True)
        await until(lambda: thing.commands[-1] is False)
        assert asked(hass) == set()


async def test_an_unclear_property_cannot_be_written_and_is_listed_in_the_issue(
    home: LeakGuardHome, hass: HomeAssistant, notify_entity: str, socket_enabled: None, tmp_path: Path
) -> None:
    async with at_home(hass, tmp_path, {}) as thing:
        await until(lambda: shown(hass, LEAK) == "on")
        registry = er.async_get(hass)
        ours = [each for each in registry.entities.values() if each.unique_id.partition("/")[2].startswith("wot%2F")]
        assert {each.domain for each in ours} == {"binary_sensor"}
        assert [each.original_device_class for each in ours] == [None, None]
        assert asked(hass) == {f"- `Cellar`: `{CLOSED}` (`open` / `closed`)", f"- `Cellar`: `{DRY}` (`wet` / `dry`)"}
        assert thing.commands == []
        await thing.describe_anew({CLOSED: "closed", DRY: "dry"})
        await until(lambda: (shown(hass, VALVE), shown(hass, LEAK)) == ("open", "off"))
        assert asked(hass) == set()
        assert {issue.domain for issue in ir.async_get(hass).issues.values()} <= {DOMAIN}
