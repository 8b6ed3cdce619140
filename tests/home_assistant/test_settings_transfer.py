"""Export of settings without secrets, and import that lists what was skipped."""

import json
from pathlib import Path
from typing import Any

import pytest
from homeassistant.core import Context, HomeAssistant
from homeassistant.exceptions import ServiceValidationError, Unauthorized
from homeassistant.setup import async_setup_component
from pytest_homeassistant_custom_component.common import MockConfigEntry, MockUser

from custom_components.process_cosmos.const import DOMAIN
from custom_components.process_cosmos.contract.destinations import EventKind, SetWebhook
from custom_components.process_cosmos.contract.errors import Code

from .alerts.site import add_phone
from .contract_gateway import ContractGateway, refusing

LEAK_GUARD = "automation/process_cosmos/leak_guard.yaml"
SECRET = "https://hooks.example.com/secret-of-building-7"
WEBHOOK = {"name": "webhook", "kind": "webhook", "address": "https://hooks.example.com", "kinds": ["alert"]}


async def call(hass: HomeAssistant, action: str, context: Context | None = None, /, **data: object) -> Any:  # noqa: ANN401 - a response
    return await hass.services.async_call(DOMAIN, action, data, True, context, return_response=True)


async def test_an_export_contains_names_and_no_secrets(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry
) -> None:
    exported = await call(hass, "export_settings")
    assert exported["version"] == 1
    assert exported["title"] == "Process Cosmos"
    assert exported["notify_entities"] == ["notify.hall"]
    assert [each["name"] for each in exported["destinations"]] == [
        link.name for link in linked.runtime_data.coordinator.status.status.links
    ]
    text = json.dumps(exported)
    assert linked.data["token"] not in text
    assert linked.data["site"] not in text


async def test_an_import_adds_what_exists_and_lists_the_rest(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry
) -> None:
    hass.states.async_set("notify.attic", "unknown")
    settings = {
        "version": 1,
        "phones": ["Nobody's phone"],
        "notify_entities": ["notify.attic", "notify.moon"],
        "persistent_notification": True,
        "destinations": [{**WEBHOOK, "label": "Node-RED"}, {**WEBHOOK, "name": "other"}],
        "blueprints": ["automation/process_cosmos/of_tomorrow.yaml"],
    }
    response = await call(hass, "import_settings", settings=settings, secrets={"webhook": {"url": SECRET}})
    assert response == {
        "taken": ["notify.attic", "webhook"],
        "left": [
            {"what": "Nobody's phone", "code": "no_phone"},
            {"what": "notify.moon", "code": "no_entity"},
            {"what": "other", "code": "secret_missing"},
            {"what": "automation/process_cosmos/of_tomorrow.yaml", "code": "not_offered"},
        ],
    }
    asked = await gateway.wait_for_message(SetWebhook)
    assert (asked.url, asked.kinds, asked.label) == (SECRET, (EventKind.ALERT,), "Node-RED")
    await hass.async_block_till_done()
    assert linked.options == {
        "phones": [],
        "notify_entities": ["notify.hall", "notify.attic"],
        "persistent_notification": True,
        "destinations": ["webhook"],
    }


async def test_phones_are_matched_by_name(hass: HomeAssistant, people_only: MockConfigEntry) -> None:
    phone = add_phone(hass, "Anna")
    hass.config_entries.async_update_entry(people_only, options={**people_only.options, "phones": [phone.app_id]})
    exported = await call(hass, "export_settings")
    assert exported["phones"] == ["Anna"]
    hass.config_entries.async_update_entry(people_only, options={**people_only.options, "phones": []})
    response = await call(hass, "import_settings", settings=exported)
    assert response == {"taken": ["Anna", "notify.hall"], "left": []}
    await hass.async_block_till_done()
    assert people_only.options["phones"] == [phone.app_id]


async def test_a_refused_destination_is_listed_with_the_code_of_the_app(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry
) -> None:
    gateway.reply = refusing(Code.URL_INVALID)
    settings = {"version": 1, "destinations": [WEBHOOK]}
    response = await call(hass, "import_settings", settings=settings, secrets={"webhook": {"url": "nonsense"}})
    assert response["left"] == [{"what": "webhook", "code": "url_invalid"}]
    response = await call(hass, "import_settings", settings=settings, secrets={"webhook": {}})
    assert response["left"] == [{"what": "webhook", "code": "secret_missing"}]
    assert linked.options["destinations"] == []


async def test_without_the_app_recipients_and_blueprints_are_imported(
    hass: HomeAssistant, people_only: MockConfigEntry, config_folder: Path
) -> None:
    (config_folder / "configuration.yaml").write_text("automation: []\n")
    assert await async_setup_component(hass, "automation", {"automation": []})
    settings = {"version": 1, "destinations": [WEBHOOK], "blueprints": [LEAK_GUARD]}
    response = await call(hass, "import_settings", settings=settings)
    assert response == {"taken": [LEAK_GUARD], "left": [{"what": "webhook", "code": "no_app"}]}
    assert (config_folder / "blueprints" / LEAK_GUARD).exists()
    assert (await call(hass, "export_settings"))["blueprints"] == [LEAK_GUARD]


async def test_a_read_only_blueprint_folder_is_listed_with_a_code(
    hass: HomeAssistant, people_only: MockConfigEntry, config_folder: Path
) -> None:
    (config_folder / "configuration.yaml").write_text("automation: []\n")
    assert await async_setup_component(hass, "automation", {"automation": []})
    folder = (config_folder / "blueprints" / LEAK_GUARD).parent
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text("a file in the folder's place")
    response = await call(hass, "import_settings", settings={"version": 1, "blueprints": [LEAK_GUARD]})
    assert response["left"] == [{"what": LEAK_GUARD, "code": "blueprints_not_written"}]


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"version": 2}, "settings_too_new"),
        ({}, "settings_malformed"),
        ({"version": "new"}, "settings_malformed"),
        (
            {"version": 1, "destinations": [{"name": "webhook", "kind": "pigeon", "kinds": ["alert"]}]},
            "settings_malformed",
        ),
        ({"version": 1, "destinations": [{**WEBHOOK, "kinds": []}]}, "settings_malformed"),
        ({"version": 1, "notify_entities": ["nonsense"]}, "settings_malformed"),
    ],
)
async def test_malformed_settings_are_refused_and_change_nothing(
    hass: HomeAssistant, people_only: MockConfigEntry, settings: dict[str, object], key: str
) -> None:
    before = dict(people_only.options)
    with pytest.raises(ServiceValidationError) as raised:
        await call(hass, "import_settings", settings=settings)
    assert raised.value.translation_key == key
    assert people_only.options == before


async def test_only_administrators_may_export_and_import(
    hass: HomeAssistant, people_only: MockConfigEntry, hass_read_only_user: MockUser
) -> None:
    context = Context(user_id=hass_read_only_user.id)
    for action, data in (("export_settings", {}), ("import_settings", {"settings": {"version": 1}})):
        with pytest.raises(Unauthorized):
            await call(hass, action, context, **data)
