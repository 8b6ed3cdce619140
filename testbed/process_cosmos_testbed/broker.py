"""Mosquitto on a free port of 127.0.0.1."""

import getpass
import shutil
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from process_cosmos_gateway.options import BrokerOptions

from .processes import LOCAL, ROOT, ManagedProcess, accepts, free_port, until

_UNPACKED = ROOT / ".tools/mosquitto/usr/sbin/mosquitto"
MOSQUITTO = shutil.which("mosquitto") or str(_UNPACKED)
ANONYMOUS = ("allow_anonymous true",)


class Broker(ManagedProcess):
    """One Mosquitto, which keeps its port, its sessions and its retained messages across restarts.

    ``lines``: its configuration after the listener. ``options``: how clients connect (default: anonymous, plain).
    """

    def __init__(
        self,
        folder: Path,
        lines: Sequence[str] = ANONYMOUS,
        options: BrokerOptions | None = None,
    ) -> None:
        """Choose a port; ``autosave_interval 0`` among ``lines`` leaves saving to ``save``."""
        super().__init__("broker", folder)
        self.options = options or BrokerOptions(host=LOCAL, port=0)
        if not self.options.port:
            self.options = replace(self.options, port=free_port())
        self.lines = lines
        self._sessions = folder / "mosquitto.db"

    @property
    def port(self) -> int:
        """The port on 127.0.0.1."""
        return self.options.port

    async def start(self) -> None:
        """Start Mosquitto; return when it listens."""
        configuration = self.folder / f"{self.name}.conf"
        # As root Mosquitto would become another user, who may not read this folder.
        lines = [f"user {getpass.getuser()}", "log_dest stderr", "log_type error"]
        lines += ["persistence true", f"persistence_location {self.folder}/", "autosave_interval 1"]
        lines += [f"listener {self.port} {LOCAL}", *self.lines]
        configuration.write_text("\n".join(lines) + "\n")
        await self.launch(MOSQUITTO, "-c", configuration)
        await self.until_ready(lambda: accepts(self.port), "an open port")

    async def save(self) -> None:
        """Let Mosquitto write its sessions to disk: after SIGKILL it returns to that state."""
        # Mosquitto does not reply to the signal: only a file that was not there before proves the save.
        self._sessions.unlink(missing_ok=True)
        self.signal(signal.SIGUSR1)
        await until(self._sessions.exists, "saved sessions of the broker", 10)

    def forget(self) -> None:
        """Remove all sessions and retained messages of a stopped Mosquitto."""
        self._sessions.unlink(missing_ok=True)


@asynccontextmanager
async def running_broker(
    folder: Path, lines: Sequence[str] = ANONYMOUS, options: BrokerOptions | None = None
) -> AsyncIterator[Broker]:
    """Run a broker inside the block."""
    broker = Broker(folder, lines, options)
    await broker.start()
    try:
        yield broker
    finally:
        await broker.stop()
