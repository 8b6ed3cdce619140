"""Updates of workflow copies, imported or installed: after confirmation, and only if automations stay valid."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from homeassistant.components.automation.config import AUTOMATION_BLUEPRINT_SCHEMA
from homeassistant.components.automation.helpers import async_get_blueprints
from homeassistant.components.blueprint import Blueprint
from homeassistant.components.repairs import RepairsFlowResult
from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import FlowResultType
from homeassistant.helpers import entity_registry as er
from homeassistant.helpers import issue_registry as ir
from homeassistant.util.file import WriteError
from homeassistant.util.yaml import dump, parse_yaml
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.process_cosmos.const import DOMAIN
from custom_components.process_cosmos.diagnostics import async_get_config_entry_diagnostics
from custom_components.process_cosmos.repairs import async_create_fix_flow
from custom_components.process_cosmos.workflows import workflows
from custom_components.process_cosmos.workflows.workflow_update import WorkflowUpdateFlow

from .conftest import set_up
from .leak_guard.house import AUTOMATION, BLUEPRINT, KITCHEN

OFFERED = f"automation/{BLUEPRINT}"
IMPORTED = "process-cosmos/leak_guard.yaml"
[VERSION] = re.findall(r'cosmos_version: "(.+)"', (workflows._OFFERED / OFFERED).read_text())
NEWEST = "9.0.0"
A_NEW_INPUT = "  input:\n    pet:\n      name: Pet\n      selector: {text: {}}\n"

pytestmark = pytest.mark.usefixtures("automations")

type Offer = Callable[..., None]
type Import = Callable[..., Awaitable[None]]


@pytest.fixture
def text() -> str:
    """The text of the offered blueprint."""
    return (workflows._OFFERED / OFFERED).read_text()


@pytest.fixture
def newer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str) -> Offer:
    """Make the integration offer a newer version."""

    def offer(**replaced: str) -> None:
        newest = text.replace(f'cosmos_version: "{VERSION}"', f'cosmos_version: "{NEWEST}"')
        assert newest != text
        for old, new in replaced.items():
            newest = newest.replace(f"  {old}:\n", new)
        (tmp_path / OFFERED).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / OFFERED).write_text(newest)
        monkeypatch.setattr(workflows, "_OFFERED", tmp_path)

    return offer


@pytest.fixture
def imported(hass: HomeAssistant, text: str) -> Import:
    """Save the blueprint as Home Assistant's import by URL does: serialised again, with its source URL."""

    async def save(text: str = text) -> None:
        data = parse_yaml(text)
        assert isinstance(data, dict)
        blueprint = Blueprint(data, schema=AUTOMATION_BLUEPRINT_SCHEMA)
        blueprint.update_metadata(source_url="https://example.com/leak_guard.yaml")
        await async_get_blueprints(hass).async_add_blueprint(blueprint, IMPORTED)
        assert file(hass).read_text() != text

    return save


async def make_automation(hass: HomeAssistant, **more: str) -> None:
    """Create an automation from the imported copy, and with ``more`` inputs a second one of the same name."""
    inputs = {"sensors": [KITCHEN]}
    instances = [
        {"id": number, "alias": "Leaks", "use_blueprint": {"path": IMPORTED, "input": {**inputs, **given}}}
        for number, given in (("leaks", {}), *((("namesake", more),) if more else ()))
    ]
    Path(hass.config.path("configuration.yaml")).write_text(dump({"automation": instances}))
    await hass.services.async_call("automation", "reload", blocking=True)
    await hass.async_block_till_done()
    assert state_of(hass) == "on"


def state_of(hass: HomeAssistant) -> str | None:
    state = hass.states.get(AUTOMATION)
    return state.state if state else None


def file(hass: HomeAssistant, path: str = IMPORTED) -> Path:
    return Path(hass.config.path("blueprints/automation", path))


def issues(hass: HomeAssistant) -> list[ir.IssueEntry]:
    return [issue for issue in ir.async_get(hass).issues.values() if issue.translation_key == "workflow_behind"]


async def fix(hass: HomeAssistant, *, confirm: bool = True) -> RepairsFlowResult:
    """Open the fix flow, and confirm it if ``confirm``."""
    (issue,) = issues(hass)
    assert issue.is_fixable
    flow = await async_create_fix_flow(hass, issue.issue_id, issue.data)
    assert isinstance(flow, WorkflowUpdateFlow)
    flow.hass, flow.handler, flow.flow_id, flow.context = hass, DOMAIN, "1", {}
    result = await flow.async_step_init()
    if confirm and result["type"] is FlowResultType.FORM:
        result = await getattr(flow, f"async_step_{result['step_id']}")({})
        await hass.async_block_till_done()
    return result


async def test_an_imported_copy_is_recognised_and_not_installed_twice(
    hass: HomeAssistant, without_app: MockConfigEntry, imported: Import
) -> None:
    await imported()
    await set_up(hass, without_app)
    await make_automation(hass)
    assert await workflows.async_install(hass) == []
    assert not file(hass, BLUEPRINT).exists()
    assert issues(hass) == []
    diagnostics = await async_get_config_entry_diagnostics(hass, without_app)
    assert diagnostics["workflows"] == [
        {"offered": OFFERED, "path": IMPORTED, "version": VERSION, "newest": VERSION, "state": "same", "automations": 1}
    ]


async def test_an_outdated_imported_copy_is_updated_in_place_after_confirmation(
    hass: HomeAssistant, without_app: MockConfigEntry, imported: Import, newer: Offer
) -> None:
    await imported()
    before = file(hass).read_bytes()
    newer()
    await set_up(hass, without_app)
    await make_automation(hass)
    asked = await fix(hass, confirm=False)
    assert asked["step_id"] == "update"
    assert asked["description_placeholders"] == {
        "name": "Leak guard",
        "path": IMPORTED,
        "version": VERSION,
        "newest": NEWEST,
        "count": "1",
        "automations": "Leaks",
    }
    assert file(hass).read_bytes() == before
    assert (await fix(hass))["type"] is FlowResultType.CREATE_ENTRY
    assert file(hass).read_text() == (workflows._OFFERED / OFFERED).read_text()
    assert issues(hass) == []
    assert state_of(hass) == "on"


async def test_a_copy_made_at_set_up_is_updated_too(
    hass: HomeAssistant, without_app: MockConfigEntry, newer: Offer
) -> None:
    await workflows.async_install(hass)
    newer()
    await set_up(hass, without_app)
    assert (await fix(hass))["type"] is FlowResultType.CREATE_ENTRY
    assert NEWEST in file(hass, BLUEPRINT).read_text()


async def test_an_edited_copy_is_replaced_only_after_a_warning(
    hass: HomeAssistant, without_app: MockConfigEntry, imported: Import, newer: Offer, text: str
) -> None:
    await imported(text.replace("default: 15", "default: 20"))
    newer()
    await set_up(hass, without_app)
    assert (await fix(hass, confirm=False))["step_id"] == "replace"
    assert (await fix(hass))["type"] is FlowResultType.CREATE_ENTRY
    assert NEWEST in file(hass).read_text()


async def test_a_copy_edited_while_the_dialog_is_open_needs_a_new_confirmation(
    hass: HomeAssistant, without_app: MockConfigEntry, imported: Import, newer: Offer
) -> None:
    await imported()
    newer()
    await set_up(hass, without_app)
    flow = WorkflowUpdateFlow(IMPORTED)
    flow.hass, flow.handler, flow.flow_id, flow.context = hass, DOMAIN, "1", {}
    assert (await flow.async_step_init())["step_id"] == "update"
    mine = file(hass).read_text().replace("default: 15", "default: 20")
    file(hass).write_text(mine)
    assert (await flow.async_step_update({}))["step_id"] == "replace"
    assert file(hass).read_text() == mine
    assert (await flow.async_step_replace({}))["type"] is FlowResultType.CREATE_ENTRY


@pytest.mark.parametrize("version", [NEWEST, "mine", "{{ 1 }}", ""])
async def test_a_copy_with_a_newer_or_unreadable_version_is_not_updated(
    hass: HomeAssistant, without_app: MockConfigEntry, imported: Import, text: str, version: str
) -> None:
    await imported(text.replace(VERSION, version))
    await set_up(hass, without_app)
    assert issues(hass) == []
    [copies] = (await workflows.async_find_copies(hass)).values()
    assert [copy.version for copy in copies] == [version]


@pytest.mark.parametrize("disabled", [False, True])
async def test_a_copy_is_not_updated_while_an_automation_is_incompatible(
    hass: HomeAssistant,
    without_app: MockConfigEntry,
    imported: Import,
    newer: Offer,
    disabled: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    await imported()
    before = file(hass).read_bytes()
    newer(input=A_NEW_INPUT)
    await set_up(hass, without_app)
    await make_automation(hass, pet="cat")
    if disabled:
        er.async_get(hass).async_update_entity(AUTOMATION, disabled_by=er.RegistryEntryDisabler.USER)
        await hass.services.async_call("automation", "reload", blocking=True)
        await hass.async_block_till_done()
    result = await fix(hass)
    assert result["type"] is FlowResultType.ABORT
    assert result["reason"] == "unfit"
    placeholders = result["description_placeholders"]
    assert placeholders
    assert placeholders["automations"].startswith("- Leaks: ")
    assert placeholders["automations"].count("Leaks") == 1
    assert "pet" in placeholders["automations"]
    assert file(hass).read_bytes() == before
    assert len(issues(hass)) == 1


async def test_an_unreadable_configuration_or_a_read_only_folder_changes_nothing(
    hass: HomeAssistant, without_app: MockConfigEntry, imported: Import, newer: Offer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await imported()
    newer()
    await set_up(hass, without_app)
    configuration = Path(hass.config.path("configuration.yaml"))
    configuration.write_text("automation: [\n")
    assert (await fix(hass))["reason"] == "configuration_unreadable"
    configuration.write_text("automation: []\n")

    def refuse(*_: object, **__: object) -> None:
        raise WriteError("no space left on device")

    monkeypatch.setattr(workflows, "write_utf8_file_atomic", refuse)
    assert (await fix(hass))["reason"] == "blueprints_not_written"
    assert len(issues(hass)) == 1


async def test_an_ignored_version_stays_ignored_after_a_reload(
    hass: HomeAssistant, without_app: MockConfigEntry, imported: Import, newer: Offer
) -> None:
    await imported()
    newer()
    await set_up(hass, without_app)
    ignored = issues(hass)[0].issue_id
    ir.async_ignore_issue(hass, DOMAIN, ignored, ignore=True)
    assert await hass.config_entries.async_reload(without_app.entry_id)
    await hass.async_block_till_done()
    assert [bool(issue.dismissed_version) for issue in issues(hass)] == [True]

    # As Home Assistant loads the issue at the next start, before the copies were checked.
    found = ir.async_get(hass).issues
    found[DOMAIN, ignored] = replace(found[DOMAIN, ignored], active=False, data=None, translation_key=None)
    await workflows.async_install(hass)
    await hass.services.async_call("automation", "reload", blocking=True)
    await hass.async_block_till_done()
    assert [(issue.active, bool(issue.dismissed_version)) for issue in issues(hass)] == [(True, True)]


async def test_deleting_the_copy_deletes_the_issue(
    hass: HomeAssistant, without_app: MockConfigEntry, imported: Import, newer: Offer
) -> None:
    await imported()
    newer()
    await set_up(hass, without_app)
    flow_data = issues(hass)[0].data
    file(hass).unlink()
    flow = WorkflowUpdateFlow(str((flow_data or {})["path"]))
    flow.hass, flow.handler, flow.flow_id, flow.context = hass, DOMAIN, "1", {}
    assert (await flow.async_step_init())["type"] is FlowResultType.CREATE_ENTRY
    assert (await flow.async_step_update({}))["type"] is FlowResultType.CREATE_ENTRY
    await hass.services.async_call("automation", "reload", blocking=True)
    await hass.async_block_till_done()
    assert issues(hass) == []


async def test_removing_the_last_site_deletes_the_issue(
    hass: HomeAssistant, without_app: MockConfigEntry, imported: Import, newer: Offer
) -> None:
    await imported()
    newer()
    await set_up(hass, without_app)
    assert issues(hass)
    await hass.config_entries.async_remove(without_app.entry_id)
    assert issues(hass) == []
    assert file(hass).exists(), "the user installed it"


async def test_the_offered_version_is_listed_with_its_digest(hass: HomeAssistant) -> None:
    for name in await workflows.async_find_copies(hass):
        offered = await workflows.async_load_offered(hass, name)
        known = offered.data["variables"]
        digest = workflows.behaviour_digest(offered)
        listed = (known["cosmos_workflow"], known["cosmos_version"])
        assert workflows.RELEASED.get(digest) == listed, f"a change needs a version of its own: {digest}"
