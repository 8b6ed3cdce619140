"""Numbers that nothing refers to are written at most every 5 s; whatever something refers to, at once."""

from datetime import timedelta
from time import monotonic
from typing import Any

import pytest
from homeassistant.components import automation, script
from homeassistant.core import HomeAssistant
from homeassistant.helpers import area_registry as ar
from homeassistant.helpers import entity_registry as er
from homeassistant.setup import async_setup_component
from homeassistant.util import dt as dt_util
from pytest_homeassistant_custom_component.common import MockConfigEntry, async_capture_events, async_fire_time_changed

from custom_components.process_cosmos.contract.devices import AvailabilityChanged, ValueChanged
from custom_components.process_cosmos.reactions import coalescing, references
from custom_components.process_cosmos.reactions.coalescing import WRITE_EVERY
from tests.home_assistant.contract_gateway import ContractGateway
from tests.home_assistant.devices import HOUSE, ROOM
from tests.support.waiting import until

TEMPERATURE = "sensor.cellar_temperature"
HUMIDITY = "sensor.cellar_humidity"
STATE = "sensor.cellar_state"


class Cellar:
    """The device ROOM of a loaded site, and the time."""

    def __init__(self, hass: HomeAssistant, gateway: ContractGateway) -> None:
        self.hass = hass
        self.passed = 0.0
        self._gateway = gateway
        self._sequence = 1000

    async def report(self, value: float | str, name: str = "temperature") -> str:
        """Let the device report ``value``; return the state shown afterwards."""
        await self._send(ValueChanged(sequence=self._next(), device=ROOM.id, property=name, value=value, age=0))
        return self.shown(f"sensor.cellar_{name}")

    async def go(self, *, online: bool) -> None:
        """Change the device's availability."""
        await self._send(AvailabilityChanged(sequence=self._next(), device=ROOM.id, online=online))

    def shown(self, entity: str = TEMPERATURE) -> str:
        state = self.hass.states.get(entity)
        return state.state if state else ""

    async def wait(self, seconds: float) -> None:
        self.passed += seconds
        async_fire_time_changed(self.hass, dt_util.utcnow() + timedelta(seconds=self.passed))
        await self.hass.async_block_till_done()

    def _next(self) -> int:
        self._sequence += 1
        return self._sequence

    async def _send(self, message: ValueChanged | AvailabilityChanged) -> None:
        coordinator = self.hass.config_entries.async_entries("process_cosmos")[0].runtime_data.coordinator
        await self._gateway.send(message)
        await until(lambda: coordinator.devices.sequence == message.sequence)
        await self.hass.async_block_till_done()


@pytest.fixture
async def gateway(gateway: ContractGateway) -> ContractGateway:
    gateway.devices = HOUSE
    return gateway


@pytest.fixture
def cellar(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry, monkeypatch: pytest.MonkeyPatch
) -> Cellar:
    site = Cellar(hass, gateway)
    monkeypatch.setattr(coalescing, "monotonic", lambda: monotonic() + site.passed)
    return site


async def test_the_first_change_is_written_at_once_and_the_newest_after_five_seconds(cellar: Cellar) -> None:
    assert await cellar.report(13.0) == "13.0"
    assert await cellar.report(14.0) == "13.0"
    assert await cellar.report(15.0) == "13.0"
    await cellar.wait(WRITE_EVERY - 1)
    assert cellar.shown() == "13.0"
    await cellar.wait(1)
    assert cellar.shown() == "15.0"
    await cellar.wait(WRITE_EVERY + 1)
    assert await cellar.report(16.0) == "16.0"


async def test_one_number_does_not_hold_back_another(cellar: Cellar) -> None:
    assert await cellar.report(13.0) == "13.0"
    assert await cellar.report(61, "humidity") == "61"


async def test_texts_are_written_at_once(cellar: Cellar) -> None:
    assert await cellar.report("on", "state") == "on"
    assert await cellar.report("off", "state") == "off"


async def test_a_change_of_availability_is_written_at_once_with_the_newest_value(cellar: Cellar) -> None:
    await cellar.report(13.0)
    await cellar.report(14.0)
    await cellar.go(online=False)
    assert cellar.shown() == "unavailable"
    await cellar.go(online=True)
    assert cellar.shown() == "14.0"


async def test_an_entity_that_is_renamed_or_removed_while_a_write_waits_is_written_only_if_it_is_there(
    hass: HomeAssistant, cellar: Cellar
) -> None:
    await cellar.report(13.0)
    await cellar.report(14.0)
    er.async_get(hass).async_update_entity(TEMPERATURE, new_entity_id="sensor.renamed")
    await hass.async_block_till_done()
    assert cellar.shown("sensor.renamed") == "14.0"
    await cellar.report(15.0)
    await cellar.report(16.0)
    er.async_get(hass).async_remove("sensor.renamed")
    await hass.async_block_till_done()
    await cellar.wait(2 * WRITE_EVERY)
    assert hass.states.get("sensor.renamed") is None


TRIGGER = {"trigger": "numeric_state", "entity_id": TEMPERATURE, "above": 100}
NEVER = {"trigger": "event", "event_type": "never"}
READS = "{{ states('sensor.cellar_temperature') | float > 20 }}"
AUTOMATIONS: dict[str, dict[str, Any]] = {
    "trigger": {"triggers": TRIGGER},
    "template trigger": {"triggers": {"trigger": "template", "value_template": READS}},
    "condition": {"conditions": {"condition": "numeric_state", "entity_id": TEMPERATURE, "above": 20}},
    "template condition": {"conditions": [READS]},
    "template in an action": {"actions": {"action": "test.do", "data": {"value": READS}}},
    "target": {"actions": {"action": "test.do", "target": {"entity_id": TEMPERATURE}}},
}


async def load_automation(hass: HomeAssistant, config: dict[str, Any]) -> None:
    """Set up or reload the automation integration with one automation."""
    whole = {"id": "1", "alias": "One", "triggers": NEVER, "actions": [], **config}
    await load(hass, automation.DOMAIN, [whole])


async def load(hass: HomeAssistant, domain: str, config: Any, *, service: str = "reload") -> None:  # noqa: ANN401 - YAML
    if domain not in hass.config.components:
        assert await async_setup_component(hass, domain, {domain: config})
    else:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                "homeassistant.config.async_hass_config_yaml", lambda _: _returned({domain: config}), raising=True
            )
            await hass.services.async_call(domain, service, blocking=True)
    await hass.async_block_till_done()


async def _returned(config: dict[str, Any]) -> dict[str, Any]:
    return config


@pytest.mark.parametrize("name", AUTOMATIONS)
async def test_an_entity_that_an_automation_begins_to_refer_to_is_written_at_once(
    hass: HomeAssistant, cellar: Cellar, name: str
) -> None:
    await load_automation(hass, {})
    await cellar.wait(references.RENEW_SECONDS)
    assert await cellar.report(13.0) == "13.0"
    assert await cellar.report(14.0) == "13.0"
    await load_automation(hass, AUTOMATIONS[name])
    await cellar.wait(references.RENEW_SECONDS)
    assert cellar.shown() == "14.0", "what was held back is written"
    assert await cellar.report(15.0) == "15.0"
    assert await cellar.report(16.0) == "16.0"
    assert await cellar.report(61, "humidity") == "61"
    assert await cellar.report(62, "humidity") == "61", "nothing refers to the humidity"


async def test_a_number_that_a_person_chose_is_written_at_once_also_after_a_rename(
    hass: HomeAssistant, cellar: Cellar, linked: MockConfigEntry
) -> None:
    chosen = er.async_get(hass).async_get(TEMPERATURE)
    assert chosen
    linked.runtime_data.coordinator.at_once = frozenset({chosen.id})
    assert await cellar.report(13.0) == "13.0"
    assert await cellar.report(14.0) == "14.0"
    er.async_get(hass).async_update_entity(TEMPERATURE, new_entity_id="sensor.renamed")
    await hass.async_block_till_done()
    for value in (15.0, 16.0):
        await cellar.report(value)
        assert cellar.shown("sensor.renamed") == str(value)


async def test_areas_devices_and_labels_that_an_automation_names_are_followed(
    hass: HomeAssistant, cellar: Cellar
) -> None:
    area = ar.async_get(hass).async_create("Cellar")
    await load_automation(hass, {"actions": {"action": "test.do", "target": {"area_id": area.id}}})
    await cellar.wait(references.RENEW_SECONDS)
    await cellar.report(13.0)
    assert await cellar.report(14.0) == "13.0"
    er.async_get(hass).async_update_entity(TEMPERATURE, area_id=area.id)
    await hass.async_block_till_done()
    await cellar.wait(references.RENEW_SECONDS)
    assert cellar.shown() == "14.0"
    assert await cellar.report(15.0) == "15.0"


async def test_a_helper_that_waits_for_a_number_gets_each_change_at_once(hass: HomeAssistant, cellar: Cellar) -> None:
    template = {"sensor": {"name": "Doubled", "state": "{{ states('sensor.cellar_temperature') | float * 2 }}"}}
    assert await async_setup_component(hass, "template", {"template": template})
    await hass.async_block_till_done()
    for value in (13.0, 14.0, 15.0):
        await cellar.report(value)
        assert cellar.shown("sensor.doubled") == str(2 * value)


async def test_scripts_count_like_automations(hass: HomeAssistant, cellar: Cellar) -> None:
    await load(hass, script.DOMAIN, {"one": {"sequence": [{"condition": "template", "value_template": READS}]}})
    await cellar.wait(references.RENEW_SECONDS)
    await cellar.report(13.0)
    assert await cellar.report(14.0) == "14.0"


async def test_ten_thousand_references_and_many_reloads_are_read_once(
    hass: HomeAssistant, cellar: Cellar, linked: MockConfigEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = " ".join(f"{{{{ states('sensor.number_{number}') }}}}" for number in range(10_000))
    await load_automation(hass, {"actions": {"action": "test.do", "data": {"value": many}}})
    await cellar.wait(references.RENEW_SECONDS)
    assert "sensor.number_9999" in linked.runtime_data.coordinator.references
    renewed: list[None] = []
    monkeypatch.setattr(linked.runtime_data.coordinator.references, "_on_renewed", lambda: renewed.append(None))
    for number in range(5):
        await load_automation(hass, {"alias": f"One {number}", "conditions": [READS]})
    await cellar.wait(references.RENEW_SECONDS)
    assert len(renewed) == 1
    assert TEMPERATURE in linked.runtime_data.coordinator.references


async def test_a_device_that_reports_at_100_hz_writes_its_first_and_its_last_value(
    hass: HomeAssistant, cellar: Cellar
) -> None:
    written = async_capture_events(hass, "state_changed")
    for number in range(100):
        await cellar.report(float(number))
    await cellar.wait(WRITE_EVERY + 1)
    assert [event.data["new_state"].state for event in written] == ["0.0", "99.0"]
