"""The config flow: recipients, test notification, and an app that may be added later."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from unittest.mock import patch

import pytest
from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import FlowResultType
from homeassistant.helpers import issue_registry as ir
from homeassistant.setup import async_setup_component
from homeassistant.util import dt as dt_util
from pytest_homeassistant_custom_component.common import MockConfigEntry, async_capture_events, async_fire_time_changed

from custom_components.process_cosmos import config_flow
from custom_components.process_cosmos.alerts.errors import NotOnDiskError
from custom_components.process_cosmos.alerts.test_notification import RESOLVE_AFTER
from custom_components.process_cosmos.const import DOMAIN
from custom_components.process_cosmos.contract.destinations import EventKind, RemoveDestination, SetCloud, SetWebhook
from custom_components.process_cosmos.contract.session import Refused
from custom_components.process_cosmos.flows.gateway_requests import GatewayAccess
from custom_components.process_cosmos.workflows import workflows
from tests.support.waiting import until

from .alerts.site import add_phone
from .contract_gateway import OTHER_SITE, SITE, TOKEN, ContractGateway, refusing
from .setting_up import CLOUD_CODE, NEITHER, WEBHOOK, begin, choose, choose_recipients, discover, submit

pytestmark = pytest.mark.usefixtures("flow_ends")


async def test_without_the_app_two_steps_create_a_site(hass: HomeAssistant) -> None:
    result = await choose_recipients(hass, await begin(hass, "without_app"))
    assert result["step_id"] == "elsewhere_without_app"
    result = await submit(hass, await choose(hass, result, "finish"), NEITHER)
    assert result["type"] is FlowResultType.CREATE_ENTRY
    assert result["title"] == "Process Cosmos"
    assert result["data"] == {"site": None, "url": None, "token": None, "sha256": None}
    assert result["options"] == {
        "phones": [],
        "notify_entities": ["notify.hall"],
        "persistent_notification": False,
        "destinations": [],
    }


async def test_the_test_notification_reaches_the_recipients_and_ends_automatically(hass: HomeAssistant) -> None:
    calls = async_capture_events(hass, "call_service")
    result = await choose(hass, await choose_recipients(hass, await begin(hass, "without_app")), "finish")
    result = await submit(hass, result, {"test_notification": True, "install_blueprints": False})
    entry = result["result"]
    await until(lambda: [event for event in calls if event.data["service"] == "send_message"])
    message = next(event for event in calls if event.data["service"] == "send_message")
    assert "test notification" in message.data["service_data"]["message"]
    assert result["description"] == "tested"
    assert result["description_placeholders"] == {"results": "- **notify.hall**: handed over"}
    assert len(entry.runtime_data.alerts.alive) == 1
    async_fire_time_changed(hass, dt_util.utcnow() + RESOLVE_AFTER + timedelta(seconds=1))
    await until(lambda: not entry.runtime_data.alerts.alive)


async def test_a_full_disk_does_not_prevent_the_setup(hass: HomeAssistant) -> None:
    result = await choose(hass, await choose_recipients(hass, await begin(hass, "without_app")), "finish")
    with patch.object(
        config_flow, "async_test_notification", autospec=True, side_effect=NotOnDiskError("disk full")
    ) as revision:
        result = await submit(hass, result, {"test_notification": True, "install_blueprints": False})
    assert revision.call_count == 1
    assert result["type"] is FlowResultType.CREATE_ENTRY


async def test_the_offered_blueprint_is_installed_with_consent_only(hass: HomeAssistant) -> None:
    with patch.object(workflows, "async_install", autospec=True) as install:
        result = await choose(hass, await choose_recipients(hass, await begin(hass, "without_app")), "finish")
        assert install.call_count == 0
        await submit(hass, result, {"test_notification": False, "install_blueprints": True})
    assert install.call_count == 1


async def test_a_read_only_folder_is_an_error(hass: HomeAssistant, config_folder: Path) -> None:
    assert await async_setup_component(hass, "automation", {})
    folder = config_folder / "blueprints" / "automation" / "process_cosmos"
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text("a file where the folder should be")
    result = await choose(hass, await choose_recipients(hass, await begin(hass, "without_app")), "finish")
    result = await submit(hass, result, {"test_notification": False, "install_blueprints": True})
    assert result["errors"] == {"base": "blueprints_not_written"}
    assert (await submit(hass, result, NEITHER))["type"] is FlowResultType.CREATE_ENTRY


async def test_at_least_one_recipient_is_required(hass: HomeAssistant) -> None:
    result = await submit(hass, await begin(hass, "without_app"), {"phones": [], "notify_entities": []})
    assert result["errors"] == {"base": "nobody"}
    assert (await choose_recipients(hass, result))["step_id"] == "elsewhere_without_app"


@pytest.mark.parametrize(("owned", "chosen"), [(["ann"], ["ann"]), (["ann", "ben"], []), ([], [])])
async def test_the_only_phone_is_preselected(hass: HomeAssistant, owned: list[str], chosen: list[str]) -> None:
    phones = {name: add_phone(hass, name).device_id for name in owned}
    result = await begin(hass, "without_app")
    schema = result["data_schema"]
    assert schema
    suggested = {str(key): (key.description or {}).get("suggested_value") for key in schema.schema}
    assert suggested["phones"] == [phones[name] for name in chosen]


async def test_after_copying_the_blueprint_the_next_step_is_shown(hass: HomeAssistant) -> None:
    for is_copied, shown in ((True, "leak_guard"), (False, None)):
        result = await choose(hass, await choose_recipients(hass, await begin(hass, "without_app")), "finish")
        with patch.object(workflows, "async_install", autospec=True):
            result = await submit(hass, result, {"test_notification": False, "install_blueprints": is_copied})
        assert result["description"] == shown
        await hass.config_entries.async_remove(result["result"].entry_id)


async def test_only_one_site_without_the_app_is_allowed(hass: HomeAssistant, people_only: MockConfigEntry) -> None:
    result = await begin(hass, "without_app")
    assert (result["type"], result["reason"]) == (FlowResultType.ABORT, "already_configured")


async def test_a_second_site_has_a_title_of_its_own(
    hass: HomeAssistant, people_only: MockConfigEntry, gateway: ContractGateway, site: MockConfigEntry
) -> None:
    hass.config_entries.async_update_entry(
        people_only, data=dict(site.data) | {"site": OTHER_SITE, "url": "http://another:1"}
    )
    result = await submit(hass, await discover(hass, gateway), {})
    result = await choose(hass, await choose_recipients(hass, result), "finish")
    assert (await submit(hass, result, NEITHER))["title"] == "Process Cosmos 2"


async def test_the_discovered_app_becomes_a_site_once_confirmed(hass: HomeAssistant, gateway: ContractGateway) -> None:
    result = await discover(hass, gateway)
    assert result["step_id"] == "hassio_confirm"
    result = await submit(hass, result, {})
    result = await choose(hass, await choose_recipients(hass, result), "finish")
    result = await submit(hass, result, NEITHER)
    assert result["data"] == {"site": SITE, "url": gateway.url, "token": TOKEN, "sha256": None}


async def test_an_abandoned_flow_removes_its_destination(hass: HomeAssistant, gateway: ContractGateway) -> None:
    result = await choose_recipients(hass, await submit(hass, await discover(hass, gateway), {}))
    result = await submit(hass, await choose(hass, result, "webhook"), WEBHOOK)
    set_there = await gateway.wait_for_message(SetWebhook)
    hass.config_entries.flow.async_abort(result["flow_id"])
    assert (await gateway.wait_for_message(RemoveDestination)).name == set_there.name


async def test_a_finished_flow_keeps_its_destination(hass: HomeAssistant, gateway: ContractGateway) -> None:
    result = await choose_recipients(hass, await submit(hass, await discover(hass, gateway), {}))
    result = await submit(hass, await choose(hass, result, "webhook"), WEBHOOK)
    result = await submit(hass, result, NEITHER)
    await hass.async_block_till_done(wait_background_tasks=False)
    await until(lambda: result["result"].runtime_data.coordinator.status)
    assert not gateway.received_of(RemoveDestination)


async def test_the_discovered_app_is_added_to_the_site_without_one(
    hass: HomeAssistant, people_only: MockConfigEntry, gateway: ContractGateway
) -> None:
    result = await submit(hass, await discover(hass, gateway), {})
    result = await choose(hass, result, "finish")
    assert result["reason"] == "joined"
    assert people_only.data["site"] == SITE


async def test_a_discovered_app_with_a_new_address_updates_its_site(
    hass: HomeAssistant, gateway: ContractGateway, site: MockConfigEntry
) -> None:
    site.add_to_hass(hass)
    result = await discover(hass, gateway, port=1, token="a-new-token")
    assert result["reason"] == "already_configured"
    assert (site.data["url"], site.data["token"]) == ("http://127.0.0.1:1", "a-new-token")


@pytest.mark.parametrize("wrong", [{"site": "no ulid"}, {"port": "8"}, {"token": None}])
async def test_a_malformed_discovery_is_refused(
    hass: HomeAssistant, gateway: ContractGateway, wrong: dict[str, object]
) -> None:
    result = await discover(hass, gateway, **wrong)
    assert result["reason"] == "invalid_discovery"


async def test_a_discovered_app_has_to_respond(hass: HomeAssistant, gateway: ContractGateway) -> None:
    result = await discover(hass, gateway)
    gateway.refused = Refused(code="other_home_assistant", message="No")
    result = await submit(hass, result, {})
    assert result["errors"] == {"base": "other_home_assistant"}
    gateway.refused = None
    gateway.hello = replace(gateway.hello, site=OTHER_SITE)
    result = await submit(hass, result, {})
    assert result["errors"] == {"base": "identity_mismatch"}
    gateway.refused = Refused(code="a_code_of_tomorrow", message="No")
    result = await submit(hass, result, {})
    assert result["errors"] == {"base": "unknown"}
    gateway.refused, gateway.hello = None, replace(gateway.hello, site=SITE)
    assert (await submit(hass, result, {}))["step_id"] == "who"


async def test_a_webhook_is_set_at_the_gateway_and_known_by_its_name(
    hass: HomeAssistant, gateway: ContractGateway
) -> None:
    result = await choose_recipients(hass, await submit(hass, await discover(hass, gateway), {}))
    result = await choose(hass, result, "webhook")
    answer = {
        "url": "https://hooks.example/secret",
        "header": "X-Key",
        "header_value": "s3cret",
        "kinds": ["alert", "device"],
    }
    result = await submit(hass, await submit(hass, result, answer), NEITHER)
    assert result["options"]["destinations"] == ["webhook"]
    asked = await gateway.wait_for_message(SetWebhook)
    assert (asked.url, asked.header, asked.header_value) == ("https://hooks.example/secret", "X-Key", "s3cret")
    assert asked.kinds == (EventKind.ALERT, EventKind.DEVICE)
    assert "secret" not in str((result["data"], result["options"]))


@pytest.mark.parametrize(
    ("code", "errors"),
    [
        ("url_invalid", {"url": "url_invalid"}),
        ("destination_away", {"url": "destination_away"}),
        ("store_failed", {"base": "store_failed"}),
        ("a_code_of_tomorrow", {"base": "unknown"}),
    ],
)
async def test_a_refused_webhook_shows_the_error_at_the_right_field(
    hass: HomeAssistant, gateway: ContractGateway, code: str, errors: dict[str, str]
) -> None:
    result = await choose_recipients(hass, await submit(hass, await discover(hass, gateway), {}))
    result = await choose(hass, result, "webhook")
    gateway.reply = refusing(code)
    assert (await submit(hass, result, WEBHOOK))["errors"] == errors


@pytest.mark.parametrize("code", ["enrolment_refused", "identity_mismatch", "destination_away", "code_malformed"])
async def test_a_refused_one_time_code_shows_the_error_and_can_be_corrected(
    hass: HomeAssistant, gateway: ContractGateway, code: str
) -> None:
    result = await choose_recipients(hass, await submit(hass, await discover(hass, gateway), {}))
    result = await choose(hass, result, "cloud")
    accept, gateway.reply = gateway.reply, refusing(code)
    result = await submit(hass, result, {"code": CLOUD_CODE, "kinds": ["alert"]})
    assert result["errors"] == {"code": code}
    gateway.reply = accept
    result = await submit(hass, result, {"code": f" {CLOUD_CODE} ", "kinds": ["alert"]})
    assert result["step_id"] == "finish"
    assert (await gateway.wait_for_message(SetCloud, times=2)).code == CLOUD_CODE


@pytest.mark.parametrize(
    ("pasted", "code"),
    [(CLOUD_CODE[:-3], "line_cut"), (CLOUD_CODE.replace("https", "http").split(".")[0], "line_beginning")],
)
async def test_a_malformed_one_time_code_is_never_sent(
    hass: HomeAssistant, gateway: ContractGateway, pasted: str, code: str
) -> None:
    result = await choose_recipients(hass, await submit(hass, await discover(hass, gateway), {}))
    result = await choose(hass, result, "cloud")
    result = await submit(hass, result, {"code": pasted, "kinds": ["alert"]})
    assert result["errors"] == {"code": code}
    assert not gateway.received_of(SetCloud)


async def test_a_gateway_that_disconnects_during_the_setup_is_an_error(
    hass: HomeAssistant, gateway: ContractGateway
) -> None:
    result = await choose_recipients(hass, await submit(hass, await discover(hass, gateway), {}))
    result = await choose(hass, result, "webhook")
    await gateway.stop()
    assert (await submit(hass, result, WEBHOOK))["errors"] == {"base": "cannot_connect"}


async def test_an_app_at_the_address_of_a_site_does_not_become_a_second_site(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry
) -> None:
    result = await discover(hass, gateway, site=OTHER_SITE)
    assert (result["type"], result["reason"]) == (FlowResultType.ABORT, "other_app")
    assert ir.async_get(hass).async_get_issue(DOMAIN, f"other_gateway_{linked.entry_id}")


async def test_the_representation_of_gateway_access_has_no_token() -> None:
    assert TOKEN not in repr(GatewayAccess(site=SITE, url="http://127.0.0.1", token=TOKEN, sha256=None))
