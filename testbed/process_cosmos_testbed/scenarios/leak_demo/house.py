"""The house of the demo: every process with its command, its port, and how one sees that it is ready."""

import asyncio
import os
import ssl
import sys
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any

import aiohttp

from process_cosmos_testbed.control import ControlError, say
from process_cosmos_testbed.home_assistant.onboarding import answers_http, prepare_folder
from process_cosmos_testbed.processes import ManagedProcess, ProcessFailedError, accepts, free_ports, run_once

ROOT = Path(__file__).resolve().parents[4]
BIN = Path(sys.executable).parent
SECRET = "made-up-secret-of-the-webhook"  # noqa: S105 - the ledger's own, for this run only

OURS = {**os.environ, "PYTHONPATH": str(ROOT)}
"""The environment of the processes that are this package's own."""

HOME_ASSISTANT_ENTITIES = """\
counter:
  cellar_valve_closings: {name: Closings of the cellar valve}
  pump_restarts: {name: Restarts of the pump}
  neighbour_called: {name: Calls to the neighbour}
input_boolean:
  cellar_water: {name: Water in the cellar}
  cellar_valve_open: {name: Cellar valve open, initial: true}
template:
  - binary_sensor:
      - name: Cellar floor
        unique_id: cellar_floor
        device_class: moisture
        state: "{{ is_state('input_boolean.cellar_water', 'on') }}"
  - switch:
      - name: Cellar valve
        unique_id: cellar_valve
        state: "{{ is_state('input_boolean.cellar_valve_open', 'on') }}"
        turn_on:
          - {action: input_boolean.turn_on, target: {entity_id: input_boolean.cellar_valve_open}}
        turn_off:
          - {action: input_boolean.turn_off, target: {entity_id: input_boolean.cellar_valve_open}}
          - {action: counter.increment, target: {entity_id: counter.cellar_valve_closings}}
"""
"""A sensor and a valve that are Home Assistant's own and need no gateway; the counter shows each closing."""


class House:
    """Starts and stops the processes; asks the ledger, the devices and the fault proxy."""

    def __init__(self, folder: Path) -> None:
        """Keep everything in ``folder``, which must be empty."""
        self.folder = folder
        self.broker = ManagedProcess("broker", folder)
        self.cloud = ManagedProcess("cloud", folder)
        self.arrivals = ManagedProcess("arrivals", folder)
        self.proxy = ManagedProcess("proxy", folder)
        self.gateway = ManagedProcess("gateway", folder)
        self.devices = ManagedProcess("devices", folder)
        self.ledger = ManagedProcess("ledger", folder)
        self.home_assistant = ManagedProcess("home-assistant", folder)
        ports = free_ports(8)
        self._broker_port, self._cloud_port, self._proxy_port, self._gateway_port = ports[:4]
        self._proxy_control, self._devices_control, self._ledger_port, self._home_port = ports[4:]
        self.url = f"http://127.0.0.1:{self._home_port}"
        self.ledger_url = f"http://127.0.0.1:{self._ledger_port}"
        self.webhook_url = f"{self.ledger_url}/webhook/{SECRET}"
        self._cloud_data = folder / "cloud"
        self._options = folder / "gateway.toml"

    async def start(self) -> None:
        """Start everything; return when all of it is ready."""
        await self.start_broker()
        await self.start_cloud()
        async with asyncio.TaskGroup() as group:
            for start in (self.start_ledger, self.start_proxy, self.start_gateway, self.start_home_assistant):
                group.create_task(start())
        await self.start_devices()

    async def stop(self) -> None:
        """Stop everything, those that talk before those they talk to."""
        await asyncio.gather(self.home_assistant.stop(30), self.devices.stop())
        await self.gateway.stop()
        await asyncio.gather(*(part.stop() for part in (self.proxy, self.arrivals, self.ledger)))
        await asyncio.gather(self.cloud.stop(), self.broker.stop())

    async def start_broker(self) -> None:
        """Mosquitto as it comes, on 127.0.0.1; its log is evidence of what was acknowledged."""
        configuration = self.folder / "mosquitto.conf"
        lines = [f"listener {self._broker_port} 127.0.0.1", "allow_anonymous true", "log_dest stderr", "log_type all"]
        configuration.write_text("\n".join(lines) + "\n")
        await self.broker.start("mosquitto", "-c", configuration)
        await self.broker.until(lambda: accepts(self._broker_port), "an open port")

    async def start_cloud(self) -> None:
        """Start the reference cloud endpoint, and its own command that prints what arrives."""
        serve = ("serve", "--data", self._cloud_data, "--port", str(self._cloud_port))
        await self.cloud.start(BIN / "process-cosmos-cloud", *serve)
        await self.cloud.until(lambda: _serves(f"https://127.0.0.1:{self._cloud_port}/health"), "an open port")
        follow = ("ledger", "--json", "--follow", "--data", self._cloud_data)
        await self.arrivals.start(BIN / "process-cosmos-cloud", *follow)

    async def start_proxy(self) -> None:
        """Start the fault proxy, the only way from the gateway to the cloud."""
        ports = ["--listen", str(self._proxy_port), "--control", str(self._proxy_control)]
        far = ["127.0.0.1", str(self._cloud_port)]
        await self.proxy.start(BIN / "python", "-m", "process_cosmos_testbed", "proxy", *far, *ports)
        await self.proxy.until(lambda: accepts(self._proxy_control), "an open port")

    async def start_gateway(self) -> None:
        """Start the gateway, or start it again."""
        self._options.write_text(
            f'data = "{self.folder / "gateway"}"\nhost = "127.0.0.1"\nport = {self._gateway_port}\n'
            f'mqtt_host = "127.0.0.1"\nmqtt_port = {self._broker_port}\n'
        )
        command = (BIN / "process-cosmos-gateway", "run", "--options", self._options)
        await self.gateway.start(*command, environment=os.environ)  # a test gives it options by its environment
        await self.gateway.until(lambda: _serves(f"https://127.0.0.1:{self._gateway_port}/health"), "its health check")

    async def start_devices(self) -> None:
        """Switch the virtual devices on."""
        ports = ["--broker-port", str(self._broker_port), "--control", str(self._devices_control)]
        await self.devices.start(BIN / "python", "-m", f"{__package__}.devices", *ports, environment=OURS)
        await self.devices.until(lambda: accepts(self._devices_control), "an open port")

    async def start_ledger(self) -> None:
        """Start the ledger, before there is anything to see."""
        ports = ("--port", str(self._ledger_port), "--broker-port", str(self._broker_port))
        options = ("--folder", self.folder, *ports, "--secret", SECRET)
        await self.ledger.start(BIN / "python", "-m", f"{__package__}.ledger", *options, environment=OURS)
        await self.ledger.until(lambda: accepts(self._ledger_port), "an open port")

    async def start_home_assistant(self) -> None:
        """Start Home Assistant with its frontend, or start it again."""
        folder = self.folder / "home-assistant"
        if not folder.exists():
            integration = ROOT / "custom_components" / "process_cosmos"
            prepare_folder(folder, self._home_port, integration, HOME_ASSISTANT_ENTITIES)
        await self.home_assistant.start(BIN / "hass", "-c", folder, "--skip-pip")
        await self.home_assistant.until(lambda: answers_http(self.url), "its frontend")

    async def pairing_line(self) -> str:
        """Return a fresh pairing line, as the gateway's own command prints it."""
        pair = ("pair", "--options", self._options, "--host", "127.0.0.1")
        return await self._command(BIN / "process-cosmos-gateway", *pair)

    async def one_time_code(self) -> str:
        """Return a one-time code of the cloud endpoint; it leads through the fault proxy."""
        url = f"https://127.0.0.1:{self._proxy_port}"
        return await self._command(BIN / "process-cosmos-cloud", "code", "--data", self._cloud_data, "--url", url)

    async def answer_at_the_cloud(self, alert: str, answer: str, by: str) -> None:
        """Answer an alert as an operator at the cloud endpoint does."""
        words = ("answer", "--data", self._cloud_data, "--by", by, alert, answer)
        await self._command(BIN / "process-cosmos-cloud", *words)

    async def device(self, *words: str) -> Any:  # noqa: ANN401 - JSON
        """Say something to the devices' process, e.g. ``kitchen leak``."""
        return await self._say(self.devices, self._devices_control, *words)

    async def fault(self, *words: str) -> Any:  # noqa: ANN401 - JSON
        """Say something to the fault proxy, e.g. ``blackhole``."""
        return await self._say(self.proxy, self._proxy_control, "proxy", *words)

    async def ask(self, question: str, **body: Any) -> Any:  # noqa: ANN401 - JSON
        """Ask the ledger."""
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=90)) as http,
                http.post(f"{self.ledger_url}/ask/{question}", json=body) as response,
            ):
                if response.status != HTTPStatus.OK:
                    raise self.ledger.failure(f"answered {response.status} to {question}")
                return await response.json()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self.ledger.failure(f"did not answer {question} ({type(error).__name__})") from error

    async def _command(self, *words: str | Path) -> str:
        return (await run_once(*words, log=self.folder / "commands.log")).strip()

    async def _say(self, part: ManagedProcess, port: int, *words: str) -> Any:  # noqa: ANN401
        try:
            return await say(port, *words)
        except (ControlError, OSError) as error:
            raise part.failure(f"refused {' '.join(words)}: {error}") from error


async def until[T](probe: Callable[[], Awaitable[T | None]], what: str, limit: float = 60, every: float = 0.05) -> T:
    """Ask ``probe`` ``every`` seconds, return its first answer that is not None; raise after ``limit`` seconds."""
    try:
        async with asyncio.timeout(limit):
            while True:
                if (answer := await probe()) is not None:
                    return answer
                await asyncio.sleep(every)
    except TimeoutError as error:
        raise ProcessFailedError(f"{what}: not within {limit:.0f} s") from error


async def _serves(url: str) -> bool | None:
    """Return True when ``url`` answers 200; whose certificate it is, is not the demo's question here."""
    try:
        async with aiohttp.ClientSession() as http, http.get(url, ssl=_ANYBODY) as response:
            return response.status == HTTPStatus.OK or None
    except aiohttp.ClientError, OSError:
        return None


_ANYBODY = ssl.create_default_context()
_ANYBODY.check_hostname = False
_ANYBODY.verify_mode = ssl.CERT_NONE
