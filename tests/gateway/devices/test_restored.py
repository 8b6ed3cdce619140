"""Devices after a backup was restored, whose values may be outdated."""

from pathlib import Path

from process_cosmos_gateway.store.backup import make_backup
from process_cosmos_testbed.broker import Broker
from process_cosmos_testbed.virtual_devices.kinds import LeakSensor, Valve
from tests.support.waiting import until

from .parts import running_devices

WRITES = "SELECT CAST(value AS TEXT) FROM device_write"


def restore(copy: Path, folder: Path) -> Path:
    """Put a backup where the store restores it from at its start."""
    (folder / "backup").mkdir(parents=True)
    copy.rename(folder / "backup/store.sqlite")
    return folder


async def test_a_restored_backup_does_not_repeat_a_pending_command(broker: Broker, tmp_path: Path) -> None:
    async with Valve(broker.options, "valve-1", obedient=False) as valve:
        async with running_devices(tmp_path / "live", broker.options) as gateway:
            await until(lambda: gateway.value("wot/valve-1", "open"))
            await gateway.write("wot/valve-1", "open", False, expires_in=3600)
            copy = make_backup(tmp_path / "live")
            valve.obedient = True
            await until(lambda: gateway.value("wot/valve-1", "open") is False)
        await valve.report("open", True)  # since the backup the valve was opened again
        count = len(valve.commands)
        async with running_devices(restore(copy, tmp_path / "restored"), broker.options) as gateway:
            await until(lambda: gateway.value("wot/valve-1", "open"))
            assert await gateway.rows(WRITES) == []
        assert len(valve.commands) == count


async def test_values_are_requested_after_a_restored_backup_without_new_events(broker: Broker, tmp_path: Path) -> None:
    async with LeakSensor(broker.options, "leak-1") as sensor:
        async with running_devices(tmp_path / "live", broker.options) as gateway:
            await until(lambda: gateway.value("wot/leak-1", "leak") is False)  # the first value of a device is no event
            await sensor.set(True)
            await gateway.wait_for_rows("SELECT CAST(value AS TEXT) FROM device_property", [("true",)])
            copy = make_backup(tmp_path / "live")
            await sensor.set(False)
            await gateway.wait_for_rows("SELECT CAST(value AS TEXT) FROM device_property", [("false",)])
            # Once a later commit has returned, the messages of the one before are acknowledged.
            await gateway.store.write(lambda _: None)
        async with running_devices(restore(copy, tmp_path / "restored"), broker.options) as gateway:
            await until(lambda: gateway.value("wot/leak-1", "leak") is not None)
            assert gateway.values("leak") == [False]
            reported = [
                each["data"]["value"] for each in await gateway.drain() if each["data"].get("property") == "leak"
            ]
            assert reported[-1:] == [True], "the event for the dry state was sent before"
