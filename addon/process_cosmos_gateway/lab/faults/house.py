"""The processes of a site on trial, and a proxy on each way between them."""

import getpass
import resource
import shutil
import signal
import ssl
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from process_cosmos_gateway.errors import GatewayError
from process_cosmos_gateway.lab.control import say
from process_cosmos_gateway.lab.disk import edit_schema
from process_cosmos_gateway.lab.processes import Part, accepts, free_ports, run_once, until
from process_cosmos_gateway.lab.proxy import FaultProxy

BIN = Path(sys.executable).parent
_UNPACED = ("--new-devices", "1000000")


class FaultError(GatewayError):
    """A fault did not strike, or the site did not do what had to come before it: there is nothing to judge."""


class House:
    """Starts and stops broker, cloud endpoint and gateway, and tells their machines what to do."""

    def __init__(self, folder: Path, settings: Mapping[str, Any], *, disk: bool = False) -> None:
        """Keep everything in ``folder``; ``settings``: options beside the lab's own; ``disk``: one that fails."""
        self.folder = folder
        self.broker = Part("broker", folder)
        self.cloud = Part("cloud", folder)
        self.gateway = Part("gateway", folder)
        ports = free_ports(4)
        self.broker_port, self.cloud_port, self.gateway_port, self._control = ports
        self.to_broker = FaultProxy("127.0.0.1", self.broker_port)
        self.to_cloud = FaultProxy("127.0.0.1", self.cloud_port)
        self.to_webhook = FaultProxy("127.0.0.1", 0)
        self.database = folder / "gateway" / "gateway.sqlite"
        self.options = folder / "gateway.toml"
        self.disk = disk
        self.free_megabytes = 0
        """What the gateway's disk claims to have free at its next start (0: as it is)."""
        self.descriptors = 0
        """How many files and connections the gateway may have open from its next start on (0: as many as the lab)."""
        self.is_paced = False
        """Whether new devices come in as slowly as at an ordinary gateway, from its next start on."""
        self.is_direct = False
        """Whether the gateway connects to the broker without the proxy, from its next start on."""
        self._settings = dict(settings)

    async def start_broker(self) -> None:
        """Start Mosquitto; what it keeps survives its restart."""
        mosquitto = shutil.which("mosquitto")
        if mosquitto is None:
            raise FaultError("mosquitto is not installed")
        configuration = self.folder / "mosquitto.conf"
        lines = [f"listener {self.broker_port} 127.0.0.1", "allow_anonymous true", f"user {getpass.getuser()}"]
        lines += ["persistence true", f"persistence_location {self.folder}/", "log_dest stderr", "log_type error"]
        lines += ["max_queued_messages 100000", "max_packet_size 268435455"]
        configuration.write_text("\n".join(lines) + "\n")
        await self.broker.start(mosquitto, "-c", configuration)
        await self.broker.until(lambda: accepts(self.broker_port), "an open port")

    async def save_broker(self) -> None:
        """Let Mosquitto write down its sessions: killed, it goes back to that."""
        file = self.folder / "mosquitto.db"
        file.unlink(missing_ok=True)
        self.broker.signal(signal.SIGUSR1)
        await until(file.exists, "saved sessions of the broker")

    async def start_cloud(self) -> None:
        """Start the reference cloud endpoint."""
        serve = ("serve", "--data", self.folder / "cloud", "--port", str(self.cloud_port))
        await self.cloud.start(BIN / "process-cosmos-cloud", *serve)
        await self.cloud.until(lambda: serves(f"https://127.0.0.1:{self.cloud_port}/health"), "its health check")

    async def start_gateway(self) -> float:
        """Start the gateway; return when it is well, and after how many seconds."""
        begun = time.monotonic()
        broker = self.broker_port if self.is_direct else self.to_broker.port
        mine = {"data": self.database.parent, "port": self.gateway_port, "mqtt_port": broker}
        await self._start_on(self.gateway, self.options, self._control, mine)
        return time.monotonic() - begun

    @asynccontextmanager
    async def copied_gateway(self, data: Path) -> AsyncIterator[Part]:
        """Run another gateway inside the block, on a copy of this one's data; it has no broker."""
        port, nowhere, control = free_ports(3)
        copy = Part("copy", self.folder)
        mine = {"data": data, "port": port, "mqtt_port": nowhere}
        await self._start_on(copy, self.folder / "copy.toml", control, mine)
        try:
            yield copy
        finally:
            await copy.stop()

    async def _start_on(self, part: Part, file: Path, control: int, mine: Mapping[str, Any]) -> None:
        here = {"host": "127.0.0.1", "mqtt_host": "127.0.0.1", **mine}
        options = {**self._settings, **here, "data": str(mine["data"])}
        _write_toml(file, options)
        entry = ("-m", "process_cosmos_gateway.lab.gateway", "--options", file, "--control", str(control))
        limit = ("sh", "-c", 'ulimit -n "$0" && exec "$@"', str(self.descriptors)) if self.descriptors else ()
        await part.start(*limit, sys.executable, *entry, *self._disk_arguments(), *(() if self.is_paced else _UNPACED))
        await part.until(lambda: serves(f"https://127.0.0.1:{mine['port']}/health"), "its health check")

    def _disk_arguments(self) -> tuple[str, ...]:
        return ("--disk", "--free", str(self.free_megabytes)) if self.disk else ()

    def edit_schema(self, version: int) -> int:
        """Write another schema version into the database of a gateway that has stopped; return the one before."""
        return edit_schema(self.database, version)

    def resident_megabytes(self, part: Part | None = None) -> float:
        """Return the resident memory of a part, by itself the gateway's."""
        pages = int(Path(f"/proc/{(part or self.gateway).pid}/statm").read_text().split()[1])
        return round(pages * resource.getpagesize() / 1e6, 1)

    async def tell_machine(self, *words: str | float) -> Any:  # noqa: ANN401 - JSON
        """Say something to the machine below the gateway (``lab.gateway`` has the commands)."""
        return await say(self._control, *map(str, words))

    async def command_of_cloud(self, *words: str) -> str:
        """Run a command of the cloud endpoint; return what it prints."""
        return (
            await run_once(BIN / "process-cosmos-cloud", words[0], "--data", self.folder / "cloud", *words[1:])
        ).strip()

    def lead_cloud_to(self, port: int) -> None:
        """Let the way to the cloud endpoint lead to ``port`` from now on."""
        self.to_cloud.far_port = port
        self.to_cloud.reset()

    @asynccontextmanager
    async def second_cloud(self, name: str) -> AsyncIterator[int]:
        """Run another endpoint inside the block, of the same authority but for the host ``name``; gives its port."""
        folder = self.folder / "second-cloud"
        folder.mkdir()
        for file in ("ca.key", "ca.pem"):
            shutil.copy(self.folder / "cloud" / file, folder)
        [port], part = free_ports(1), Part("second-cloud", self.folder)
        serve = ("serve", "--data", folder, "--port", str(port), "--name", name)
        await part.start(BIN / "process-cosmos-cloud", *serve)
        try:
            await part.until(lambda: accepts(port), "an open port")
            yield port
        finally:
            await part.stop()
            shutil.rmtree(folder)


def _write_toml(file: Path, values: Mapping[str, Any]) -> None:
    file.write_text("".join(f"{key} = {orjson.dumps(value).decode()}\n" for key, value in values.items()))


async def serves(url: str) -> bool | None:
    """Return True when ``url`` answers 200; whose certificate it is, is not the question here."""
    try:
        async with aiohttp.ClientSession() as http, http.get(url, ssl=_ANYBODY) as response:
            return response.status == HTTPStatus.OK or None
    except aiohttp.ClientError, OSError:
        return None


_ANYBODY = ssl.create_default_context()
_ANYBODY.check_hostname = False
_ANYBODY.verify_mode = ssl.CERT_NONE
