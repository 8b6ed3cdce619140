"""Helpers that run the config and options flows step by step."""

from typing import Any

from homeassistant.config_entries import SOURCE_HASSIO, SOURCE_USER, ConfigFlowResult
from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import FlowResultType
from homeassistant.helpers.service_info.hassio import HassioServiceInfo
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.process_cosmos.const import DOMAIN

from .contract_gateway import SITE, TOKEN, ContractGateway

CLOUD_CODE = "https://cloud.example:8443#code-secret-0123456789." + "ab" * 32
WEBHOOK = {"url": "https://hooks.example/secret", "kinds": ["alert"]}
NEITHER = {"test_notification": False, "install_blueprints": False}


async def begin(hass: HomeAssistant, *choices: str) -> ConfigFlowResult:
    """Start a config flow and choose from its menus."""
    result = await hass.config_entries.flow.async_init(DOMAIN, context={"source": SOURCE_USER})
    for choice in choices:
        result = await choose(hass, result, choice)
    return result


async def choose(hass: HomeAssistant, result: ConfigFlowResult, choice: str) -> ConfigFlowResult:
    assert result["type"] is FlowResultType.MENU
    return await submit(hass, result, {"next_step_id": choice})


async def submit(hass: HomeAssistant, result: ConfigFlowResult, answer: dict[str, Any]) -> ConfigFlowResult:
    return await hass.config_entries.flow.async_configure(result["flow_id"], answer)


async def options(hass: HomeAssistant, entry: MockConfigEntry, *choices: str) -> ConfigFlowResult:
    """Start an options flow and choose from its menus."""
    result = await hass.config_entries.options.async_init(entry.entry_id)
    for choice in choices:
        result = await answer(hass, result, {"next_step_id": choice})
    return result


async def answer(hass: HomeAssistant, result: ConfigFlowResult, given: dict[str, Any]) -> ConfigFlowResult:
    return await hass.config_entries.options.async_configure(result["flow_id"], given)


def filled(result: ConfigFlowResult) -> dict[str, object]:
    """Return the suggested values of a form."""
    assert result["data_schema"]
    return {str(key): (key.description or {}).get("suggested_value") for key in result["data_schema"].schema}


async def choose_recipients(hass: HomeAssistant, result: ConfigFlowResult) -> ConfigFlowResult:
    """Choose the recipients."""
    assert result["step_id"] == "who"
    return await submit(hass, result, {"phones": [], "notify_entities": ["notify.hall"]})


async def discover(hass: HomeAssistant, gateway: ContractGateway, **changed: object) -> ConfigFlowResult:
    config = {"host": "127.0.0.1", "port": gateway.port, "token": TOKEN, "site": SITE} | changed
    info = HassioServiceInfo(config=config, name="Process Cosmos", slug="process_cosmos", uuid="1234")
    return await hass.config_entries.flow.async_init(DOMAIN, context={"source": SOURCE_HASSIO}, data=info)
