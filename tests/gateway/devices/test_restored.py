"""Devices after a restored backup: it knows how they stood, which is not how they stand."""

from pathlib import Path

from process_cosmos_gateway.lab.devices import LeakSensor, Valve
from process_cosmos_gateway.store.backup import make_backup
from tests.brokers import Broker

from .parts import hearing, until

WRITES = "SELECT CAST(value AS TEXT) FROM device_write"


def restore(copy: Path, folder: Path) -> Path:
    """Put a backup where a gateway begins with it."""
    (folder / "backup").mkdir(parents=True)
    copy.rename(folder / "backup/store.sqlite")
    return folder


async def test_a_restored_backup_does_not_repeat_a_command_that_was_on_its_way_when_it_was_made(
    broker: Broker, tmp_path: Path
) -> None:
    async with Valve(broker.options, "valve-1", obedient=False) as valve:
        async with hearing(tmp_path / "live", broker.options) as heard:
            await until(lambda: heard.value("wot/valve-1", "open"))
            await heard.write("wot/valve-1", "open", False, expires_in=3600)
            copy = make_backup(tmp_path / "live")
            valve.obedient = True
            await until(lambda: heard.value("wot/valve-1", "open") is False)
        await valve.report("open", True)  # since then somebody has opened it again
        count = len(valve.commands)
        async with hearing(restore(copy, tmp_path / "restored"), broker.options) as heard:
            await until(lambda: heard.value("wot/valve-1", "open"))
            assert await heard.rows(WRITES) == []
        assert len(valve.commands) == count


async def test_how_things_stand_is_asked_after_a_restored_backup_and_is_no_news(broker: Broker, tmp_path: Path) -> None:
    async with LeakSensor(broker.options, "leak-1") as sensor:
        async with hearing(tmp_path / "live", broker.options) as heard:
            await until(lambda: heard.value("wot/leak-1", "leak") is False)  # what it says first is no news
            await sensor.set(True)
            await heard.until_rows("SELECT CAST(value AS TEXT) FROM device_property", [("true",)])
            copy = make_backup(tmp_path / "live")
            await sensor.set(False)
            await heard.until_rows("SELECT CAST(value AS TEXT) FROM device_property", [("false",)])
            # Once a later commit is known, what was in the one before is acknowledged.
            await heard.store.write(lambda _: None)
        async with hearing(restore(copy, tmp_path / "restored"), broker.options) as heard:
            await until(lambda: heard.value("wot/leak-1", "leak") is not None)
            assert heard.values("leak") == [False]
            told = [each["data"]["value"] for each in await heard.drained() if each["data"].get("property") == "leak"]
            assert told[-1:] == [True], "it had told already that it is dry"
