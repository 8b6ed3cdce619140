"""Diagnostics and system health without secrets."""

import json
import logging
from dataclasses import replace

import pytest
from homeassistant.core import HomeAssistant
from homeassistant.helpers.json import JSONEncoder
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.process_cosmos.const import DOMAIN, VERSION
from custom_components.process_cosmos.contract.destinations import (
    DestinationKind,
    Drop,
    EventKind,
    Link,
    LinkState,
    Priority,
    StorageState,
    Waiting,
)
from custom_components.process_cosmos.diagnostics import async_get_config_entry_diagnostics
from custom_components.process_cosmos.system_health import async_register
from tests.support.waiting import until

from .contract_gateway import IDLE, TOKEN, ContractGateway
from .contract_gateway import VERSION as GATEWAY_VERSION
from .devices import HOUSE

CANARY = "canary-4711"


async def diagnostics(hass: HomeAssistant, entry: MockConfigEntry) -> str:
    return json.dumps(await async_get_config_entry_diagnostics(hass, entry), cls=JSONEncoder)


async def test_diagnostics_and_log_contain_no_secret(
    hass: HomeAssistant, gateway: ContractGateway, site: MockConfigEntry, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "custom_components.process_cosmos")
    gateway.devices = tuple(replace(device, title=CANARY) for device in HOUSE)
    gateway.status = replace(
        IDLE,
        rejected=1,
        passed_over={"garbage": 2},
        dropped=5,
        drops=(Drop(priority=Priority.READING, reason="quota", count=5),),
        storage=StorageState.FULL,
        storage_reason="no room",
        broker_dropped=17,
        gaps=1,
        links=(
            Link(
                name="webhook",
                label=CANARY,
                detail=CANARY,
                kind=DestinationKind.WEBHOOK,
                address=f"https://{CANARY}.example",
                kinds=(EventKind.ALERT,),
                state=LinkState.OFFLINE,
                state_age=1,
                reason="timeout",
            ),
        ),
    )
    site.add_to_hass(hass)
    assert await hass.config_entries.async_setup(site.entry_id)
    await until(lambda: site.runtime_data.coordinator.status)
    await hass.services.async_call(DOMAIN, "alert", {"message": CANARY}, blocking=True)
    text = await diagnostics(hass, site)
    assert CANARY not in text
    assert gateway.url not in text
    for shown in (text, caplog.text):
        assert TOKEN not in shown
    document = json.loads(text)
    assert document["alerts"] == {"open": 1}
    assert document["gateway"]["version"] == GATEWAY_VERSION
    (link,) = document["gateway"]["status"]["links"]
    assert (link["name"], link["reason"]) == ("webhook", "timeout")
    status = document["gateway"]["status"]
    assert status["passed_over"] == {"garbage": 2}
    assert status["drops"] == [{"priority": "reading", "reason": "quota", "count": 5}]
    assert (status["storage"], status["storage_reason"]) == ("full", "no room")
    assert (status["broker_dropped"], status["gaps"], status["identity_conflict"]) == (17, 1, False)
    assert [len(thing["properties"]) for thing in document["gateway"]["things"]] == [3, 2, 6]


async def test_a_site_without_the_app_has_diagnostics_too(hass: HomeAssistant, people_only: MockConfigEntry) -> None:
    document = json.loads(await diagnostics(hass, people_only))
    assert document["app"] is False
    assert document["gateway"] is None
    assert document["notified"] == {
        "phones": 0,
        "notify_entities": 1,
        "destinations": 0,
        "persistent_notification": False,
    }


async def test_a_site_that_is_not_loaded_has_diagnostics_too(hass: HomeAssistant, people_only: MockConfigEntry) -> None:
    assert await hass.config_entries.async_unload(people_only.entry_id)
    document = json.loads(await diagnostics(hass, people_only))
    assert (document["state"], document["alerts"], document["gateway"]) == ("not_loaded", None, None)


async def test_a_disconnected_gateway_has_diagnostics_too(
    hass: HomeAssistant, gateway: ContractGateway, site: MockConfigEntry
) -> None:
    await gateway.stop()
    site.add_to_hass(hass)
    assert await hass.config_entries.async_setup(site.entry_id)
    document = json.loads(await diagnostics(hass, site))
    assert document["gateway"] == {
        "connected": False,
        "version": None,
        "schema": None,
        "frames_ignored": None,
        "status": None,
        "things": [],
        "reactions": [],
    }


async def test_the_system_information_counts_sites_and_events_and_shows_the_storage(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry, people_only: MockConfigEntry
) -> None:
    coordinator = linked.runtime_data.coordinator
    waiting = Waiting(urgent=1, change=20, reading=300)
    await gateway.send(replace(IDLE, waiting=waiting, rejected=2, dropped=3, storage=StorageState.READ_ONLY))
    await until(lambda: coordinator.status.status.rejected)

    class Registration:
        def async_register_info(self, info: object) -> None:
            self.info = info

    registration = Registration()
    async_register(hass, registration)  # type: ignore[arg-type] # only what is called
    assert await registration.info(hass) == {  # type: ignore[operator]
        "version": VERSION,
        "sites": 2,
        "gateways_connected": "1 / 1",
        "open_alerts": 0,
        "events_waiting": 321,
        "events_rejected": 2,
        "events_dropped": 3,
        "storage": "read_only",
    }
