"""A snapshot of a thousand devices does not block Home Assistant."""

import asyncio
from dataclasses import replace

import pytest
from homeassistant.core import HomeAssistant
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.process_cosmos.contract.devices import Device, Snapshot
from tests.support.waiting import until

from .contract_gateway import ContractGateway
from .devices import LEAK, VALVE

MANY = 300
TURNS = 20


def many() -> tuple[Device, ...]:
    return tuple(replace(LEAK, id=f"wot/leak-{number}", title=f"Leak {number}") for number in range(MANY))


@pytest.mark.timeout(60)
async def test_devices_of_a_snapshot_are_applied_in_batches_that_yield_to_the_event_loop(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry
) -> None:
    seen: set[int] = set()
    await gateway.send(Snapshot(sequence=1000, devices=many()))
    while MANY not in seen:
        await asyncio.sleep(0)
        seen.add(sum(state.entity_id.endswith("_wet") for state in hass.states.async_all("binary_sensor")))
    assert len(seen) >= TURNS
    await until(lambda: sum(state.state != "unavailable" for state in hass.states.async_all("binary_sensor")) >= MANY)


async def test_a_removed_device_becomes_unavailable_before_others_of_the_snapshot_are_applied(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry
) -> None:
    """The session may end between two devices, and the next snapshot would not reveal the removal."""
    leak = "binary_sensor.kitchen_leak_wet"
    await gateway.send(Snapshot(sequence=1000, devices=(LEAK, VALVE)))
    await until(lambda: (state := hass.states.get(leak)) and state.state == "off")
    coordinator = linked.runtime_data.coordinator
    seen: list[str | None] = []

    def see(_: object) -> None:
        if coordinator.devices.sequence == 1001:
            state = hass.states.get(leak)
            seen.append(state.state if state else None)

    coordinator.async_watch(VALVE.id, see)
    await gateway.send(Snapshot(sequence=1001, devices=(VALVE,)))
    await until(lambda: seen)
    assert seen == ["unavailable"]
