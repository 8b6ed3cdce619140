"""Destinations under *Configure*: add, test, list, change without losing waiting events, remove."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import FlowResultType
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.process_cosmos.contract.destinations import (
    ApproveReply,
    ChangeDestination,
    DestinationTested,
    EventKind,
    LinkState,
    RemoveDestination,
    SetCloud,
    SetWebhook,
    TestDestination,
    Waiting,
)
from custom_components.process_cosmos.contract.messages import FromGateway, FromHomeAssistant
from custom_components.process_cosmos.contract.session import Problem, Result
from tests.support.waiting import until

from .contract_gateway import IDLE, ContractGateway, done, refusing
from .links import CLOUD, HOOK, load_texts, send_links, send_status
from .setting_up import CLOUD_CODE, WEBHOOK, answer, choose, choose_recipients, discover, filled, options, submit

UNTESTED = DestinationTested(id="", delivered=False, reason="not_a_receiver", status=200, reply="<p>`Hi`</p>")
APPROVABLE = replace(UNTESTED, approvable=True, digest="ab" * 32)


@pytest.fixture(autouse=True)
async def _texts(hass: HomeAssistant, linked: MockConfigEntry) -> None:
    await load_texts(hass)


def replying(*outcomes: DestinationTested) -> Callable[[FromHomeAssistant], FromGateway | None]:
    """Return these test results in order; repeat the last one."""
    left = [*outcomes]

    def reply(message: FromHomeAssistant) -> FromGateway | None:
        if isinstance(message, TestDestination):
            return replace(left.pop(0) if len(left) > 1 else left[0], id=message.id)
        return done(message)

    return reply


async def chosen(hass: HomeAssistant, entry: MockConfigEntry, name: str = "webhook", step: str | None = None) -> Any:  # noqa: ANN401 - a flow's result
    """Select a destination and an option of its menu."""
    result = await answer(hass, await options(hass, entry, "destinations"), {"name": name})
    return await answer(hass, result, {"next_step_id": step}) if step else result


async def settle(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    """Wait until the site was reloaded."""
    await hass.async_block_till_done()
    await until(lambda: entry.runtime_data.coordinator.connection.session)


async def test_destination_lifecycle(hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry) -> None:
    for number, name in enumerate(("webhook", "webhook_2"), start=1):
        result = await answer(hass, await options(hass, linked, "webhook"), WEBHOOK)
        assert result["type"] is FlowResultType.CREATE_ENTRY
        assert (await gateway.wait_for_message(SetWebhook, times=number)).name == name
        assert (await gateway.wait_for_message(TestDestination, times=number)).name == name
        await settle(hass, linked)
    await answer(hass, await options(hass, linked, "cloud"), {"code": CLOUD_CODE, "kinds": ["alert"]})
    await settle(hass, linked)
    assert linked.options["destinations"] == ["webhook", "webhook_2", "cloud"]
    await answer(hass, await chosen(hass, linked, step="remove"), {})
    await hass.async_block_till_done()
    assert linked.options["destinations"] == ["webhook_2", "cloud"]
    assert (await gateway.wait_for_message(RemoveDestination)).name == "webhook"


@pytest.mark.parametrize(
    ("typed", "label"),
    [({"label": " Node-RED "}, "Node-RED"), ({}, "hooks.example"), ({"label": " "}, "hooks.example")],
)
async def test_a_destination_is_labelled_as_typed_or_by_its_host(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry, typed: dict[str, str], label: str
) -> None:
    await answer(hass, await options(hass, linked, "webhook"), WEBHOOK | typed)
    assert (await gateway.wait_for_message(SetWebhook)).label == label
    await settle(hass, linked)
    await answer(hass, await options(hass, linked, "cloud"), {"code": CLOUD_CODE, "kinds": []} | typed)
    assert (await gateway.wait_for_message(SetCloud)).label == label.replace("hooks", "cloud")
    await settle(hass, linked)


async def test_two_destinations_of_one_host_get_different_labels(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry
) -> None:
    await send_links(gateway, linked, replace(HOOK, label="hooks.example"))
    form = await options(hass, linked, "webhook")
    refused = await answer(hass, form, WEBHOOK | {"label": "hooks.example"})
    assert refused["errors"] == {"label": "label_taken"}
    await answer(hass, refused, WEBHOOK)
    assert (await gateway.wait_for_message(SetWebhook)).label == "hooks.example 2"
    await settle(hass, linked)


async def test_an_unconfirmed_webhook_is_reported_and_can_be_added_anyway(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry
) -> None:
    gateway.reply = replying(UNTESTED)
    result = await answer(hass, await options(hass, linked, "webhook"), WEBHOOK | {"label": "Mill"})
    assert (result["type"], result["step_id"]) == (FlowResultType.MENU, "unconfirmed")
    assert result["menu_options"] == ["webhook", "keep"]
    said = result["description_placeholders"]
    assert said
    assert said["destination"] == "Mill"
    assert said["meaning"].startswith("The reply does not look like that of a receiver")
    assert said["reply"] == "HTTP 200: `<p>'Hi'</p>`"
    assert linked.options["destinations"] == []
    result = await answer(hass, result, {"next_step_id": "keep"})
    assert result["type"] is FlowResultType.CREATE_ENTRY
    await settle(hass, linked)
    assert linked.options["destinations"] == ["webhook"]
    assert not gateway.received_of(RemoveDestination)


async def test_correcting_a_webhook_after_the_test_does_not_add_a_second_one(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry
) -> None:
    gateway.reply = replying(UNTESTED, replace(UNTESTED, delivered=True))
    result = await answer(hass, await options(hass, linked, "webhook"), WEBHOOK | {"label": "Mill"})
    await send_links(gateway, linked, replace(HOOK, label="Mill"))
    form = await answer(hass, result, {"next_step_id": "webhook"})
    assert (filled(form)["url"], filled(form)["label"]) == (WEBHOOK["url"], "Mill")
    result = await answer(hass, form, WEBHOOK | {"label": "Mill", "url": "https://mill.example/in"})
    assert result["type"] is FlowResultType.CREATE_ENTRY
    assert [(one.name, one.url) for one in gateway.received_of(SetWebhook)] == [
        ("webhook", WEBHOOK["url"]),
        ("webhook", "https://mill.example/in"),
    ]
    await settle(hass, linked)


async def test_the_receivers_own_reply_can_be_approved(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry
) -> None:
    gateway.reply = replying(APPROVABLE, replace(UNTESTED, delivered=True))
    result = await answer(hass, await options(hass, linked, "webhook"), WEBHOOK)
    assert result["menu_options"] == ["webhook", "approve", "keep"]
    result = await answer(hass, result, {"next_step_id": "approve"})
    approved = await gateway.wait_for_message(ApproveReply)
    assert (approved.name, approved.digest) == ("webhook", "ab" * 32)
    assert result["type"] is FlowResultType.CREATE_ENTRY
    await settle(hass, linked)


async def test_closing_the_dialog_before_saving_removes_the_webhook(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry
) -> None:
    gateway.reply = replying(UNTESTED)
    result = await answer(hass, await options(hass, linked, "webhook"), WEBHOOK)
    hass.config_entries.options.async_abort(result["flow_id"])
    assert (await gateway.wait_for_message(RemoveDestination)).name == "webhook"


async def test_an_unconfirmed_webhook_is_reported_in_the_setup_too(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry
) -> None:
    await hass.config_entries.async_remove(linked.entry_id)
    gateway.reply = replying(
        APPROVABLE, replace(UNTESTED, reason="http_404", status=404), replace(UNTESTED, delivered=True)
    )
    result = await choose(
        hass, await choose_recipients(hass, await submit(hass, await discover(hass, gateway), {})), "webhook"
    )
    result = await submit(hass, result, WEBHOOK)
    assert result["step_id"] == "unconfirmed"
    result = await choose(hass, result, "approve")
    assert result["step_id"] == "unconfirmed"
    result = await submit(hass, await choose(hass, result, "webhook"), WEBHOOK)
    assert result["step_id"] == "finish"
    hass.config_entries.flow.async_abort(result["flow_id"])
    assert (await gateway.wait_for_message(RemoveDestination)).name == "webhook"


async def test_each_destination_is_listed_with_label_address_and_state(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry
) -> None:
    refused = replace(CLOUD, state=LinkState.REFUSED, reason="certificate_revoked")
    await send_links(gateway, linked, refused, replace(HOOK, name="webhook_2", label=None), HOOK)
    result = await options(hass, linked, "destinations")
    assert result["data_schema"]
    (selector,) = result["data_schema"].schema.values()
    assert {one["value"]: one["label"] for one in selector.config["options"]} == {
        "cloud": "Head office (https://cloud.example:8443): Refused",
        "webhook": "Node-RED (https://hooks.example): Connected",
        "webhook_2": "webhook_2 (https://hooks.example): Connected",
    }
    result = await answer(hass, result, {"name": "cloud"})
    assert result["menu_options"] == ["change_cloud", "test", "remove"]
    assert result["description_placeholders"]
    assert result["description_placeholders"]["destination"] == "Head office"
    assert result["description_placeholders"]["state"].startswith(
        "Refused. The admin of the cloud endpoint has revoked"
    )


async def test_a_webhook_is_changed_without_its_secrets_being_typed_again(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry
) -> None:
    await send_links(gateway, linked, HOOK, CLOUD)
    form = await chosen(hass, linked, step="change_webhook")
    taken = await answer(hass, form, {"label": "Head office", "kinds": ["alert"]})
    assert taken["errors"] == {"label": "label_taken"}
    result = await answer(hass, taken, {"label": "Mill", "kinds": ["alert", "device"]})
    assert result["type"] is FlowResultType.CREATE_ENTRY
    asked = await gateway.wait_for_message(ChangeDestination)
    assert asked == ChangeDestination(
        id=asked.id, name="webhook", label="Mill", kinds=(EventKind.ALERT, EventKind.DEVICE)
    )
    assert not gateway.received_of(TestDestination)
    assert not gateway.received_of(RemoveDestination)


@pytest.mark.parametrize(
    ("typed", "changed"),
    [
        ({"url": "https://mill.example/in"}, {"url": "https://mill.example/in"}),
        ({"header_value": "Bearer 2"}, {"header_value": "Bearer 2"}),
        ({"header": "X-Key", "header_value": "2"}, {"header": "X-Key", "header_value": "2"}),
        ({"no_header": True}, {"header": ""}),
    ],
)
async def test_a_webhook_with_a_new_address_or_header_is_tested_at_once(
    hass: HomeAssistant,
    gateway: ContractGateway,
    linked: MockConfigEntry,
    *,
    typed: dict[str, Any],
    changed: dict[str, Any],
) -> None:
    await send_links(gateway, linked, HOOK)
    form = await chosen(hass, linked, step="change_webhook")
    result = await answer(hass, form, {"label": "Node-RED", "kinds": ["alert"]} | typed)
    assert result["reason"] == "confirmed"
    asked = await gateway.wait_for_message(ChangeDestination)
    fields = ("url", "header", "header_value")
    assert {key: getattr(asked, key) for key in fields if getattr(asked, key) is not None} == changed


async def test_a_cloud_endpoint_is_renamed_or_enrolled_again(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry
) -> None:
    await send_links(gateway, linked, CLOUD)
    form = await chosen(hass, linked, "cloud", "change_cloud")
    await answer(hass, form, {"label": "Office", "kinds": ["alert"]})
    assert (await gateway.wait_for_message(ChangeDestination)).label == "Office"
    form = await chosen(hass, linked, "cloud", "change_cloud")
    form = await answer(hass, form, {"label": "Office", "code": CLOUD_CODE[:-1], "kinds": ["alert"]})
    assert form["errors"] == {"code": "line_cut"}
    await answer(hass, form, {"label": "Office", "code": CLOUD_CODE, "kinds": ["alert"]})
    asked = await gateway.wait_for_message(SetCloud)
    assert (asked.name, asked.label) == ("cloud", "Office")


async def test_the_result_of_a_test_is_shown_with_a_remedy(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry
) -> None:
    await send_links(gateway, linked, HOOK)
    gateway.reply = replying(replace(UNTESTED, reason="unreachable", status=None, reply=None), APPROVABLE, APPROVABLE)
    result = await chosen(hass, linked, step="test")
    assert (result["step_id"], result["menu_options"]) == ("test_failed", ["change_webhook", "test"])
    assert result["description_placeholders"]["reply"] == "-"
    result = await answer(hass, result, {"next_step_id": "test"})
    assert result["menu_options"] == ["change_webhook", "approve", "test"]
    result = await answer(hass, result, {"next_step_id": "approve"})
    assert result["step_id"] == "test_failed"
    gateway.reply = replying(replace(UNTESTED, delivered=True))
    result = await answer(hass, result, {"next_step_id": "test"})
    assert (result["type"], result["reason"]) == (FlowResultType.ABORT, "confirmed")


@pytest.mark.parametrize(("code", "error"), [("store_failed", "store_failed"), ("new", "unknown")])
async def test_a_test_that_was_not_sent_shows_the_error_and_can_be_retried(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry, code: str, error: str
) -> None:
    await send_links(gateway, linked, HOOK)
    gateway.reply = refusing_to(code, TestDestination)
    result = await chosen(hass, linked, step="test")
    assert (result["step_id"], result["errors"]) == ("test", {"base": error})
    gateway.reply = done
    assert (await answer(hass, result, {}))["reason"] == "confirmed"


async def test_the_number_of_waiting_events_is_shown_before_removal(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry
) -> None:
    await send_status(gateway, linked, replace(IDLE, links=(CLOUD,), waiting=Waiting(urgent=1, change=20, reading=300)))
    result = await chosen(hass, linked, "cloud", "remove")
    assert result["description_placeholders"]["waiting"] == "321"
    assert result["description_placeholders"]["destination"] == "Head office"
    assert not gateway.received_of(RemoveDestination)
    result = await answer(hass, result, {})
    assert result["type"] is FlowResultType.CREATE_ENTRY
    assert (await gateway.wait_for_message(RemoveDestination)).name == "cloud"
    await hass.async_block_till_done()


async def test_a_destination_the_gateway_refuses_is_not_saved(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry
) -> None:
    gateway.reply = refusing("url_invalid")
    result = await answer(hass, await options(hass, linked, "webhook"), WEBHOOK)
    assert result["errors"] == {"url": "url_invalid"}
    assert linked.options["destinations"] == []


async def test_an_address_with_invalid_characters_is_shown_encoded_before_use(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry
) -> None:
    form = await options(hass, linked, "webhook")
    shown = await answer(hass, form, WEBHOOK | {"url": " https://hooks.example/ä%2F{b}?sig=%2B\n"})
    assert shown["errors"] == {"url": "url_encoded"}
    assert shown["data_schema"]
    suggested = {str(key): key.description["suggested_value"] for key in shown["data_schema"].schema if key.description}
    assert suggested["url"] == "https://hooks.example/%C3%A4%2F%7Bb%7D?sig=%2B"
    assert not gateway.received_of(SetWebhook)
    await answer(hass, shown, WEBHOOK | {"url": suggested["url"]})
    assert (await gateway.wait_for_message(SetWebhook)).url == suggested["url"]
    await settle(hass, linked)


async def test_a_changed_address_is_shown_encoded_and_blanks_are_refused_by_the_gateway(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry
) -> None:
    await send_links(gateway, linked, HOOK)
    form = await chosen(hass, linked, step="change_webhook")
    changes = {"no_header": False, "kinds": ["alert"]}
    shown = await answer(hass, form, {"url": "https://hooks.example/|", **changes})
    assert shown["errors"] == {"url": "url_encoded"}
    gateway.reply = refusing("url_invalid")
    refused = await answer(hass, shown, {"url": "https://hooks.example/a b", **changes})
    assert refused["errors"] == {"url": "url_invalid"}


async def test_a_destination_cannot_be_removed_without_a_connection(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry
) -> None:
    await send_links(gateway, linked, HOOK)
    form = await chosen(hass, linked, step="remove")
    menu = await chosen(hass, linked)
    await gateway.stop()
    await until(lambda: not linked.runtime_data.coordinator.connection.session)
    assert (await answer(hass, form, {}))["errors"] == {"base": "gateway_away"}
    assert (await answer(hass, menu, {"next_step_id": "test"}))["errors"] == {"base": "gateway_away"}


async def test_a_name_the_gateway_does_not_know_can_be_removed(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry
) -> None:
    left = dict(linked.options) | {"destinations": ["webhook"]}
    hass.config_entries.async_update_entry(linked, options=left)
    gateway.reply = refusing("unknown_destination")
    result = await chosen(hass, linked)
    assert result["menu_options"] == ["remove"]
    await answer(hass, await answer(hass, result, {"next_step_id": "remove"}), {})
    assert linked.options["destinations"] == []
    await hass.async_block_till_done()


async def test_a_name_of_a_lost_gateway_can_be_removed(hass: HomeAssistant, people_only: MockConfigEntry) -> None:
    left = dict(people_only.options) | {"destinations": ["webhook"]}
    hass.config_entries.async_update_entry(people_only, options=left)
    await answer(hass, await chosen(hass, people_only, step="remove"), {})
    assert people_only.options["destinations"] == []
    await hass.async_block_till_done()


def refusing_to(code: str, *kinds: type) -> Callable[[FromHomeAssistant], FromGateway | None]:
    """Refuse requests of these types."""

    def reply(message: FromHomeAssistant) -> FromGateway | None:
        asked = getattr(message, "id", None) if isinstance(message, kinds) else None
        return Result(id=asked, problem=Problem(code=code, message=f"It is {code}")) if asked else done(message)

    return reply
