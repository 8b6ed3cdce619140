"""Installation of the blueprint: with consent, by import, and never over an edited copy."""

import re
from pathlib import Path

import pytest
from homeassistant.components.automation.helpers import async_get_blueprints
from homeassistant.core import HomeAssistant
from homeassistant.setup import async_setup_component
from homeassistant.util.file import WriteError
from homeassistant.util.yaml import parse_yaml

from custom_components.process_cosmos.workflows.workflows import async_find_copies, async_install

from .house import BLUEPRINT, KITCHEN, VALVE, LeakGuardHome

LEAK_GUARD = f"automation/{BLUEPRINT}"
SOURCE = Path(__file__).parents[3] / "blueprints" / LEAK_GUARD


@pytest.fixture
async def target(hass: HomeAssistant) -> Path:
    """The path of the installed blueprint, with automations set up."""
    Path(hass.config.path("configuration.yaml")).write_text("automation: []\n")
    assert await async_setup_component(hass, "automation", {})
    await hass.async_block_till_done()
    return Path(hass.config.path("blueprints", LEAK_GUARD))


async def test_installing_copies_byte_for_byte_and_a_second_time_nothing(hass: HomeAssistant, target: Path) -> None:
    assert await async_find_copies(hass) == {LEAK_GUARD: []}
    assert not target.exists()
    assert await async_install(hass) == [LEAK_GUARD]
    assert target.read_bytes() == SOURCE.read_bytes()
    assert [path.name for path in target.parent.iterdir()] == [target.name]
    written = target.stat().st_mtime_ns
    assert await async_install(hass) == []
    assert target.stat().st_mtime_ns == written


async def test_an_installed_blueprint_is_offered_to_new_automations_beside_home_assistants_own(
    hass: HomeAssistant, target: Path
) -> None:
    blueprints = async_get_blueprints(hass)
    before = set(await blueprints.async_get_blueprints())
    await async_install(hass)
    assert before
    assert set(await blueprints.async_get_blueprints()) == before | {BLUEPRINT}


async def test_an_edited_blueprint_is_kept_and_logged(
    hass: HomeAssistant, target: Path, caplog: pytest.LogCaptureFixture
) -> None:
    target.parent.mkdir(parents=True)
    target.write_text("mine")
    assert await async_install(hass) == []
    assert target.read_text() == "mine"
    assert f"{BLUEPRINT} was edited and is kept" in caplog.text


async def test_before_automations_are_set_up_nothing_is_offered_or_written(hass: HomeAssistant) -> None:
    assert await async_find_copies(hass) == {}
    assert await async_install(hass) == []
    assert not Path(hass.config.path("blueprints")).exists()


async def test_a_folder_that_cannot_be_created_raises_a_write_error(hass: HomeAssistant, target: Path) -> None:
    target.parent.write_text("a file in the folder's place")
    with pytest.raises(WriteError):
        await async_install(hass)


async def test_imported_by_url_the_blueprint_works_the_same(home: LeakGuardHome, hass: HomeAssistant) -> None:
    home.with_process_cosmos()
    await home.automation(sensors=[KITCHEN], valve=VALVE)
    blueprints = async_get_blueprints(hass)
    offered = await blueprints.async_get_blueprint(BLUEPRINT)
    data = parse_yaml(offered.yaml())
    assert isinstance(data, dict)
    assert data["variables"]["cosmos_workflow"] == "leak_guard"
    assert await blueprints.async_add_blueprint(offered, BLUEPRINT, allow_override=True)
    assert Path(hass.config.path("blueprints", LEAK_GUARD)).read_bytes() != SOURCE.read_bytes()
    await home.wet(KITCHEN)
    assert home.valve.is_closed
    assert home.messages == ["Water: Kitchen"]


def test_the_blueprint_uses_no_trigger_or_condition_of_the_integration() -> None:
    text = SOURCE.read_text()
    ours = re.findall(r"(\w+): process_cosmos\.", text)
    assert set(ours) == {"action"}
    assert set(re.findall(r"\btrigger: (\w+)", text)) == {"state", "template", "homeassistant"}
    assert len(text.splitlines()) <= 120
    assert "min_version: 2026.11.0" in text
