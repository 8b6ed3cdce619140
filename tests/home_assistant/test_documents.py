"""The YAML examples of the documentation, run in Home Assistant."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from homeassistant.core import HomeAssistant
from homeassistant.setup import async_setup_component
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.process_cosmos.const import DOMAIN
from custom_components.process_cosmos.contract.destinations import (
    DiscardRejected,
    ListRejected,
    RejectedEvents,
    SendAgain,
    SetCloud,
    SetWebhook,
)
from custom_components.process_cosmos.contract.messages import FromGateway, FromHomeAssistant
from tests.support.documents import blocks
from tests.support.waiting import until

from .alerts.site import add_phone
from .contract_gateway import ContractGateway, done
from .links import CLOUD, send_links
from .setting_up import CLOUD_CODE


def listing(message: FromHomeAssistant) -> FromGateway | None:
    """List no rejected events; accept every other request."""
    return RejectedEvents(id=message.id, events=()) if isinstance(message, ListRejected) else done(message)


async def test_the_actions_about_rejected_events_run_as_a_script(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry
) -> None:
    gateway.reply = listing
    await send_links(gateway, linked, CLOUD)
    [text] = blocks("docs/destinations.md", "yaml")
    assert await async_setup_component(hass, "script", {"script": {"clean": {"sequence": yaml.safe_load(text)}}})
    await hass.services.async_call("script", "clean", blocking=True)
    assert [message.after for message in gateway.received_of(ListRejected)] == [507]
    assert [message.numbers for message in gateway.received_of(SendAgain)] == [(508, 512)]
    assert [message.numbers for message in gateway.received_of(DiscardRejected)] == [(509,)]


@pytest.fixture
def settings() -> dict[str, Any]:
    """The settings and secrets of the page, with a complete one-time code."""
    exported, imported = blocks("docs/settings.md", "yaml")
    data: dict[str, Any] = yaml.safe_load(imported)
    assert data["settings"] == "…"
    data["settings"] = yaml.safe_load(exported)
    data["secrets"]["cloud"]["code"] = CLOUD_CODE
    return data


async def test_the_settings_of_the_page_are_imported(
    hass: HomeAssistant,
    gateway: ContractGateway,
    linked: MockConfigEntry,
    settings: dict[str, Any],
    config_folder: Path,
) -> None:
    (config_folder / "configuration.yaml").write_text("automation: []\n")
    assert await async_setup_component(hass, "automation", {"automation": []})
    gateway.reply = done
    add_phone(hass, "Janitor's phone")
    hass.states.async_set("notify.hall", "unknown")
    cloud = {"name": "cloud", "label": "Office", "kind": "cloud", "address": "https://c.example", "kinds": ["reading"]}
    settings["settings"]["destinations"].append(cloud)
    reply = await hass.services.async_call(DOMAIN, "import_settings", settings, True, return_response=True)
    assert reply
    assert reply["left"] == []
    await until(lambda: gateway.received_of(SetCloud))
    [webhook] = gateway.received_of(SetWebhook)
    secret = settings["secrets"]["webhook"]
    assert (webhook.url, webhook.header, webhook.label) == (secret["url"], "Authorization", "Node-RED")
    await hass.async_block_till_done()  # changed options reload the entry
