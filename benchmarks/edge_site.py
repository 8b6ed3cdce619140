"""One real Home Assistant with the same automation twice: for our device, and for one of its own MQTT integration.

Messages come at fixed times, whether or not the reaction before is over, and count from the time they were due.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import override

import orjson

from process_cosmos_gateway.contract.devices import Value
from process_cosmos_gateway.options import BrokerOptions
from process_cosmos_testbed.broker import Broker, running_broker
from process_cosmos_testbed.home_assistant.client import HomeAssistantClient
from process_cosmos_testbed.home_assistant.flows import OPTIONS, Flow
from process_cosmos_testbed.home_assistant.onboarding import onboard
from process_cosmos_testbed.home_assistant.process import HomeAssistantProcess
from process_cosmos_testbed.processes import LOCAL, run_in_process, until
from process_cosmos_testbed.services import GatewayProcess
from process_cosmos_testbed.virtual_devices.device import Json, VirtualDevice

from .stand import broker_options, cpu_seconds

OURS, PEER = "wot", "peer"
"""The first level of the topics: the gateway's, and those that Home Assistant's own integration knows by YAML."""

OFTEN, SELDOM = 20, 5
"""Commands a second. ``OFTEN`` keeps a measurement short; with ``SELDOM`` the automation adds little to a load.

A run of the automation leaves as many objects for the garbage collector as 23 state writes: 20 a second are a load of
their own, as heavy as 470 numbers a second (measured 2026-11-30).
"""

_LOAD_DEVICES, _LOAD_PROPERTIES = 5, 100
_WITHOUT_TLS = {"set_client_cert": False, "set_ca_cert": "off"}
_WARM_SECONDS = 8.0
_STEADY_SECONDS = 60.0
_MISSING_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """An automation that is measured. ``commanded``: the values of the sensor after which it writes to the switch.

    ``automation``: gets the entity ids of sensor and switch and returns the configuration.
    """

    commanded: frozenset[bool]
    automation: Callable[[str, str], Json]


class Probe(VirtualDevice):
    """A sensor and a switch; ``waits``: the seconds from when each change of the sensor was due to its command."""

    def __init__(self, broker: BrokerOptions, base: str, commanded: frozenset[bool]) -> None:
        """Publish below ``base``/probe."""
        super().__init__(broker, f"{base}-probe", f"{base} probe")
        self._commanded = commanded
        self.topic = f"{base}/probe"
        self.values |= {"signal": False, "power": False}
        self.waits: list[float] = []
        self._due: deque[float] = deque()
        self._switched: asyncio.Queue[bool] = asyncio.Queue()

    @override
    def properties(self) -> Mapping[str, Json]:
        return {
            "signal": {"title": "Signal", "type": "boolean", "readOnly": True},
            "power": {"title": "Power", "type": "boolean"},
        }

    @override
    def on_write(self, name: str, value: Value) -> None:
        if self._due and isinstance(value, bool):
            self.waits.append(time.monotonic() - self._due.popleft())
            self._switched.put_nowait(value)

    @override
    async def run(self) -> None:
        while True:
            await self.report("power", await self._switched.get())

    async def change(self, commands: int, first: float, per_second: int) -> None:
        """Change the sensor for so many commands from ``first`` (monotonic) on, and wait for them.

        Before a change without a command the switch is turned on by hand.
        """
        value = self.values["signal"] is True
        changes_per_command = 2 // len(self._commanded)
        async with asyncio.TaskGroup() as tasks:
            for place in range(commands * changes_per_command):
                due = first + place / (per_second * changes_per_command)
                await asyncio.sleep(due - time.monotonic())
                value = not value
                if value in self._commanded:
                    self._due.append(due)
                else:
                    await self.report("power", True)
                tasks.create_task(self.report("signal", value))
        await until(lambda: not self._due, f"commands of {self.topic}", _MISSING_SECONDS)


class Load(VirtualDevice):
    """A device with many numbers, each reported once a second."""

    def __init__(self, broker: BrokerOptions, base: str, number: int) -> None:
        """Publish below ``base``/load-``number``."""
        super().__init__(broker, f"{base}-load-{number}", f"{base} load {number}")
        self.topic = f"{base}/load-{number}"

    @override
    def properties(self) -> Mapping[str, Json]:
        shape = {"type": "number", "unit": "V", "readOnly": True}
        return {name: {"title": name, **shape} for name in _names()}

    @override
    async def run(self) -> None:
        await self.connected.wait()
        begun = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            for number in count():
                await asyncio.sleep(begun + number / _LOAD_PROPERTIES - time.monotonic())
                tasks.create_task(self.report(_names()[number % _LOAD_PROPERTIES], number / 10))


def _names() -> Sequence[str]:
    return [f"n{number}" for number in range(_LOAD_PROPERTIES)]


def produce_load(broker: BrokerOptions, base: str, seconds: float) -> None:
    """Report 500 numbers a second below ``base`` for ``seconds``; run in a process of its own."""

    async def produce() -> None:
        async with AsyncExitStack() as stack:
            for number in range(_LOAD_DEVICES):
                await stack.enter_async_context(Load(broker, base, number))
            await asyncio.sleep(seconds)

    asyncio.run(produce())


class EdgeSite:
    """The site: Home Assistant, the gateway, the broker, and a probe on each side."""

    def __init__(
        self,
        broker: Broker,
        home: HomeAssistantProcess,
        client: HomeAssistantClient,
        entry: str,
        workload: Workload,
    ) -> None:
        """Take the running processes and a logged-in client; ``entry``: the id of our config entry."""
        self._broker = broker
        self._home = home
        self._client = client
        self._entry = entry
        self._workload = workload
        self._probes = {base: Probe(broker.options, base, workload.commanded) for base in (OURS, PEER)}

    @asynccontextmanager
    async def ready(self) -> AsyncIterator[None]:
        """Connect the probes and add both automations inside the block."""
        async with AsyncExitStack() as stack:
            for base, probe in self._probes.items():
                await stack.enter_async_context(probe)
                await probe.connected.wait()
                sensor, switch = f"binary_sensor.{base}_probe_signal", f"switch.{base}_probe_power"
                for entity in (sensor, switch):
                    await self._until_state(entity, "off")
                await self._automate(base, sensor, switch)
            yield

    async def quiet(self, number: int) -> Mapping[str, Sequence[float]]:
        """Cause so many commands on both sides in turns, without load; return the waits in seconds by side."""
        first = time.monotonic() + 1
        await asyncio.gather(
            self._probes[OURS].change(number, first, OFTEN),
            self._probes[PEER].change(number, first + 0.5 / OFTEN, OFTEN),
        )
        return {base: self._taken(base) for base in self._probes}

    async def loaded(self, base: str, number: int, per_second: int) -> tuple[list[float], float]:
        """Cause so many commands on one side, while devices of the same side report 500 numbers a second.

        Returns the waits and the processor seconds of Home Assistant for 1,000 messages.
        """
        seconds = _WARM_SECONDS + number / per_second
        work = partial(produce_load, self._broker.options, base, seconds + 2)
        async with asyncio.TaskGroup() as tasks:
            load = tasks.create_task(run_in_process(work, seconds + 60))
            await asyncio.sleep(_WARM_SECONDS)
            used = cpu_seconds(self._home.pid)
            await self._probes[base].change(number, time.monotonic() + 0.1, per_second)
            used = cpu_seconds(self._home.pid) - used
            await load
        messages = number + number / per_second * _LOAD_DEVICES * _LOAD_PROPERTIES
        return self._taken(base), 1000 * used / messages

    async def steady(self) -> None:
        """Choose *steady reaction times*; return when they took effect."""
        flow = Flow(self._client, OPTIONS)
        await flow.begin(self._entry)
        await flow.choose("reactions")
        await flow.fill("reactions", at_once=[], steady=True)
        await until(
            lambda: "Steady reaction times are on" in self._home.log.read_text(), "their log line", _STEADY_SECONDS
        )
        await self._until_state(f"switch.{OURS}_probe_power", "on", "off")

    async def full_collections(self) -> Mapping[str, float]:
        """Return the seconds of the newest full garbage collection without and with the option, as its dialog shows.

        One that did not happen yet, which the dialog shows as a question mark, is left out.
        """
        flow = Flow(self._client, OPTIONS)
        await flow.begin(self._entry)
        shown = (await flow.choose("reactions"))["description_placeholders"]
        seconds = {name: shown[name].removesuffix(" s") for name in ("without", "with")}
        return {f"full_collection_{name}_s": float(text) for name, text in seconds.items() if text != "?"}

    def _taken(self, base: str) -> list[float]:
        probe = self._probes[base]
        taken, probe.waits = probe.waits, []
        return taken

    async def _automate(self, name: str, sensor: str, switch: str) -> None:
        automation = {"alias": name, **self._workload.automation(sensor, switch)}
        await self._client.post(f"/api/config/automation/config/{name}", automation)
        await self._until_state(f"automation.{name}", "on")

    async def _until_state(self, entity: str, *wanted: str) -> None:
        async def shows() -> bool:
            return await self._client.state(entity) in wanted

        await until(shows, f"{entity} {wanted}", 60)


@asynccontextmanager
async def edge_site(folder: Path, workload: Workload) -> AsyncIterator[EdgeSite]:
    """Run a broker, gateway and Home Assistant, with devices and automations on both sides."""
    async with running_broker(folder) as broker:
        gateway = GatewayProcess(folder, options=broker_options(broker))
        async with both_integrations(folder, broker, gateway, _peer_configuration()) as (home, client, entry):
            edge = EdgeSite(broker, home, client, entry, workload)
            async with edge.ready():
                yield edge


@asynccontextmanager
async def both_integrations(
    folder: Path, broker: Broker, gateway: GatewayProcess, configuration: str = ""
) -> AsyncIterator[tuple[HomeAssistantProcess, HomeAssistantClient, str]]:
    """Run ``gateway`` and Home Assistant, and set up both integrations as a person does.

    ``configuration``: more YAML. Yields Home Assistant, a logged-in client, and the id of our config entry.
    """
    home = HomeAssistantProcess(folder, configuration)
    try:
        await gateway.start()
        await home.start()
        async with HomeAssistantClient(home.url, await onboard(home.url)) as client:
            await client.until_running()
            flow = Flow(client)
            await flow.begin("mqtt")
            await flow.fill("broker", broker=LOCAL, port=broker.port, other_settings=_WITHOUT_TLS)
            await flow.begin()
            await flow.choose("pairing")
            await flow.fill("pairing", line=await gateway.new_pairing_line())
            await flow.fill("who", phones=[], notify_entities=[], persistent_notification=True)
            await flow.choose("finish")
            created = await flow.fill("finish", test_notification=False, install_blueprints=True)
            yield home, client, str(created["result"]["entry_id"])
    finally:
        await home.stop(30)
        await gateway.stop()


def _peer_configuration() -> str:
    """Return the YAML of the same devices for Home Assistant's own MQTT integration (JSON is YAML)."""
    topic = f"{PEER}/probe/properties"
    words = {"qos": 1, "payload_on": "true", "payload_off": "false"}
    signal = {"name": f"{PEER} probe signal", "state_topic": f"{topic}/signal", **words}
    power = {
        "name": f"{PEER} probe power",
        "state_topic": f"{topic}/power",
        "command_topic": f"{topic}/power/writeproperty",
        **words,
    }
    load = [
        {
            "name": f"{PEER} load {device} {name}",
            "state_topic": f"{PEER}/load-{device}/properties/{name}",
            "unit_of_measurement": "V",
            "qos": 1,
        }
        for device in range(_LOAD_DEVICES)
        for name in _names()
    ]
    entities = {"binary_sensor": [signal], "switch": [power], "sensor": load}
    return f"mqtt: {orjson.dumps(entities).decode()}\n"
