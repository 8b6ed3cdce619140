"""The app as a process of its own, in place of its container."""

import json
import os
import sys
from pathlib import Path

from process_cosmos_testbed.processes import ManagedProcess, free_ports

from .apps import TOP, App

BIN = Path(sys.executable).parent


class ProcessHost:
    """Runs our app in ``folder``: its ``/data``, its log; on 127.0.0.1, with its real options, token and health check.

    Another Supervisor's address and another host name than a container has are all that differs.
    """

    def __init__(self, folder: Path) -> None:
        """Take the folder; the data in it outlives the process."""
        self._data = folder / "data"
        self._options = self._data / "options.json"
        self._process = ManagedProcess("app", folder)
        self.port = free_ports(1)[0]

    async def start(self, app: App, url: str) -> None:
        """Start it; return when it is healthy."""
        self._data.mkdir(parents=True, exist_ok=True)
        network = {"data": str(self._data), "host": "127.0.0.1", "port": self.port}
        self._options.write_text(json.dumps({**app.effective_options(), **network}))
        environment = {**os.environ, "SUPERVISOR_TOKEN": str(app.token), "PYTHONPATH": str(TOP)}
        command = (BIN / "python", "-m", "tests.support.supervisor.app_process", url, self._options)
        await self._process.launch(*command, environment=environment)
        await self._process.until_ready(lambda: self._is_healthy(environment), "its health check")

    async def stop(self, _: App) -> None:
        """Stop it, as the Supervisor does: SIGTERM, and some seconds."""
        await self._process.stop()

    async def _is_healthy(self, environment: dict[str, str]) -> bool | None:
        check = ManagedProcess("health", self._data.parent)
        await check.launch(
            BIN / "process-cosmos-gateway", "health", "--options", self._options, environment=environment
        )
        return await check.wait(20) == 0 or None
