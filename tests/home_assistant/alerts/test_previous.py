"""A memory the previous version left behind when it was killed goes on under this one, with its answers."""

import shutil
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
from freezegun.api import FrozenDateTimeFactory
from homeassistant.core import HomeAssistant
from pytest_homeassistant_custom_component.common import async_mock_service

from custom_components.process_cosmos.alerts.record_frames import find_frames
from custom_components.process_cosmos.alerts.record_log import VERSION
from custom_components.process_cosmos.const import DOMAIN
from custom_components.process_cosmos.contract.alerts import AlertState
from tests.home_assistant.alerts.site import Phone, Site
from tests.home_assistant.alerts.test_services import refused
from tests.versions.parts import ALIVE, ANSWERED, WRITTEN_AT, unpack


@pytest.fixture
async def site(
    hass: HomeAssistant,
    add_site: Callable[..., Site],
    anna: Phone,
    freezer: FrozenDateTimeFactory,
    tmp_path: Path,
) -> Site:
    """A site that is set up a minute after the kill, on what the previous version had written."""
    freezer.move_to(WRITTEN_AT)
    freezer.tick(60)
    site = add_site(phones=[anna.device_id])
    memory = unpack("written", tmp_path) / "memory"
    shutil.copy(memory, hass.config.path(".storage", f"{DOMAIN}.{site.entry.entry_id}.memory"))
    await site.set_up()
    return site


async def test_everything_alive_is_alive_with_its_ring_and_count(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    assert {one.group: one.id for one in site.alerts.alive} == ALIVE
    assert {one.group: (one.state.value, one.content.message, one.count) for one in site.alerts.alive} == {
        "pump": ("open", "The pump stands still", 1),
        "home": ("acknowledged", "Nobody is at home", 1),
        "attic": ("open", "Water in the attic 2", 3),
        "automation.leak_guard_kitchen": ("open", "Water: Kitchen floor Leak", 1),
    }
    assert "memory_" not in caplog.text


async def test_the_file_is_of_this_version_from_then_on_and_holds_the_same_records(
    hass: HomeAssistant, site: Site, tmp_path: Path
) -> None:
    kept = tmp_path / "written/memory"
    now = Path(hass.config.path(".storage", f"{DOMAIN}.{site.entry.entry_id}.memory"))
    (old_header, *old), (header, *new) = (
        [orjson.loads(frame) for _, _, frame in find_frames(path.read_bytes())] for path in (kept, now)
    )
    assert (old_header["version"], header["version"]) == (1, VERSION)
    records = {(run, n): record for frame in new for run, n, record in frame}
    assert len(old) > 20
    for run, n, record in old:
        if record["type"] != "start":
            assert records[run, n]["type"] == record["type"]
            assert records[run, n].get("alert") == record.get("alert")


async def test_an_answer_offered_before_the_update_runs_its_actions_after_it(
    hass: HomeAssistant, site: Site, anna: Phone
) -> None:
    restarted = async_mock_service(hass, "counter", "increment")
    await site.until(lambda: any(notification["data"]["tag"] == ALIVE["pump"] for notification in anna.notifications))
    await site.call("answer", alert=ALIVE["pump"], answer="Restart it")
    await site.until(lambda: restarted)
    assert restarted[0].data["entity_id"] == ["counter.pump_restarts"]
    assert site.known(ALIVE["pump"]).state is AlertState.ANSWERED


async def test_what_was_answered_before_the_update_is_not_answered_again(hass: HomeAssistant, site: Site) -> None:
    restarted = async_mock_service(hass, "counter", "increment")
    assert await refused(site, "answer", alert=ANSWERED, answer="Restart it") == "already_answered"
    assert restarted == []


async def test_a_call_after_the_update_joins_the_alert_of_before(site: Site) -> None:
    called = await site.raise_alert("Water in the attic 3", group="attic")
    assert (called["id"], called["new"]) == (ALIVE["attic"], False)
