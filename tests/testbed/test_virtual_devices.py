"""Virtual devices: what they say, what they do when cut off, and how others command them."""

import asyncio
import sys
from dataclasses import replace

import orjson
import pytest

from process_cosmos_gateway.devices.things.description import parse_description
from process_cosmos_testbed.broker import Broker
from process_cosmos_testbed.cli import main
from process_cosmos_testbed.control import ControlError, controlled, device_commands, proxy_commands, send_command
from process_cosmos_testbed.proxy import FaultProxy
from process_cosmos_testbed.virtual_devices.kinds import LeakSensor, TemperatureSensor, Valve
from tests.gateway.devices.parts import client
from tests.support.waiting import until


async def test_a_thing_describes_itself_retained_and_says_goodbye(broker: Broker) -> None:
    async with LeakSensor(broker.options, "leak-1", "Leak") as sensor:
        await sensor.connected.wait()
        async with client(broker.options, topics=["wot/#"]) as watcher:
            await until(lambda: len(watcher.received) == 3)
            said = {message.topic: message for message in watcher.received}
            assert all(message.retained for message in watcher.received)
            thing = parse_description("wot/leak-1/td", said["wot/leak-1/td"].payload, ("wot/+/td",))
            assert thing.device.title == "Leak"
            assert thing.availability == "wot/leak-1/availability"
            assert said["wot/leak-1/availability"].payload == b"online"
    async with client(broker.options, topics=["wot/+/availability"]) as watcher:
        await until(lambda: watcher.received and watcher.received[-1].payload == b"offline")


async def test_a_thing_taken_away_for_good_leaves_nothing(broker: Broker) -> None:
    async with LeakSensor(broker.options, "leak-1") as sensor:
        await sensor.withdraw()
        async with client(broker.options, topics=["wot/+/td", "wot/+/properties/#"]) as watcher:
            await watcher.publish("wot/marker/td", b"x")
            await until(lambda: watcher.received)
            assert [message.topic for message in watcher.received] == ["wot/marker/td"]


async def test_what_could_not_be_sent_is_sent_when_the_broker_is_back(broker: Broker) -> None:
    async with (
        FaultProxy("127.0.0.1", broker.options.port) as proxy,
        client(broker.options, topics=["wot/+/events/+"]) as watcher,
        LeakSensor(replace(broker.options, port=proxy.port), "leak-1") as sensor,
    ):
        await sensor.connected.wait()
        proxy.refuse()
        await until(lambda: not sensor.connected.is_set())
        wet = asyncio.create_task(sensor.set(True))
        await until(lambda: sensor.wet)
        assert watcher.received == []
        proxy.heal()
        await wet
        await until(lambda: watcher.received)


async def test_a_valve_cut_off_closes_when_its_own_probe_is_wet(broker: Broker) -> None:
    async with FaultProxy("127.0.0.1", broker.options.port) as proxy:
        sensor = LeakSensor(broker.options, "leak-1", wet=True)
        async with Valve(replace(broker.options, port=proxy.port), "valve-1", probe=sensor, safe_after=None) as valve:
            await valve.until(lambda: valve.cut_off is None)
            assert valve.is_open
            proxy.refuse()
            await valve.until(lambda: not valve.is_open)
            assert valve.commands == []
            async with client(broker.options, topics=["wot/valve-1/properties/open"]) as watcher:
                proxy.heal()
                await until(lambda: watcher.received and watcher.received[-1].payload == b"false")


async def test_a_valve_cut_off_goes_to_its_safe_position_in_time(broker: Broker) -> None:
    async with Valve(replace(broker.options, port=1), "valve-1", safe_after=0.1) as valve:
        await valve.until(lambda: not valve.is_open)


async def test_a_valve_never_cut_off_stays_as_it_is(broker: Broker) -> None:
    async with Valve(
        broker.options, "valve-1", safe_after=0.0, probe=LeakSensor(broker.options, "l", wet=True)
    ) as valve:
        await valve.until(lambda: valve.cut_off is None)
        valve.values["open"] = True
        async with client(broker.options) as hand:
            for payload in (b"true", b"garbage", b"5"):
                await hand.publish("wot/valve-1/properties/open/writeproperty", payload)
            await hand.publish("wot/valve-1/properties/open/writeproperty", b"true")
        await valve.until(lambda: len(valve.commands) == 2)
        assert valve.is_open


async def test_a_temperature_walks_by_itself(broker: Broker) -> None:
    async with TemperatureSensor(broker.options, "t-1", every=0.01) as sensor:
        await sensor.until(lambda: sensor.values["temperature"] != 20.0)


async def test_a_condition_that_never_holds_is_an_error(broker: Broker) -> None:
    with pytest.raises(TimeoutError):
        await LeakSensor(broker.options, "x").until(lambda: False, 0.02)


async def test_another_process_commands_things_and_proxy_by_lines(broker: Broker) -> None:
    async with (
        LeakSensor(broker.options, "leak-1") as sensor,
        Valve(broker.options, "valve-1") as valve,
        FaultProxy("127.0.0.1", broker.options.port) as proxy,
    ):
        served = {thing.name: device_commands(thing) for thing in (sensor, valve)}
        async with controlled({**served, "proxy": proxy_commands(proxy)}) as port:
            await send_command(port, "leak-1", "set", "true")
            assert sensor.wet
            assert await send_command(port, "leak-1", "values") == {"leak": True}
            assert await send_command(port, "valve-1", "commands") == []
            await send_command(port, "proxy", "latency", "0.1", "0.02")
            assert (await send_command(port, "proxy", "counts"))["connections"] == 0
            assert await send_command(port, "proxy", "port") == proxy.port
            assert "vanish" in (await send_command(port, "testbed", "list"))["valve-1"]
            for words in (("nobody", "set"), ("leak-1", "fly"), ("leak-1", "set"), ('"', "x")):
                with pytest.raises(ControlError):
                    await send_command(port, *words)
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b'not "closed\n')
            assert orjson.loads(await reader.readline())["ok"] is False
            writer.close()


async def test_devices_run_from_a_shell(broker: Broker) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "process_cosmos_testbed", "devices", "--port", str(broker.options.port)),
        *("--leaks", "2", "--valves", "1", "--temperatures", "1"),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(20):
            said = orjson.loads(await process.stdout.readline())
        assert said["devices"] == ["leak-1", "leak-2", "temperature-1", "valve-1"]
        async with asyncio.timeout(10):
            await send_command(said["control"], "leak-2", "set", "true")
        async with client(broker.options, topics=["wot/leak-2/properties/leak"]) as watcher:
            await until(lambda: watcher.received and watcher.received[0].payload == b"true")
    finally:
        process.terminate()
        await process.wait()


async def test_the_proxy_runs_from_a_shell_and_takes_commands_there(
    broker: Broker, capsys: pytest.CaptureFixture[str]
) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "process_cosmos_testbed", "proxy", "127.0.0.1", str(broker.options.port)),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(20):
            said = orjson.loads(await process.stdout.readline())
        assert await asyncio.to_thread(main, ["say", str(said["control"]), "proxy", "port"]) == 0
        assert orjson.loads(capsys.readouterr().out) == {"value": said["proxy"]}
        assert await asyncio.to_thread(main, ["say", str(said["control"]), "proxy", "fly"]) == 1
        assert "fly" in capsys.readouterr().err
    finally:
        process.terminate()
        await process.wait()
