"""The project's own services as managed processes: the gateway and the reference cloud endpoint."""

import json
import shutil
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from .control import send_command
from .processes import BIN, LOCAL, ManagedProcess, free_port, run_once, serves

COMMAND = BIN / "process-cosmos-gateway"
CLOUD_COMMAND = BIN / "process-cosmos-cloud"


def toml(settings: Mapping[str, Any]) -> str:
    """Return settings as lines of TOML."""
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items())


class GatewayProcess(ManagedProcess):
    """The shipped gateway on a port of 127.0.0.1, with its data in ``data``; ``options`` are further lines of TOML."""

    def __init__(self, folder: Path, port: int = 0, options: str = "", *, name: str = "gateway") -> None:
        """Write the options file on each start; ``port`` 0: a free one."""
        super().__init__(name, folder)
        self.port = port or free_port()
        self.data = folder / name
        self.file = folder / f"{name}.toml"
        self.options = options
        self.program: Sequence[str | Path] = (COMMAND, "run")
        """The command that serves with the options file."""
        self.environment: Mapping[str, str] | None = None

    @property
    def url(self) -> str:
        """The address of its API."""
        return f"https://{LOCAL}:{self.port}"

    async def start(self) -> float:
        """Start the gateway; return the seconds until its health check passes."""
        begun = time.monotonic()
        self.write_options()
        await self.launch(*self.program, "--options", self.file, environment=self.environment)
        await self.until_ready(self.is_well, "its health check")
        return time.monotonic() - begun

    async def is_well(self) -> bool:
        """Return whether the health check passes."""
        return await serves(f"{self.url}/health")

    def write_options(self) -> None:
        """Write the options file."""
        own = {"data": str(self.data), "host": LOCAL, "port": self.port}
        self.file.write_text(toml(own) + self.options)

    async def run_command(self, *words: str) -> str:
        """Run another command of the gateway with the same options; return what it prints."""
        return await run_once(COMMAND, words[0], "--options", self.file, *words[1:], log=self.folder / "commands.log")

    async def new_pairing_line(self) -> str:
        """Return a new pairing line."""
        return await self.run_command("pair", "--host", LOCAL)


class ControlledGateway(GatewayProcess):
    """The shipped gateway on a machine whose clock and disk fail on command (``gateway.py`` has the commands)."""

    def __init__(self, folder: Path, port: int = 0, options: str = "", *, name: str = "gateway") -> None:
        """Begin with the machine's own disk."""
        super().__init__(folder, port, options, name=name)
        self._control = free_port()
        self.disk = False
        """Whether SQLite's files pass through the failing disk."""
        self.free_megabytes = 0
        """What the failing disk reports as free at the next start (0: the real figure)."""
        self.descriptors = 0
        """The limit of open files and connections from the next start on (0: this process's own)."""
        self.is_paced = False
        """Whether new devices are accepted at the rate of a shipped gateway, from the next start on."""

    def write_options(self) -> None:
        """Write the options file, and choose the command by the machine's state."""
        super().write_options()
        # ``exec`` keeps the process id: signals must reach the gateway, not a shell before it.
        limit = ("sh", "-c", 'ulimit -n "$0" && exec "$@"', str(self.descriptors)) if self.descriptors else ()
        disk = ("--disk", "--free", str(self.free_megabytes)) if self.disk else ()
        # Faults add many sensors in a short time; a shipped gateway accepts ten new devices a minute.
        pace = () if self.is_paced else ("--new-devices", "1000000")
        entry = (sys.executable, "-m", "process_cosmos_testbed.gateway", "--control", str(self._control))
        self.program = (*limit, *entry, *disk, *pace)

    async def command_machine(self, *words: str | float) -> Any:  # noqa: ANN401 - JSON
        """Give one command to the machine below the gateway; return its result."""
        return await send_command(self._control, *map(str, words))


class CloudProcess(ManagedProcess):
    """The reference cloud endpoint on a port of 127.0.0.1, with its data in ``data``."""

    def __init__(self, folder: Path, *, name: str = "cloud", host_name: str | None = None) -> None:
        """Choose a port; ``host_name``: the name in its certificate, if not its address."""
        super().__init__(name, folder)
        self.port = free_port()
        self.data = folder / name
        self._host_name = ("--name", host_name) if host_name else ()
        self._follower = ManagedProcess(f"{name}-ledger", folder)
        self.arrivals = folder / f"{name}-ledger.jsonl"
        """What ``follow`` writes: each event that arrived, repeats included, as a line of JSON."""

    @property
    def url(self) -> str:
        """The address of its API."""
        return f"https://{LOCAL}:{self.port}"

    async def start(self) -> None:
        """Start the endpoint; return when its health check passes."""
        await self.launch(CLOUD_COMMAND, "serve", "--data", self.data, "--port", str(self.port), *self._host_name)
        await self.until_ready(lambda: serves(f"{self.url}/health"), "its health check")

    async def follow(self) -> ManagedProcess:
        """Start the endpoint's own command that prints its ledger; return its process."""
        words = ("ledger", "--json", "--follow", "--data", self.data)
        await self._follower.launch(CLOUD_COMMAND, *words, output=self.arrivals)
        await self._follower.until_ready(self._is_followed, "its output")
        return self._follower

    async def _is_followed(self) -> bool:
        return self.arrivals.exists()

    async def run_command(self, *words: str) -> str:
        """Run a command of the endpoint; return what it prints."""
        log = self.folder / "commands.log"
        return await run_once(CLOUD_COMMAND, words[0], "--data", self.data, *words[1:], log=log)

    async def one_time_code(self, port: int = 0, *more: str) -> str:
        """Return a one-time code for enrolment, which leads to ``port`` (0: the endpoint's own)."""
        return await self.run_command("code", "--url", f"https://{LOCAL}:{port or self.port}", *more)

    @asynccontextmanager
    async def impostor(self, host_name: str) -> AsyncIterator[CloudProcess]:
        """Run another endpoint of the same authority, for another host name, inside the block."""
        other = CloudProcess(self.folder, name="second-cloud", host_name=host_name)
        other.data.mkdir()
        for file in ("ca.key", "ca.pem"):
            shutil.copy(self.data / file, other.data)
        try:
            await other.start()
            yield other
        finally:
            await other.stop()
            shutil.rmtree(other.data)
