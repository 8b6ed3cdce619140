"""Property writes: published at once, repeated until reported, dropped when they expire."""

from functools import partial
from pathlib import Path

import pytest

from process_cosmos_gateway.contract.devices import Value
from process_cosmos_gateway.contract.errors import Code
from process_cosmos_gateway.errors import RequestRefusedError
from process_cosmos_testbed.broker import Broker
from process_cosmos_testbed.virtual_devices.kinds import LeakSensor, Valve
from tests.support.waiting import until

from .parts import RunningDevices, client, description, running_devices

WRITES = "SELECT CAST(value AS TEXT) FROM device_write"
QUICK = "process_cosmos_gateway.devices.things.property_writes._FIRST_PAUSE"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Repeat writes fifty times a second."""
    monkeypatch.setattr(QUICK, 0.02)
    monkeypatch.setattr(QUICK.replace("FIRST", "LONGEST"), 0.02)


async def test_a_valve_is_closed_by_one_command(broker: Broker, tmp_path: Path) -> None:
    async with running_devices(tmp_path / "data", broker.options) as gateway, Valve(broker.options, "valve-1") as valve:
        await until(lambda: gateway.value("wot/valve-1", "open"))
        await gateway.write("wot/valve-1", "open", False)
        await until(lambda: gateway.value("wot/valve-1", "open") is False)
        await gateway.wait_for_rows(WRITES, [])
        assert [command.value for command in valve.commands] == [False]


@pytest.mark.usefixtures("quick")
async def test_a_write_is_repeated_until_the_device_reports_it(broker: Broker, tmp_path: Path) -> None:
    async with (
        running_devices(tmp_path / "data", broker.options) as gateway,
        Valve(broker.options, "valve-1", obedient=False) as valve,
    ):
        await until(lambda: gateway.value("wot/valve-1", "open"))
        await gateway.write("wot/valve-1", "open", False)
        assert await gateway.rows(WRITES) == [("false",)]
        await until(lambda: len(valve.commands) > 3)
        valve.obedient = True
        await until(lambda: gateway.value("wot/valve-1", "open") is False)
        await gateway.wait_for_rows(WRITES, [])
        await valve.report("open", True)  # operated by hand: the write must not be repeated
        await until(lambda: gateway.value("wot/valve-1", "open"))
        count = len(valve.commands)
        await valve.report("open", False)
        await until(lambda: gateway.value("wot/valve-1", "open") is False)
        assert len(valve.commands) == count


@pytest.mark.usefixtures("quick")
async def test_a_write_expires(broker: Broker, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with (
        running_devices(tmp_path / "data", broker.options) as gateway,
        Valve(broker.options, "valve-1", obedient=False) as valve,
    ):
        await until(lambda: gateway.value("wot/valve-1", "open"))
        await gateway.write("wot/valve-1", "open", False, expires_in=0.2)
        await until(lambda: gateway.devices.counts["writes_expired"] == 1)
        await gateway.wait_for_rows(WRITES, [])
        assert len(valve.commands) > 1
        assert "did not report the value" in caplog.text


@pytest.mark.usefixtures("quick")
async def test_a_newer_write_replaces_an_older_one(broker: Broker, tmp_path: Path) -> None:
    async with (
        running_devices(tmp_path / "data", broker.options) as gateway,
        Valve(broker.options, "valve-1", obedient=False) as valve,
    ):
        await until(lambda: gateway.value("wot/valve-1", "open"))
        await gateway.write("wot/valve-1", "open", False)
        await gateway.write("wot/valve-1", "open", True)
        assert await gateway.rows(WRITES) == [("true",)]
        await valve.report("open", True)  # the old state, reported once more, confirms the write
        await gateway.wait_for_rows(WRITES, [])
        values = [command.value for command in valve.commands]
        assert values[0] is False
        assert False not in values[values.index(True) :]


@pytest.mark.usefixtures("quick")
async def test_a_write_continues_after_a_restart_and_expires_on_time(broker: Broker, tmp_path: Path) -> None:
    async with Valve(broker.options, "valve-1", obedient=False) as valve:
        async with running_devices(tmp_path / "data", broker.options) as gateway:
            await until(lambda: gateway.value("wot/valve-1", "open"))
            await gateway.wait_for_rows("SELECT count(*) FROM device_property WHERE value IS NOT NULL", [(1,)])
            await gateway.write("wot/valve-1", "open", False, expires_in=2.0)
        count = len(valve.commands)
        async with running_devices(tmp_path / "data", broker.options) as gateway:
            await until(lambda: len(valve.commands) > count + 1)
            await until(lambda: gateway.devices.counts["writes_expired"] == 1)
            await gateway.wait_for_rows(WRITES, [])


async def test_a_value_that_is_already_reported_is_written_once(broker: Broker, tmp_path: Path) -> None:
    async with running_devices(tmp_path / "data", broker.options) as gateway, Valve(broker.options, "valve-1") as valve:
        await until(lambda: gateway.value("wot/valve-1", "open"))
        await gateway.write("wot/valve-1", "open", True)
        assert await gateway.rows(WRITES) == []
        await until(lambda: [command.value for command in valve.commands] == [True])


async def test_a_whole_number_is_written_to_an_integer_without_a_fraction(broker: Broker, tmp_path: Path) -> None:
    forms = [{"href": "mqtt://b/wot/tank/fan"}, {"href": "mqtt://b/wot/tank/fan/set", "op": "writeproperty"}]
    described = description(properties={"fan": {"type": "integer", "forms": forms}})
    async with (
        running_devices(tmp_path / "data", broker.options) as gateway,
        client(broker.options, topics=["wot/tank/fan/set"]) as tank,
    ):
        await tank.publish("wot/tank/td", described, retain=True)
        await until(lambda: gateway.device("wot/tank"))
        await gateway.write("wot/tank", "fan", 20.0)
        await until(lambda: tank.received)
        assert tank.received[0].payload == b"20"


@pytest.mark.parametrize(
    ("write", "code"),
    [
        (("wot/nobody", "open", True), Code.UNKNOWN_DEVICE),
        (("wot/tank", "nothing", True), Code.UNKNOWN_PROPERTY),
        (("wot/tank", "level", 5), Code.READ_ONLY),
        (("wot/tank", "pump", 1), Code.INVALID_VALUE),
    ],
)
async def test_an_invalid_write_is_refused_with_a_code(
    broker: Broker, tmp_path: Path, write: tuple[str, str, Value], code: Code
) -> None:
    async with running_devices(tmp_path / "data", broker.options) as gateway, client(broker.options) as tank:
        await tank.publish("wot/tank/td", description(), retain=True)
        await until(lambda: gateway.device("wot/tank"))
        with pytest.raises(RequestRefusedError) as refused:
            await gateway.write(*write)
        assert refused.value.code is code


async def test_a_write_raises_at_once_when_the_broker_is_away(broker: Broker, tmp_path: Path) -> None:
    async with running_devices(tmp_path / "data", broker.options) as gateway, client(broker.options) as tank:
        await tank.publish("wot/tank/td", description(), retain=True)
        await until(lambda: gateway.device("wot/tank"))
        await broker.stop()
        await until(lambda: not gateway.devices.broker_connected)
        with pytest.raises(RequestRefusedError) as refused:
            await gateway.write("wot/tank", "pump", True)
        assert refused.value.code is Code.BROKER_AWAY
        assert await gateway.rows(WRITES) == []


@pytest.mark.usefixtures("quick")
async def test_a_write_to_a_withdrawn_device_is_discarded(broker: Broker, tmp_path: Path) -> None:
    async with running_devices(tmp_path / "data", broker.options) as gateway, client(broker.options) as tank:
        await tank.publish("wot/tank/td", description(), retain=True)
        await until(lambda: gateway.device("wot/tank"))
        await gateway.wait_for_rows("SELECT count(*) FROM device_property", [(2,)])
        await gateway.write("wot/tank", "pump", True)
        await tank.publish("wot/tank/td", b"", retain=True)
        await until(lambda: not gateway.device("wot/tank"))
        await gateway.wait_for_rows(WRITES, [])


def is_open(gateway: RunningDevices, wanted: object) -> bool:
    return gateway.value("wot/valve-1", "open") is wanted


async def test_leak_sensors_and_valves_do_not_wait_for_each_other(broker: Broker, tmp_path: Path) -> None:
    async with (
        running_devices(tmp_path / "data", broker.options) as gateway,
        LeakSensor(broker.options, "leak-1") as sensor,
        Valve(broker.options, "valve-1") as valve,
    ):
        await until(lambda: gateway.value("wot/valve-1", "open"))
        await until(lambda: gateway.value("wot/leak-1", "leak") is False)
        for wet in (True, False) * 10:
            await sensor.set(wet)
            await gateway.write("wot/valve-1", "open", not wet)
            await until(partial(is_open, gateway, not wet))
        assert len(valve.commands) == 20
