"""The app's AppArmor profile: AppArmor's own parser takes it, and it allows what a traced run of the app does."""

import asyncio
import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import ClientConnectionError, ClientSession

from process_cosmos_gateway.api.local_programs.tokens import make_token
from process_cosmos_gateway.clock import SystemClock
from process_cosmos_testbed.processes import ROOT, until
from process_cosmos_testbed.services import COMMAND

pytestmark = pytest.mark.long

PROFILE = ROOT / "addon/apparmor.txt"
INSTALLED = "/usr/local/lib"
"""Where the image has what is here the repository's environment."""

_VARIABLES = {"PROC": "/proc", "pid": "[0-9]*", "etc_ro": "/etc", "etc_rw": "/etc", "sys": "/sys", "run": "/run"}
_OPENED = re.compile(r'open(?:at)?\((?:AT_FDCWD, )?"(/[^"]*)", (O_\w+)[^)]*\) = \d')
_CHANGED = re.compile(r'(?:unlink|rename|link|mkdir)(?:at2?)?\((?:AT_FDCWD, )?"(/[^"]*)".*\) = 0')


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Debian's AppArmor parser and strace, unpacked."""
    folder = tmp_path_factory.mktemp("tools") / "root"
    subprocess.run(["bash", ROOT / "scripts/tools/debs.sh", "testing", folder, "apparmor", "strace"], check=True)
    return folder


def unpacked(tools: Path, program: str) -> list[str | Path]:
    """Return the command that runs an unpacked program with its own libraries."""
    (loader,) = tools.glob("usr/lib/*-linux-gnu*/ld-linux-*.so.*")
    return [loader, "--library-path", loader.parent, tools / program]


def parsed(tools: Path, profile: Path) -> int:
    """Return the exit code of AppArmor's parser, which loads nothing."""
    base = tools / "etc/apparmor.d"
    command = [*unpacked(tools, "usr/sbin/apparmor_parser"), "--skip-kernel-load", "--skip-cache"]
    return subprocess.run([*command, "--base", base, "--Include", base, profile], check=False).returncode


def test_apparmors_parser_takes_the_profile(tools: Path, tmp_path: Path) -> None:
    assert parsed(tools, PROFILE) == 0
    broken = tmp_path / "broken.txt"
    broken.write_text(PROFILE.read_text().replace("/data/** rwkl,", "/data/** rwkl"))
    assert parsed(tools, broken) != 0


def rules(text: str, tools: Path) -> Iterator[tuple[re.Pattern[str], str]]:
    """Yield paths and what may be done there, those of included files too."""
    for line in text.splitlines():
        if included := re.match(r"\s*#?include <(abstractions/\w+)>", line):
            yield from rules((tools / "etc/apparmor.d" / included[1]).read_text(), tools)
        elif rule := re.match(r"\s*([/@]\S+)\s+(\w+),", line):
            yield re.compile(expression(rule[1])), rule[2]


def expression(path: str) -> str:
    """Return AppArmor's glob as a regular expression."""
    path = re.sub(r"@\{(\w+)\}", lambda name: _VARIABLES.get(name[1], "[^/]*"), path)
    meanings = {
        "/**": "/.+",
        "/*": "/[^/]+",
        "**": ".*",
        "*": "[^/]*",
        "{": "(?:",
        "}": ")",
        ",": "|",
        "[0-9]*": "[0-9]+",
    }
    parts = re.split(r"(\[0-9\]\*|/?\*\*|/?\*|[{},])", path)
    return "".join(meanings.get(part, re.escape(part)) for part in parts)


def in_the_image(path: str, data: Path) -> str:
    """Return a path of this machine as the profile names it in the image: folders end so, processes have numbers."""
    if Path(path).is_dir() and not path.endswith("/"):
        path += "/"
    for here, there in ((str(data), "/data"), (str(ROOT), INSTALLED), ("/proc/self/", "/proc/7/")):
        path = path.replace(here, there, 1)
    return path


async def test_a_traced_run_of_the_app_does_nothing_the_profile_denies(
    tools: Path, tmp_path: Path, unused_tcp_port: int
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    options = data / "options.json"
    given = {"data": str(data), "host": "127.0.0.1", "port": unused_tcp_port, "mqtt_host": "localhost", "mqtt_port": 1}
    options.write_text(json.dumps(given))
    token = make_token(data, "watcher", SystemClock())
    # The app's own files count, not what Python compiles or what the tests measure of it.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    environment |= {"SUPERVISOR_TOKEN": "made up", "PYTHONDONTWRITEBYTECODE": "1"}

    async def traced(command: str) -> asyncio.subprocess.Process:
        strace = [
            *unpacked(tools, "usr/bin/strace"),
            "-f",
            "-qq",
            "-o",
            tmp_path / f"{command}.trace",
            "-e",
            "trace=file",
        ]
        return await asyncio.create_subprocess_exec(*strace, COMMAND, command, "--options", options, env=environment)

    running = await traced("run")
    async with ClientSession(headers={"Authorization": f"Bearer {token}"}) as http:

        async def probe() -> bool | None:
            try:
                async with http.get(f"http://127.0.0.1:{unused_tcp_port}/metrics") as reply:
                    return reply.status == 200
            except ClientConnectionError:
                return None

        await until(probe, "metrics", 60)
    for command in ("health", "backup", "pair"):
        assert await (await traced(command)).wait() == 0
    # The tracer itself takes no notice of signals.
    os.kill(int((tmp_path / "run.trace").read_text().split()[0]), signal.SIGTERM)
    assert await running.wait() == 0

    allowed = list(rules(PROFILE.read_text(), tools))
    did = [used(line, data) for trace in tmp_path.glob("*.trace") for line in trace.read_text().splitlines()]
    assert {("w", "/data/gateway.sqlite"), ("w", "/data/backup/store.new"), ("r", "/proc/7/io")} <= set(did)
    denied = {
        each
        for each in filter(None, did)
        if not any(each[0] in modes and path.fullmatch(each[1]) for path, modes in allowed)
    }
    assert denied == set()


def used(line: str, data: Path) -> tuple[str, str] | None:
    """Return what a traced call did with which file: ``r`` or ``w``; None if it failed or only looked."""
    if opened := _OPENED.search(line):
        return "r" if opened[2] == "O_RDONLY" else "w", in_the_image(opened[1], data)
    changed = _CHANGED.search(line)
    return ("w", in_the_image(changed[1], data)) if changed else None
