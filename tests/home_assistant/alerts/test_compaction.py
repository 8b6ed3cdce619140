"""What the memory forgets, and what it must not."""

from pathlib import Path

from homeassistant.core import HomeAssistant

from custom_components.process_cosmos.alerts.records import Recurred, Start, Updated
from custom_components.process_cosmos.backup import async_post_backup, async_pre_backup
from tests.home_assistant.alerts.site import Phone, Site


async def test_recurrences_are_folded_and_their_count_and_order_stay(site: Site, anna: Phone) -> None:
    await site.raise_alert()
    for _ in range(20):
        await site.raise_alert()
    await site.raise_alert("More water")
    for _ in range(10):
        await site.raise_alert("More water")
    journal = site.alerts._journal
    assert site.alive.count == 32
    await journal.async_forget_what_is_old()
    records = [entry.record for entry in journal.memory.entries]
    assert [record.times for record in records if isinstance(record, Recurred)] == [20, 10]
    at = [type(record) for record in records]
    assert at.index(Recurred) < at.index(Updated)
    await site.reload()
    assert site.alive.count == 32
    await site.raise_alert("More water")
    assert site.alive.count == 33


async def test_starts_of_runs_that_left_nothing_are_forgotten(site: Site, anna: Phone) -> None:
    await site.raise_alert()
    for _ in range(20):
        await site.reload()
    journal = site.alerts._journal
    await journal.async_forget_what_is_old()
    assert sum(isinstance(entry.record, Start) for entry in journal.memory.entries) <= 3
    await site.reload()
    assert site.alive.group == "leak"


async def test_while_home_assistant_makes_a_backup_the_file_only_grows(hass: HomeAssistant, site: Site) -> None:
    memory = Path(hass.config.path(".storage", f"process_cosmos.{site.entry.entry_id}.memory"))
    for _ in range(20):
        await site.raise_alert()
    await async_pre_backup(hass)
    before = memory.read_bytes()
    compaction = hass.async_create_background_task(site.alerts._async_compact(), "compaction")
    await site.raise_alert()
    assert memory.read_bytes().startswith(before)
    assert memory.stat().st_size > len(before)
    await async_post_backup(hass)
    await compaction
    assert memory.stat().st_size < len(before)
    await async_post_backup(hass)
