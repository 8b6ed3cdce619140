"""What can be changed after the set-up."""

from dataclasses import replace
from typing import Any
from unittest.mock import patch

from homeassistant.config_entries import ConfigFlowResult
from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import FlowResultType
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.process_cosmos import options_flow
from custom_components.process_cosmos.contract.destinations import (
    DestinationKind,
    EventKind,
    Link,
    LinkState,
    RemoveDestination,
    SetWebhook,
)
from custom_components.process_cosmos.escalations.errors import NotOnDiskError

from .contract_gateway import IDLE, ContractGateway, refusing, until
from .escalations.site import add_phone

CLOUD_CODE = "https://cloud.example:8443#code-secret-0123456789." + "ab" * 32
WEBHOOK = {"url": "https://hooks.example/secret", "kinds": ["escalation"]}


async def options(hass: HomeAssistant, entry: MockConfigEntry, choice: str) -> ConfigFlowResult:
    result = await hass.config_entries.options.async_init(entry.entry_id)
    return await hass.config_entries.options.async_configure(result["flow_id"], {"next_step_id": choice})


async def answer(hass: HomeAssistant, result: ConfigFlowResult, given: dict[str, Any]) -> ConfigFlowResult:
    return await hass.config_entries.options.async_configure(result["flow_id"], given)


async def test_who_is_told_can_be_changed(hass: HomeAssistant, people_only: MockConfigEntry) -> None:
    result = await options(hass, people_only, "who")
    result = await answer(hass, result, {"phones": [], "notify_entities": []})
    assert result["errors"] == {"base": "nobody"}
    result = await answer(hass, result, {"phones": ["a-phone"], "notify_entities": []})
    assert result["type"] is FlowResultType.CREATE_ENTRY
    assert people_only.options == {"phones": ["a-phone"], "notify_entities": [], "destinations": []}
    await hass.async_block_till_done()


async def test_without_the_app_no_destination_is_offered(hass: HomeAssistant, people_only: MockConfigEntry) -> None:
    result = await hass.config_entries.options.async_init(people_only.entry_id)
    assert result["menu_options"] == ["who", "test_ring"]


async def test_destinations_come_and_go(hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry) -> None:
    for name in ("webhook", "webhook_2"):
        result = await answer(hass, await options(hass, linked, "webhook"), WEBHOOK)
        assert result["type"] is FlowResultType.CREATE_ENTRY
        assert (await gateway.until_heard(SetWebhook, times=1)).name == name
        await hass.async_block_till_done()
        await until(lambda: linked.runtime_data.coordinator.session)
    await answer(hass, await options(hass, linked, "cloud"), {"code": CLOUD_CODE, "kinds": ["escalation"]})
    await hass.async_block_till_done()
    await until(lambda: linked.runtime_data.coordinator.session)
    assert linked.options["destinations"] == ["webhook", "webhook_2", "cloud"]
    await answer(hass, await options(hass, linked, "remove"), {"name": "webhook"})
    await hass.async_block_till_done()
    assert linked.options["destinations"] == ["webhook_2", "cloud"]
    assert (await gateway.until_heard(RemoveDestination)).name == "webhook"


async def test_a_destination_that_was_not_set_from_here_can_be_removed(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry
) -> None:
    link = Link(
        name="cloud",
        kind=DestinationKind.CLOUD,
        address="https://cloud.example",
        kinds=(EventKind.ESCALATION,),
        state=LinkState.CONNECTED,
    )
    await gateway.say(replace(IDLE, links=(link,)))
    await until(lambda: linked.runtime_data.coordinator.status.status.links)
    result = await answer(hass, await options(hass, linked, "remove"), {"name": "cloud"})
    assert result["type"] is FlowResultType.CREATE_ENTRY
    assert (await gateway.until_heard(RemoveDestination)).name == "cloud"
    await hass.async_block_till_done()


async def test_a_destination_the_gateway_refuses_is_not_kept(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry
) -> None:
    gateway.reply = refusing("url_invalid")
    result = await answer(hass, await options(hass, linked, "webhook"), WEBHOOK)
    assert result["errors"] == {"url": "url_invalid"}
    assert linked.options["destinations"] == []


async def test_a_destination_cannot_be_removed_while_the_gateway_is_away(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry
) -> None:
    await answer(hass, await options(hass, linked, "webhook"), WEBHOOK)
    await hass.async_block_till_done()
    await until(lambda: linked.runtime_data.coordinator.session)
    result = await options(hass, linked, "remove")
    await gateway.stop()
    await until(lambda: not linked.runtime_data.coordinator.session)
    result = await answer(hass, result, {"name": "webhook"})
    assert result["errors"] == {"base": "gateway_away"}


async def test_a_test_ring_can_be_sent_at_any_time(hass: HomeAssistant, people_only: MockConfigEntry) -> None:
    result = await options(hass, people_only, "test_ring")
    assert result["type"] is FlowResultType.FORM
    result = await answer(hass, result, {"critical": False})
    assert result["step_id"] == "test_ring_result"
    assert result["description_placeholders"] == {"results": "- **notify.hall**: handed over"}
    (test,) = people_only.runtime_data.escalations.alive
    assert test.content.severity == "info"
    result = await answer(hass, result, {"next_step_id": "test_ring"})
    assert result["type"] is FlowResultType.FORM
    await answer(hass, result, {"critical": True})
    (_, test) = people_only.runtime_data.escalations.alive
    assert test.content.severity == "critical"


async def test_a_test_notification_says_how_it_went_with_each_recipient(
    hass: HomeAssistant, people_only: MockConfigEntry
) -> None:
    anna, ben = add_phone(hass, "Anna"), add_phone(hass, "Ben")
    result = await options(hass, people_only, "who")
    await answer(hass, result, {"phones": [anna.device_id, ben.device_id], "notify_entities": ["notify.hall"]})
    await hass.async_block_till_done()
    ben.away = True
    hass.states.async_set("notify.hall", "unavailable")
    result = await answer(hass, await options(hass, people_only, "test_ring"), {"critical": False})
    assert (result["description_placeholders"] or {})["results"].splitlines() == [
        "- **Anna**: handed over",
        "- **Ben**: not delivered (notify_failed): The notify action failed: HomeAssistantError",
        "- **notify.hall**: not delivered (entity_unavailable): The notify entity is unavailable",
    ]


async def test_a_test_notification_with_nobody_left_says_so(hass: HomeAssistant, people_only: MockConfigEntry) -> None:
    hass.states.async_remove("notify.hall")
    result = await answer(hass, await options(hass, people_only, "test_ring"), {"critical": False})
    assert result["errors"] == {"base": "nobody_left"}


async def test_a_test_ring_that_is_not_on_disk_says_so(hass: HomeAssistant, people_only: MockConfigEntry) -> None:
    result = await options(hass, people_only, "test_ring")
    with patch.object(options_flow, "async_test_ring", autospec=True, side_effect=NotOnDiskError("disk full")):
        result = await answer(hass, result, {"critical": False})
    assert result["errors"] == {"base": "memory_not_written"}


async def test_a_site_that_is_not_loaded_has_no_options(hass: HomeAssistant, people_only: MockConfigEntry) -> None:
    await hass.config_entries.async_unload(people_only.entry_id)
    result = await hass.config_entries.options.async_init(people_only.entry_id)
    assert result["reason"] == "not_loaded"


async def test_a_name_left_from_a_gateway_that_is_gone_can_be_removed(
    hass: HomeAssistant, people_only: MockConfigEntry
) -> None:
    left = dict(people_only.options) | {"destinations": ["webhook"]}
    hass.config_entries.async_update_entry(people_only, options=left)
    await answer(hass, await options(hass, people_only, "remove"), {"name": "webhook"})
    assert people_only.options["destinations"] == []
    await hass.async_block_till_done()
