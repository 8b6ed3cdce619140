"""Writes to devices: published at once, repeated until reported, over when their time is over."""

from functools import partial
from pathlib import Path

import pytest

from process_cosmos_gateway.contract.devices import Value
from process_cosmos_gateway.contract.errors import Code
from process_cosmos_gateway.devices.things.property_writes import pause_after
from process_cosmos_gateway.errors import RequestRefusedError
from process_cosmos_gateway.lab.devices import LeakSensor, Valve
from tests.brokers import Broker

from .parts import Hearing, client, description, hearing, until

WRITES = "SELECT CAST(value AS TEXT) FROM device_write"
QUICK = "process_cosmos_gateway.devices.things.property_writes.pause_after"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Repeat writes fifty times a second."""
    monkeypatch.setattr(QUICK, lambda attempts: 0.02)


def test_writes_are_repeated_less_and_less_often() -> None:
    assert [pause_after(attempts) for attempts in (1, 2, 3, 4, 20)] == [1, 2, 4, 8, 60]


async def test_a_valve_is_closed_by_one_command(broker: Broker, tmp_path: Path) -> None:
    async with hearing(tmp_path / "data", broker.options) as heard, Valve(broker.options, "valve-1") as valve:
        await until(lambda: heard.value("wot/valve-1", "open"))
        await heard.write("wot/valve-1", "open", False)
        await until(lambda: heard.value("wot/valve-1", "open") is False)
        await heard.until_rows(WRITES, [])
        assert [command.value for command in valve.commands] == [False]


@pytest.mark.usefixtures("quick")
async def test_a_write_is_repeated_until_the_device_reports_it(broker: Broker, tmp_path: Path) -> None:
    async with (
        hearing(tmp_path / "data", broker.options) as heard,
        Valve(broker.options, "valve-1", obedient=False) as valve,
    ):
        await until(lambda: heard.value("wot/valve-1", "open"))
        await heard.write("wot/valve-1", "open", False)
        assert await heard.rows(WRITES) == [("false",)]
        await until(lambda: len(valve.commands) > 3)
        valve.obedient = True
        await until(lambda: heard.value("wot/valve-1", "open") is False)
        await heard.until_rows(WRITES, [])
        await valve.report("open", True)  # a hand at the device: nobody fights it
        await until(lambda: heard.value("wot/valve-1", "open"))
        count = len(valve.commands)
        await valve.report("open", False)
        await until(lambda: heard.value("wot/valve-1", "open") is False)
        assert len(valve.commands) == count


@pytest.mark.usefixtures("quick")
async def test_a_write_expires(broker: Broker, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with (
        hearing(tmp_path / "data", broker.options) as heard,
        Valve(broker.options, "valve-1", obedient=False) as valve,
    ):
        await until(lambda: heard.value("wot/valve-1", "open"))
        await heard.write("wot/valve-1", "open", False, expires_in=0.2)
        await until(lambda: heard.devices.counts["writes_expired"] == 1)
        await heard.until_rows(WRITES, [])
        assert len(valve.commands) > 1
        assert "did not take a value" in caplog.text


@pytest.mark.usefixtures("quick")
async def test_a_newer_write_replaces_an_older_one(broker: Broker, tmp_path: Path) -> None:
    async with (
        hearing(tmp_path / "data", broker.options) as heard,
        Valve(broker.options, "valve-1", obedient=False) as valve,
    ):
        await until(lambda: heard.value("wot/valve-1", "open"))
        await heard.write("wot/valve-1", "open", False)
        await heard.write("wot/valve-1", "open", True)
        assert await heard.rows(WRITES) == [("true",)]
        await valve.report("open", True)  # the old state, said once more, counts as reported
        await heard.until_rows(WRITES, [])
        values = [command.value for command in valve.commands]
        assert values[0] is False
        assert False not in values[values.index(True) :]


@pytest.mark.usefixtures("quick")
async def test_a_write_goes_on_after_a_restart_and_expires_in_its_time(broker: Broker, tmp_path: Path) -> None:
    async with Valve(broker.options, "valve-1", obedient=False) as valve:
        async with hearing(tmp_path / "data", broker.options) as heard:
            await until(lambda: heard.value("wot/valve-1", "open"))
            await heard.until_rows("SELECT count(*) FROM device_property WHERE value IS NOT NULL", [(1,)])
            await heard.write("wot/valve-1", "open", False, expires_in=2.0)
        count = len(valve.commands)
        async with hearing(tmp_path / "data", broker.options) as heard:
            await until(lambda: len(valve.commands) > count + 1)
            await until(lambda: heard.devices.counts["writes_expired"] == 1)
            await heard.until_rows(WRITES, [])


async def test_what_is_reported_already_is_written_once(broker: Broker, tmp_path: Path) -> None:
    async with hearing(tmp_path / "data", broker.options) as heard, Valve(broker.options, "valve-1") as valve:
        await until(lambda: heard.value("wot/valve-1", "open"))
        await heard.write("wot/valve-1", "open", True)
        assert await heard.rows(WRITES) == []
        await until(lambda: [command.value for command in valve.commands] == [True])


async def test_a_whole_number_goes_to_an_integer_without_a_fraction(broker: Broker, tmp_path: Path) -> None:
    forms = [{"href": "mqtt://b/wot/tank/fan"}, {"href": "mqtt://b/wot/tank/fan/set", "op": "writeproperty"}]
    described = description(properties={"fan": {"type": "integer", "forms": forms}})
    async with (
        hearing(tmp_path / "data", broker.options) as heard,
        client(broker.options, topics=["wot/tank/fan/set"]) as tank,
    ):
        await tank.say("wot/tank/td", described, retain=True)
        await until(lambda: heard.device("wot/tank"))
        await heard.write("wot/tank", "fan", 20.0)
        await until(lambda: tank.heard)
        assert tank.heard[0].payload == b"20"


@pytest.mark.parametrize(
    ("write", "code"),
    [
        (("wot/nobody", "open", True), Code.UNKNOWN_DEVICE),
        (("wot/tank", "nothing", True), Code.UNKNOWN_PROPERTY),
        (("wot/tank", "level", 5), Code.READ_ONLY),
        (("wot/tank", "pump", 1), Code.INVALID_VALUE),
    ],
)
async def test_a_write_that_cannot_be_is_refused_with_a_code(
    broker: Broker, tmp_path: Path, write: tuple[str, str, Value], code: Code
) -> None:
    async with hearing(tmp_path / "data", broker.options) as heard, client(broker.options) as tank:
        await tank.say("wot/tank/td", description(), retain=True)
        await until(lambda: heard.device("wot/tank"))
        with pytest.raises(RequestRefusedError) as refused:
            await heard.write(*write)
        assert refused.value.code is code


async def test_a_write_raises_at_once_when_the_broker_is_away(broker: Broker, tmp_path: Path) -> None:
    async with hearing(tmp_path / "data", broker.options) as heard, client(broker.options) as tank:
        await tank.say("wot/tank/td", description(), retain=True)
        await until(lambda: heard.device("wot/tank"))
        broker.stop()
        await until(lambda: not heard.devices.broker_connected)
        with pytest.raises(RequestRefusedError) as refused:
            await heard.write("wot/tank", "pump", True)
        assert refused.value.code is Code.BROKER_AWAY
        assert await heard.rows(WRITES) == []


@pytest.mark.usefixtures("quick")
async def test_a_write_to_a_device_that_is_withdrawn_is_over(broker: Broker, tmp_path: Path) -> None:
    async with hearing(tmp_path / "data", broker.options) as heard, client(broker.options) as tank:
        await tank.say("wot/tank/td", description(), retain=True)
        await until(lambda: heard.device("wot/tank"))
        await heard.until_rows("SELECT count(*) FROM device_property", [(2,)])
        await heard.write("wot/tank", "pump", True)
        await tank.say("wot/tank/td", b"", retain=True)
        await until(lambda: not heard.device("wot/tank"))
        await heard.until_rows(WRITES, [])


def is_open(heard: Hearing, wanted: object) -> bool:
    return heard.value("wot/valve-1", "open") is wanted


async def test_leak_sensors_and_valves_do_not_wait_for_each_other(broker: Broker, tmp_path: Path) -> None:
    async with (
        hearing(tmp_path / "data", broker.options) as heard,
        LeakSensor(broker.options, "leak-1") as sensor,
        Valve(broker.options, "valve-1") as valve,
    ):
        await until(lambda: heard.value("wot/valve-1", "open"))
        await until(lambda: heard.value("wot/leak-1", "leak") is False)
        for wet in (True, False) * 10:
            await sensor.set(wet)
            await heard.write("wot/valve-1", "open", not wet)
            await until(partial(is_open, heard, not wet))
        assert len(valve.commands) == 20
