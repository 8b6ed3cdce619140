"""The app's image: built as its Dockerfile says, installed and started from Home Assistant's own set-up."""

import asyncio
import json
import os
import signal
from asyncio import subprocess
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from process_cosmos_testbed.processes import ManagedProcess, accepts
from tests.support.supervisor.apps import App
from tests.support.supervisor.fake import FakeSupervisor

from .setting_up import REPOSITORY, home_beside, set_up_with_the_app

pytestmark = pytest.mark.long

TOP = Path(__file__).resolve().parents[2]
WITHIN = 60
PORT = 8735
IMAGE = "localhost/process-cosmos"
HTTP = 80
"""Every app knows the Supervisor as http://supervisor."""


async def out_of(*command: str | Path) -> str:
    """Run a command to its end; return what it printed."""
    process = await subprocess.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    printed, _ = await process.communicate()
    assert process.returncode == 0, printed.decode()[-3000:]
    return printed.decode()


def innermost(pid: int) -> int:
    """Return the last of a process's descendants: what the container's own processes are around."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    children = [int(child) for thread in threads for child in (thread / "children").read_text().split()]
    return innermost(children[-1]) if children else pid


class ImageHost:
    """Runs the image as the Supervisor does: entry point, token, ``/data``, health check, SIGTERM."""

    def __init__(self, buildah: Path, folder: Path) -> None:
        """Take the buildah that has the image."""
        self._buildah = buildah
        self._folder = folder
        self._process = ManagedProcess("app", folder)

    async def start(self, app: App, url: str) -> None:
        """Start it; return when its health check passes."""
        assert url.rstrip("/").endswith((":80", "127.0.0.1")), url
        names = ("--add-host=supervisor:127.0.0.1", "--hostname=localhost")
        container = (await out_of(self._buildah, "from", *names[:1], IMAGE)).strip()
        config: dict[str, Any] = json.loads(await out_of(self._buildah, "inspect", container))["Docker"]["config"]
        data = self._folder / "data"
        data.mkdir()
        (data / "options.json").write_text(json.dumps(app.effective_options()))
        given = (f"--env=SUPERVISOR_TOKEN={app.token}", f"--volume={data}:/data", names[1])
        run: list[str | Path] = [self._buildah, "run", *given, container, "--"]
        await self._process.launch(*run, *config["Entrypoint"], *config["Cmd"])
        kind, *health = config["Healthcheck"]["Test"]
        assert kind == "CMD"
        # Not before: of two runs of a container that begin at once, buildah mounts nothing for one.
        await self._process.until_ready(lambda: accepts(PORT), "an open port", WITHIN)
        await out_of(*run, *health)

    async def stop(self, _: App) -> None:
        """Stop it; it ends well."""
        os.kill(innermost(self._process.pid), signal.SIGTERM)
        assert await self._process.wait(WITHIN) == 0


async def test_the_images_build_and_the_app_is_brought_up_from_the_set_up_of_home_assistant(tmp_path: Path) -> None:
    await out_of("bash", TOP / "scripts/tools/image.sh", tmp_path / "image")
    host = ImageHost(tmp_path / "image/buildah", tmp_path)
    supervisor = FakeSupervisor(elsewhere={REPOSITORY: [App.ours()]}, host=host)
    async with supervisor.listening(HTTP), home_beside(supervisor, tmp_path) as lived, ClientSession() as http:
        await set_up_with_the_app(lived)
        async with asyncio.timeout(WITHIN), http.get(f"http://127.0.0.1:{PORT}/health") as reply:
            assert (await reply.json())["status"] == "ok"
    assert supervisor.passed_on[0]["port"] == PORT
    assert (tmp_path / "data/gateway.sqlite").exists()
    buildah = tmp_path / "image/buildah"
    container = (await out_of(buildah, "from", f"{IMAGE}-testbed")).strip()
    shown = await out_of(buildah, "run", container, "--", "process-cosmos-testbed", "devices", "--help")
    assert "--password-file" in shown
