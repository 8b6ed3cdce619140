"""The real Mosquitto for tests: its own folder, a free port on 127.0.0.1, and it goes when the test ends."""

import asyncio
import getpass
import shutil
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from process_cosmos_gateway.devices.options import BrokerOptions
from process_cosmos_gateway.lab.processes import free_ports

_UNPACKED = Path(__file__).parents[2] / ".tools/mosquitto/usr/sbin/mosquitto"
MOSQUITTO = shutil.which("mosquitto") or str(_UNPACKED)


def free_port() -> int:
    """Return a port of 127.0.0.1 nobody listens on, nor is given for a connection."""
    return free_ports(1)[0]


@dataclass
class Broker:
    """One Mosquitto; ``options`` say how to reach it. ``lines`` stand in its configuration below the listener."""

    folder: Path
    lines: Sequence[str] = ("allow_anonymous true",)
    options: BrokerOptions = field(default_factory=lambda: BrokerOptions(host="127.0.0.1", port=0))
    process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Start it, on the port it had before if it had one; return when it listens."""
        if not self.options.port:
            self.options = replace(self.options, port=free_port())
        persistence = ["persistence true", f"persistence_location {self.folder}/", "autosave_interval 1"]
        # As root it would become another user, who may not look into the folders of tests.
        own = [f"user {getpass.getuser()}", "log_dest stderr", "log_type error"]
        listener = [f"listener {self.options.port} 127.0.0.1", *self.lines]
        configuration = self.folder / "mosquitto.conf"
        configuration.write_text("\n".join([*persistence, *own, *listener, ""]))
        with (self.folder / "mosquitto.log").open("ab") as log:
            command = [MOSQUITTO, "-c", str(configuration)]
            self.process = subprocess.Popen(command, stderr=log, stdout=log)  # noqa: ASYNC220 - ours, and quick
        async with asyncio.timeout(10):
            while not await self._listens():  # noqa: ASYNC110 - another process tells nobody
                await asyncio.sleep(0.02)

    def stop(self) -> None:
        """Stop it properly: it writes its sessions and retained messages first."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(10)
            self.process = None

    def kill(self) -> None:
        """Stop it at once; with a fresh ``folder`` it has forgotten everything."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)
            self.process = None

    def forget(self) -> None:
        """While it is stopped: lose all sessions and retained messages."""
        (self.folder / "mosquitto.db").unlink(missing_ok=True)

    async def _listens(self) -> bool:
        if self.process is None or self.process.poll() is not None:
            raise RuntimeError((self.folder / "mosquitto.log").read_text())
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.options.port)
        except OSError:
            return False
        writer.close()
        await writer.wait_closed()
        return True


@asynccontextmanager
async def running_broker(
    folder: Path, lines: Sequence[str] = ("allow_anonymous true",), options: BrokerOptions | None = None
) -> AsyncIterator[Broker]:
    """Run a broker inside the block; ``options`` say how its clients get in (default: anonymous, plain)."""
    broker = Broker(folder, lines, options or BrokerOptions(host="127.0.0.1", port=0))
    await broker.start()
    try:
        yield broker
    finally:
        broker.stop()
