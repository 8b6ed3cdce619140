"""The app's image: built as its Dockerfile says, started as the Supervisor starts it."""

import asyncio
import json
import os
import signal
from asyncio import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import ClientSession, web

from tests.supervisor.apps import App, State
from tests.supervisor.fake import BROKER, TOKEN, FakeSupervisor

pytestmark = pytest.mark.long

TOP = Path(__file__).resolve().parents[2]
WITHIN = 60
PORT = 8735


async def out_of(*command: str | Path) -> str:
    """Run a command to its end; return what it printed."""
    process = await subprocess.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    printed, _ = await process.communicate()
    assert process.returncode == 0, printed.decode()[-3000:]
    return printed.decode()


@asynccontextmanager
async def supervisor() -> AsyncIterator[FakeSupervisor]:
    """A Supervisor at the address every app knows it by."""
    fake = FakeSupervisor(apps=[App.ours(State.STARTED, TOKEN)], mqtt=BROKER)
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", fake.serve)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 80).start()
    try:
        yield fake
    finally:
        await runner.cleanup()


@asynccontextmanager
async def running(*command: str | Path) -> AsyncIterator[None]:
    """Run a program in a container; it ends well when it is told to, as the Supervisor would."""
    process = await subprocess.create_subprocess_exec(*command)
    try:
        yield
    finally:
        os.kill(innermost(process.pid), signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), WITHIN) == 0


def innermost(pid: int) -> int:
    """Return the last of a process's descendants: what the container's own processes are around."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    children = [int(child) for thread in threads for child in (thread / "children").read_text().split()]
    return innermost(children[-1]) if children else pid


async def test_the_image_builds_offers_itself_and_is_well_beside_a_supervisor(tmp_path: Path) -> None:
    await out_of("bash", TOP / "scripts/tools/image.sh", tmp_path / "image")
    buildah = tmp_path / "image/buildah"
    image = "localhost/process-cosmos"
    container = (await out_of(buildah, "from", "--add-host", "supervisor:127.0.0.1", image)).strip()
    config = json.loads(await out_of(buildah, "inspect", container))["Docker"]["config"]
    (tmp_path / "data").mkdir()
    (tmp_path / "data/options.json").write_text(json.dumps({"log_level": "info"}))

    given = [f"--env=SUPERVISOR_TOKEN={TOKEN}", f"--volume={tmp_path}/data:/data"]
    run: list[str | Path] = [buildah, "run", *given, container, "--"]
    async with supervisor() as fake, running(*run, *config["Entrypoint"], *config["Cmd"]), ClientSession() as http:
        async with asyncio.timeout(WITHIN):
            while not fake.passed_on:  # noqa: ASYNC110 - what the fake was told has no event
                await asyncio.sleep(0.1)
        assert fake.passed_on[0]["port"] == PORT
        async with http.get(f"http://127.0.0.1:{PORT}/health") as reply:
            assert (await reply.json())["status"] == "ok"
        kind, *health = config["Healthcheck"]["Test"]
        assert kind == "CMD"
        await out_of(*run, *health)
    assert (tmp_path / "data/gateway.sqlite").exists()
