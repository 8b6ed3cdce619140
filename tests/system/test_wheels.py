"""What the image installs is there as wheels, for each machine the app says it runs on: nothing is compiled there."""

import asyncio
from asyncio import subprocess
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.long

TOP = Path(__file__).resolve().parents[2]
PROCESSORS = {"amd64": "x86_64", "aarch64": "aarch64"}
SYSTEMS = ("unknown-linux-musl", "manylinux_2_28")
"""Alpine's, which the image stands on, and Debian's."""


async def resolved(requirements: str | Path, platform: str, given: str = "") -> tuple[int, str]:
    """Ask the package index what would be installed on a platform, from wheels alone; return exit code and words."""
    words = ("--only-binary", ":all:", "--python-version", "3.14", "--python-platform", platform)
    process = await subprocess.create_subprocess_exec(
        *("uv", "pip", "compile", "--system-certs", "--quiet", "--no-header", "--no-annotate", *words),
        *("--constraint", TOP / "requirements.lock", requirements),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    said, _ = await asyncio.wait_for(process.communicate(given.encode()), 60)
    return process.returncode or 0, said.decode()


@pytest.mark.parametrize("system", SYSTEMS)
async def test_every_requirement_of_the_app_has_a_wheel_for_each_of_its_machines(system: str) -> None:
    machines = yaml.safe_load((TOP / "addon/config.yaml").read_text())["arch"]
    assert machines
    for machine in machines:
        code, said = await resolved(TOP / "addon/pyproject.toml", f"{PROCESSORS[machine]}-{system}")
        assert code == 0, said
        names = {line.split("==")[0] for line in said.splitlines()}
        assert {"aiohttp", "apsw", "cryptography", "multidict", "orjson"} <= names


@pytest.mark.parametrize("system", SYSTEMS)
async def test_a_requirement_without_such_a_wheel_would_be_noticed(system: str) -> None:
    code, said = await resolved("-", f"x86_64-{system}", "pywin32==311\n")
    assert code != 0
    assert "pywin32==311 has no wheels with a matching" in " ".join(said.split())
