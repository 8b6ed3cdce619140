"""An app that is older than the integration, but compatible."""

from dataclasses import replace

import pytest
from homeassistant.core import HomeAssistant
from homeassistant.helpers import issue_registry as ir
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.process_cosmos.const import DOMAIN, VERSION
from custom_components.process_cosmos.gateway import connection as connection_module
from tests.support.waiting import until

from .conftest import set_up
from .contract_gateway import VERSION as APP
from .contract_gateway import ContractGateway
from .devices import HOUSE


async def test_an_older_app_is_an_issue_and_works_meanwhile(
    hass: HomeAssistant, gateway: ContractGateway, site: MockConfigEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def issue() -> ir.IssueEntry | None:
        return ir.async_get(hass).async_get_issue(DOMAIN, f"app_older_{site.entry_id}")

    monkeypatch.setattr(connection_module, "next_delay", lambda _failures, _jitter: 0.02)
    monkeypatch.setattr(connection_module, "SCHEMA", gateway.hello.schema + 1)
    gateway.devices = HOUSE
    await set_up(hass, site)
    await until(lambda: hass.states.get("binary_sensor.kitchen_leak_wet"))
    shown = issue()
    assert shown
    assert shown.learn_more_url
    assert shown.translation_placeholders == {"site": site.title, "app": APP, "integration": VERSION}
    gateway.hello = replace(gateway.hello, schema=gateway.hello.schema + 1)
    await gateway.drop()
    await until(lambda: not issue())
