"""Full and damaged disks: people are notified, and possible losses are reported."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from homeassistant.core import HomeAssistant, ServiceCall
from homeassistant.helpers import issue_registry as ir

from custom_components.process_cosmos.alerts.errors import NotOnDiskError
from custom_components.process_cosmos.const import DOMAIN
from tests.home_assistant.alerts.site import Phone, Site
from tests.support.disks import disk_full


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[], AbstractContextManager[None]]:
    @contextmanager
    def disk() -> Iterator[None]:
        with monkeypatch.context() as patch:
            patch.setattr("custom_components.process_cosmos.alerts.record_log.os.fsync", disk_full)
            yield

    return disk


def issues(hass: HomeAssistant) -> list[str | None]:
    return [issue.translation_key for issue in ir.async_get(hass).issues.values() if issue.domain == DOMAIN]


async def test_on_a_full_disk_people_are_notified_the_action_raises_and_an_issue_is_shown(
    hass: HomeAssistant, site: Site, anna: Phone, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("custom_components.process_cosmos.alerts.record_log.os.fsync", disk_full)
        with pytest.raises(NotOnDiskError) as raised:
            await site.raise_alert()
        assert raised.value.translation_key == "memory_not_written"
        await site.settle()
        assert len(anna.notifications) == 1
        issue = f"memory_not_written_{site.entry.entry_id}"
        assert ir.async_get(hass).async_get_issue(DOMAIN, issue)
    await site.pass_time(seconds=20)
    assert not ir.async_get(hass).async_get_issue(DOMAIN, issue)
    await site.reload()
    assert len(site.alerts.alive) == 1


async def test_unsaved_records_survive_a_reload_and_their_answer_runs_once(
    hass: HomeAssistant, site: Site, anna: Phone, full_disk: Callable[[], AbstractContextManager[None]]
) -> None:
    calls: list[ServiceCall] = []
    hass.services.async_register("valve", "open_valve", calls.append)
    answers = [{"name": "Open", "actions": [{"action": "valve.open_valve"}]}]
    with full_disk():
        for group in ("kitchen", "bath"):
            with pytest.raises(NotOnDiskError):
                await site.call("alert", message=group, group=group, answers=answers)
        with pytest.raises(NotOnDiskError):
            await site.call("answer", alert=site.alerts.alive[0].id, answer="Open")
        assert await hass.config_entries.async_unload(site.entry.entry_id)
        assert issues(hass) == []
    await site.set_up()
    assert site.alive.group == "bath"
    await site.until(lambda: calls)
    await site.pass_time(timedelta(minutes=1), minutes=6)
    assert [notification["message"] for notification in anna.notifications][-1] == "bath"
    await site.reload()
    assert site.alive.group == "bath"
    assert len(calls) == 1
    assert issues(hass) == []


async def test_a_site_can_be_set_up_and_notifies_on_a_full_disk(
    hass: HomeAssistant,
    add_site: Callable[..., Site],
    anna: Phone,
    full_disk: Callable[[], AbstractContextManager[None]],
) -> None:
    site = add_site(phones=[anna.device_id])
    with full_disk():
        await site.set_up()
        with pytest.raises(NotOnDiskError):
            await site.raise_alert()
        await site.settle()
        assert len(anna.notifications) == 1
        assert issues(hass) == ["memory_not_written"]
    await site.reload()
    assert site.alive.group == "leak"
    assert issues(hass) == []


async def test_damage_is_reported_and_the_remaining_alerts_continue(
    hass: HomeAssistant, site: Site, anna: Phone
) -> None:
    for group in ("kitchen", "bath"):
        await site.raise_alert(group, group=group)
    assert await hass.config_entries.async_unload(site.entry.entry_id)
    path = Path(hass.config.path(".storage", f"{DOMAIN}.{site.entry.entry_id}.memory"))
    path.write_bytes(path.read_bytes().replace(b'"message":"kitchen"', b'"message":"kitschen'))
    await site.set_up()
    assert site.alive.group == "bath"
    assert issues(hass) == ["memory_damaged"]
    assert [aside.name for aside in path.parent.glob("*.damaged-*")] == [f"{path.name}.damaged-1"]
    await site.reload()
    assert issues(hass) == []
    await hass.config_entries.async_remove(site.entry.entry_id)
    assert list(path.parent.glob("*.memory*")) == []


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [Path.unlink, empty], ids=["missing", "empty"])
async def test_a_lost_record_log_is_reported(
    hass: HomeAssistant, site: Site, anna: Phone, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    assert "memory_lost" not in issues(hass)
    await site.raise_alert()
    assert await hass.config_entries.async_unload(site.entry.entry_id)
    damage(Path(hass.config.path(".storage", f"{DOMAIN}.{site.entry.entry_id}.memory")))
    await site.set_up()
    assert issues(hass) == ["memory_lost"]
    assert "memory_lost: " in caplog.text
    assert site.alerts.alive == ()
    await site.raise_alert()
    await site.reload()
    assert issues(hass) == []
    assert len(site.alerts.alive) == 1
