"""compose.yaml: what it says holds in the gateway and in the broker.

No container engine runs it here: Docker's own Compose reads it (a long test), and each command it starts is run by
hand in the test's own process tree, with the container's paths led into the test's folder.
"""

import getpass
import hashlib
import json
import os
import re
import secrets
import shutil
import sys
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from process_cosmos_gateway.contract.pairing import parse_pairing_line
from process_cosmos_gateway.options import PORT, parse_options
from process_cosmos_testbed.broker import MOSQUITTO
from process_cosmos_testbed.processes import ManagedProcess, accepts, free_ports, run_once

TOP = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
USER = "gateway"
PASSWORD = "made up"


@pytest.fixture
def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((TOP / "compose.yaml").read_text())
    return document


def led_to(folder: Path, text: str) -> str:
    """Lead the container's paths into ``folder``."""
    return re.sub(r"(?<!\w)(/mosquitto)?/data\b", str(folder / "data"), text)


@asynccontextmanager
async def running(process: ManagedProcess, *command: str | Path, **environment: str) -> AsyncIterator[ManagedProcess]:
    await process.launch(*command, environment={**os.environ, **environment})
    try:
        yield process
    finally:
        await process.stop()


def hashed(password: str) -> str:
    """Return what mosquitto_passwd writes (PBKDF2 with SHA-512)."""
    salt, rounds = secrets.token_bytes(12), 1000
    key = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, rounds, 64)
    return f"$7${rounds}${b64encode(salt).decode()}${b64encode(key).decode()}"


def devices_command(compose: dict[str, Any], folder: Path, broker_port: int, control_port: int) -> list[str]:
    """Return the command of the virtual devices, with what a container's network and secrets would be."""
    service = compose["services"]["testbed"]
    [secret] = service["secrets"]
    password = folder / compose["secrets"][secret]["file"]
    password.write_text(f"{PASSWORD}\n")
    own = {"broker": "127.0.0.1", f"/run/secrets/{secret}": str(password), "8736": str(control_port)}
    return [own.get(word, word) for word in service["command"]] + ["--port", str(broker_port)]


def test_it_gives_the_gateway_its_data_its_port_and_nothing_secret(compose: dict[str, Any]) -> None:
    gateway = compose["services"]["gateway"]
    options = {name.removeprefix("PROCESS_COSMOS_").lower(): value for name, value in gateway["environment"].items()}
    assert parse_options(options).data == Path("/data")
    assert gateway["volumes"] == ["gateway:/data"]
    assert "gateway" in compose["volumes"]
    assert gateway["ports"] == [f"{PORT}:{PORT}"]
    assert (TOP / gateway["build"] / "Dockerfile").is_file()
    assert gateway["environment"].keys() == {"PROCESS_COSMOS_DATA"}
    assert "environment" not in compose["services"]["broker"]
    ignored = (TOP / ".gitignore").read_text().split()
    assert [f"/{file['path']}" for file in gateway["env_file"]] == [line for line in ignored if line.endswith(".env")]
    assert {f"/{secret['file']}" for secret in compose["secrets"].values()} <= set(ignored)


def test_it_asks_after_the_gateways_health_as_the_image_does(compose: dict[str, Any]) -> None:
    check = compose["services"]["gateway"]["healthcheck"]
    image = (TOP / "addon/Dockerfile").read_text()
    assert "CMD " + str(check["test"][1:]).replace("'", '"') in image
    for name in ("interval", "timeout", "start_period"):
        assert f"--{name.replace('_', '-')}={check[name]}" in image


async def test_each_command_it_starts_does_its_work(compose: dict[str, Any], tmp_path: Path) -> None:
    gateway_port, broker_port, control_port = free_ports(3)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/passwords").write_text(f"{USER}:{hashed(PASSWORD)}\ntestbed:{hashed(PASSWORD)}\n")
    configuration = tmp_path / "mosquitto.conf"
    inside = led_to(tmp_path, compose["configs"]["broker"]["content"])
    # As root Mosquitto would become another user, who may not look into the folders of tests.
    own = f"user {getpass.getuser()}\n"
    configuration.write_text(own + inside.replace("listener 1883", f"listener {broker_port} 127.0.0.1"))
    gateway = compose["services"]["gateway"]
    environment = {
        **{name: led_to(tmp_path, value) for name, value in gateway["environment"].items()},
        # What stands in gateway.env, and where a container would have a network of its own.
        "PROCESS_COSMOS_MQTT_HOST": "127.0.0.1",
        "PROCESS_COSMOS_MQTT_PORT": str(broker_port),
        "PROCESS_COSMOS_MQTT_USERNAME": USER,
        "PROCESS_COSMOS_MQTT_PASSWORD": PASSWORD,
        "PROCESS_COSMOS_HOST": "127.0.0.1",
        "PROCESS_COSMOS_PORT": str(gateway_port),
    }
    program = BIN / "process-cosmos-gateway"
    broker = running(ManagedProcess("broker", tmp_path), MOSQUITTO, "-v", "-c", configuration)
    async with broker as process, running(ManagedProcess("gateway", tmp_path), program, "run", **environment) as app:
        await process.until_ready(lambda: accepts(broker_port), "an open port")
        await app.until_ready(lambda: accepts(gateway_port), "an open port")
        health = ManagedProcess("health", tmp_path)
        await health.launch(
            BIN / gateway["healthcheck"]["test"][1], "health", environment={**os.environ, **environment}
        )
        assert await health.wait(20) == 0
        words = [f"{name}={value}" for name, value in environment.items()]
        shown = await run_once("env", *words, program, "pair", "--host", "here")
        assert parse_pairing_line(shown.strip()).url == f"https://here:{gateway_port}"

        async def is_known(user: str) -> bool:
            return f"u'{user}'" in process.log.read_text()

        await process.until_ready(partial(is_known, USER), "the gateway among its clients")
        command = devices_command(compose, tmp_path, broker_port, control_port)
        async with running(ManagedProcess("devices", tmp_path), BIN / "process-cosmos-testbed", *command):
            await process.until_ready(partial(is_known, "testbed"), "the virtual devices among its clients")
            say = (BIN / "process-cosmos-testbed", "say", str(control_port))
            await run_once(*say, "leak-1", "set", "true")
            assert json.loads(await run_once(*say, "leak-1", "values"))["value"]["leak"] is True
    assert (tmp_path / "data/gateway.sqlite").exists()


@pytest.mark.long
async def test_docker_compose_itself_understands_it(tmp_path: Path) -> None:
    root = tmp_path / "root"
    tools = TOP / "scripts/tools"
    await run_once("bash", tools / "debs.sh", "testing", root, "docker-compose", limit=300)
    program = (root / "usr/bin/docker-compose").resolve()
    patchelf = shutil.which("patchelf")
    await run_once("env", f"PATCHELF={patchelf}", "bash", tools / "elf.sh", root, program, limit=60)
    for words, services in (
        ([], {"gateway"}),
        (["--profile", "broker", "--profile", "testbed"], {"gateway", "broker", "testbed"}),
    ):
        shown = yaml.safe_load(await run_once(program, "-f", TOP / "compose.yaml", *words, "config"))
        assert shown["services"].keys() == services
