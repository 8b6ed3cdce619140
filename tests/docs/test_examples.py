"""Run or parse every example of the documents; a block that no test covers fails."""

import asyncio
import shlex
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import ClientSession

from process_cosmos_gateway.contract.alerts import AlertEvent
from process_cosmos_gateway.contract.cloud import BatchReceipt
from process_cosmos_gateway.contract.codec import parse
from process_cosmos_gateway.contract.pairing import parse_line, parse_pairing_line
from process_cosmos_gateway.destinations.service import TEST_TYPE
from process_cosmos_gateway.devices.things.description import parse_description
from process_cosmos_gateway.options import read_options
from process_cosmos_testbed.faults.cli import _parser as faults_parser
from process_cosmos_testbed.processes import free_port
from tests.cloud.endpoint import Site, event
from tests.gateway.gateway_process import gateway_process
from tests.support.documents import TOP, blocks, command_lines, languages

SITE = "01K8J5Z0000000000000000001"
BIN = Path(sys.executable).parent

TESTED_BY = {
    "README.md:bash": "run here, and scripts/… by scripts/test --full",
    "CONTRIBUTING.md:bash": "here",
    "docs/alert-protocol.md:mermaid": "a picture",
    "docs/alerts.md:yaml": "tests/home_assistant/alerts/test_documented_automations.py",
    "docs/architecture.md:mermaid": "a picture",
    "docs/destinations.md:": "here",
    "docs/destinations.md:json": "here",
    "docs/destinations.md:python": "tests/gateway/destinations/test_documented_receiver.py",
    "docs/destinations.md:yaml": "tests/home_assistant/test_documents.py",
    "docs/faults.md:sh": "here",
    "docs/install.md:bash": "here; docker by tests/system/test_compose.py, pip by tests/system/test_wheels.py",
    "docs/install.md:toml": "here",
    "docs/settings.md:yaml": "tests/home_assistant/test_documents.py",
    "docs/volume.md:toml": "here",
    "wire/README.md:mermaid": "a picture",
    "wire/devices.md:json": "here",
}
"""Which test covers the blocks of a page, by page and language."""


def test_every_block_of_every_page_is_covered_by_a_test() -> None:
    assert languages().keys() == TESTED_BY.keys()


# Parsed examples


@pytest.mark.parametrize("page", ["docs/install.md", "docs/volume.md"])
def test_options_of_the_pages_are_options_of_the_gateway(page: str, tmp_path: Path) -> None:
    for number, text in enumerate(blocks(page, "toml")):
        file = tmp_path / f"{number}.toml"
        ca = tmp_path / "broker-ca.pem"
        ca.touch()
        file.write_text(text.replace("/etc/process-cosmos/broker-ca.pem", str(ca)), "utf-8")
        options = read_options(file, {"PROCESS_COSMOS_DATA": str(tmp_path)})
        assert options.readings.readings_mb == tomllib.loads(text)["readings_mb"]


def test_the_examples_of_events_and_receipts_are_what_is_sent() -> None:
    alert, receipt, tested = map(orjson.loads, blocks("docs/destinations.md", "json"))
    parsed = parse(AlertEvent, alert["data"])
    assert alert["subject"] == parsed.alert
    assert parsed.answers == ("Turn on again", "Keep off")
    assert parse(BatchReceipt, receipt).duplicates == (1,)
    assert (tested["type"], set(tested)) == (TEST_TYPE, {*alert})


def test_the_example_of_a_description_is_a_device() -> None:
    whole, fragment = blocks("wire/devices.md", "json")
    thing = parse_description("wot/leak-kitchen/td", whole.encode(), ["wot/+/td"])
    assert (thing.device.id, [each.name for each in thing.device.properties]) == ("wot/leak-kitchen", ["leak"])
    assert [each.name for each in thing.device.events] == ["leak_detected"]
    document = orjson.loads(whole)
    base = "mqtt://broker/wot/leak-kitchen/properties/valveClosed"
    forms = [{"href": base, "op": "observeproperty"}, {"href": f"{base}/set", "op": "writeproperty"}]
    document["properties"] |= orjson.loads(f"{{{fragment.replace('[…]', orjson.dumps(forms).decode())}}}")
    thing = parse_description("wot/leak-kitchen/td", orjson.dumps(document), ["wot/+/td"])
    assert thing.inverted == {"valveClosed"}


# Examples that are run

SCRIPTS = [
    *command_lines("README.md", "bash"),
    *command_lines("CONTRIBUTING.md", "bash"),
    *command_lines("docs/faults.md", "sh"),
]


@pytest.mark.parametrize("line", [line for line in SCRIPTS if line.startswith("scripts/")])
def test_a_script_exists_and_accepts_the_arguments(line: str) -> None:
    script, *arguments = shlex.split(line)
    assert (TOP / script).stat().st_mode & 0o111
    if script == "scripts/faults":
        faults_parser().parse_args(arguments)
    else:
        assert not arguments


NOT_RUN = ("git clone ", "cd ", "docker compose ", "openssl rand ", "python3.14 -m venv ", "gateway/bin/pip install ")
"""Commands that need the network, Docker or another Python: see ``TESTED_BY``."""


async def run(*arguments: str | Path, errors: int | None = None) -> str:
    """Run a program; return what it prints."""
    process = await asyncio.create_subprocess_exec(*arguments, stdout=asyncio.subprocess.PIPE, stderr=errors)
    async with asyncio.timeout(60):
        output, _ = await process.communicate()
    assert process.returncode == 0, (arguments, output)
    return output.decode()


async def test_the_gateways_commands_do_what_the_pages_say(tmp_path: Path) -> None:
    lines = [*command_lines("README.md", "bash"), *command_lines("docs/install.md", "bash")]
    documented = [line for line in lines if not line.startswith(("scripts/", *NOT_RUN))]
    commands = [shlex.split(line.removeprefix("gateway/bin/")) for line in documented]
    assert [(command[0], command[1]) for command in commands] == [
        *[("process-cosmos-gateway", name) for name in ("run", "pair") * 2],
        *[("process-cosmos-gateway", "token")] * 3,
    ]
    async with gateway_process(tmp_path, free_port()) as gateway:
        printed = []
        for program, *arguments in commands:
            own = [str(gateway.file) if each == "gateway.toml" else each for each in arguments]
            if own[0] != "run":
                printed.append(await run(BIN / program, *own))
        pair, pair_elsewhere, token, listed, revoked = printed
        assert parse_pairing_line(pair)
        assert parse_line(pair_elsewhere).url.startswith("https://gateway.example:")
        assert len(token.strip()) > 30
        assert listed.startswith("prometheus ")
        assert revoked == ""
    assert ["run", "--options", "gateway.toml"] in [command[1:] for command in commands], "gateway_process runs it so"


async def test_the_cloud_endpoints_commands_do_what_the_page_says(tmp_path: Path) -> None:
    lines = [shlex.split(line) for line in command_lines("docs/destinations.md", "")]
    assert all(line[0] == "process-cosmos-cloud" for line in lines)
    by_name = {line[1] + line[-1] * (line[1] == "ledger"): line for line in lines}
    assert len(by_name) == len(lines) == 8
    alert = str(event(1, SITE)["subject"])
    values = {"DIR": str(tmp_path), "SITE": SITE, "ALERT": alert, "8443": "0"}

    def command(name: str) -> Sequence[str]:
        return [sys.executable, "-m", "process_cosmos_cloud", *(values.get(each, each) for each in by_name[name][1:])]

    serve = [*command("serve"), "--name", "127.0.0.1"]
    server = await asyncio.create_subprocess_exec(*serve, stdout=asyncio.subprocess.PIPE)
    try:
        assert server.stdout is not None
        port = int((await asyncio.wait_for(server.stdout.readline(), 20)).decode().strip().rpartition(":")[2])
        site = Site.new(SITE, f"https://127.0.0.1:{port}")
        code = await run(*command("code"))
        assert parse_line(code).url == f"https://cloud.example.org:{port}"
        assert (await site.enrol(code.strip()))[0] == 200
        batch: dict[str, Any] = {"type": "process_cosmos.readings.v1", "datacontenttype": "application/senml+json"}
        await site.send([event(1, SITE), event(2, SITE, data=[{"n": "wot%2Fmeter/level", "v": 1}], **batch)])
        follow = await asyncio.create_subprocess_exec(*command("ledger--follow"), stdout=asyncio.subprocess.PIPE)
        assert follow.stdout is not None
        assert alert.encode() in await asyncio.wait_for(follow.stdout.readline(), 20)
        follow.terminate()
        await follow.wait()
        assert "wot%2Fmeter/level" in await run(*command("ledger--readings"))
        await run(*command("answer"))
        assert [item["answer"] for item in await site.inbox()] == ["Keep off"]
        assert SITE in await run(*command("sites"))
        assert await run(*command("revoke")) == "1 revoked\n"
        assert "was replaced by" in await run(*command("rotate-ca"))
    finally:
        server.terminate()
        await server.wait()


async def test_a_gateway_runs_with_the_options_of_the_page(tmp_path: Path) -> None:
    [text] = blocks("docs/install.md", "toml")
    own = {"data", "host", "port", "mqtt_ca"}
    lines = [line for line in text.splitlines() if line.partition(" ")[0] not in own]
    async with gateway_process(tmp_path, free_port(), "\n".join(lines)) as gateway, ClientSession():
        assert await gateway.is_well()
