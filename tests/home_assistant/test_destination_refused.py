"""Destinations under *Configure* that the gateway refuses to change, or that no gateway can change."""

import pytest
from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import FlowResultType
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.process_cosmos.const import DOMAIN
from custom_components.process_cosmos.contract.destinations import RemoveDestination, SetWebhook

from .contract_gateway import ContractGateway, done, refusing
from .links import HOOK, load_texts, send_links
from .setting_up import WEBHOOK, answer, options
from .test_destination_flow import chosen, refusing_to


@pytest.fixture(autouse=True)
async def _texts(hass: HomeAssistant, linked: MockConfigEntry) -> None:
    await load_texts(hass)


async def test_a_destination_whose_removal_the_gateway_refuses_stays(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry
) -> None:
    await send_links(gateway, linked, HOOK)
    gateway.reply = refusing_to("store_failed", RemoveDestination)
    form = await chosen(hass, linked, step="remove")
    refused = await answer(hass, form, {})
    assert (refused["step_id"], refused["errors"]) == ("remove", {"base": "store_failed"})
    gateway.reply = done
    assert (await answer(hass, refused, {}))["type"] is FlowResultType.CREATE_ENTRY
    assert len(gateway.received_of(RemoveDestination)) == 2
    await hass.async_block_till_done()


async def test_an_address_without_a_readable_host_is_labelled_by_its_kind_and_left_to_the_gateway(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry
) -> None:
    gateway.reply = refusing("url_invalid")
    refused = await answer(hass, await options(hass, linked, "webhook"), WEBHOOK | {"url": "https://[::1/hook"})
    assert refused["errors"] == {"url": "url_invalid"}
    assert (await gateway.wait_for_message(SetWebhook)).label == "webhook"


async def test_a_dialog_left_open_while_the_site_lost_its_app_shows_that_it_cannot_be_reached(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry
) -> None:
    form = await options(hass, linked, "webhook")
    without = dict.fromkeys(("url", "token", "sha256"))
    hass.config_entries.async_update_entry(linked, data={**linked.data, **without})
    assert await hass.config_entries.async_reload(linked.entry_id)
    assert (await answer(hass, form, WEBHOOK))["errors"] == {"base": "gateway_away"}
    assert not gateway.received_of(SetWebhook)


async def test_a_site_is_removed_although_its_gateway_keeps_the_destinations(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry, caplog: pytest.LogCaptureFixture
) -> None:
    hass.config_entries.async_update_entry(linked, options={**linked.options, "destinations": ["webhook"]})
    await gateway.stop()
    assert await hass.config_entries.async_remove(linked.entry_id)
    assert not hass.config_entries.async_entries(DOMAIN)
    assert "Could not remove the destinations from the app" in caplog.text
