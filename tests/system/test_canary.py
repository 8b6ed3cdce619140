"""Secrets go where they must and are written nowhere else."""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

import aiohttp
import orjson
import pytest
from paho.mqtt import publish

from process_cosmos_testbed.home_assistant.client import HomeAssistantClient
from process_cosmos_testbed.home_assistant.flows import OPTIONS, Flow, FlowError
from process_cosmos_testbed.home_assistant.onboarding import onboard
from process_cosmos_testbed.processes import LOCAL, until
from process_cosmos_testbed.scenarios.leak_demo.setup import KINDS, add_integration, add_phones, find_entities
from process_cosmos_testbed.scenarios.leak_demo.site import DemoSite

PASSWORD = "canary-password-of-the-broker"
PAYLOAD = "canary-in-a-payload"
URL = "canary-in-a-url"
HEADER = "canary-in-a-header"
LINE = "canary-in-a-wrong-pairing-line"


async def test_a_secret_in_options_payload_and_url_is_found_in_nothing_the_processes_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROCESS_COSMOS_MQTT_USERNAME", "gateway")
    monkeypatch.setenv("PROCESS_COSMOS_MQTT_PASSWORD", PASSWORD)
    monkeypatch.setenv("PROCESS_COSMOS_LOG_LEVEL", "debug")
    site = DemoSite(tmp_path)
    site.gateway.environment = os.environ
    async with site.started():
        url = site.home_assistant.url
        token = await onboard(url)
        async with HomeAssistantClient(url, token) as home:
            await home.until_running()
            with pytest.raises(FlowError):
                await wrong_line(home, f"{site.gateway.url}#{LINE}.{'0' * 64}")
            entry = await add_integration(home, site, await add_phones(home, site))
            await find_entities(home)
            await add_webhook(home, entry, f"http://{LOCAL}:{site.receiver.port}/{URL}")
            await garbage(site.broker.port)
            await home.action("process_cosmos.alert", {"message": "For the webhook"}, reply=True)
            await until(lambda: refused(home), "destination that refuses", 30)
            shown = [await diagnostics(url, token, entry), orjson.dumps(await home.get("/api/states"))]
        for secret in (URL, HEADER):
            assert secret in stored(tmp_path / "gateway")
    written = {path: path.read_bytes() for path in logs(tmp_path)}
    assert {path.name for path in written} >= {"gateway.log", "home-assistant.log", "cloud.log", "cloud-ledger.log"}
    assert b"description_invalid" in written[tmp_path / "gateway.log"]
    for secret in (PASSWORD, PAYLOAD, URL, HEADER, LINE):
        assert [str(path) for path, text in written.items() if secret.encode() in text] == []
        assert not any(secret.encode() in text for text in shown)


async def wrong_line(home: HomeAssistantClient, line: str) -> None:
    """Paste a pairing line that the gateway did not print."""
    flow = Flow(home)
    await flow.begin()
    await flow.choose("pairing")
    await flow.fill("pairing", line=line)


async def add_webhook(home: HomeAssistantClient, entry: str, url: str) -> None:
    """Add a webhook whose receiver wants a header."""
    flow = Flow(home, OPTIONS)
    await flow.begin(entry)
    await flow.choose("webhook")
    await flow.fill("webhook", url=url, kinds=KINDS, header="Authorization", header_value=HEADER)
    await flow.choose("keep")  # its receiver does not confirm the test event


async def garbage(port: int) -> None:
    """Publish what no device should: broken descriptions, a value of the wrong type, a megabyte."""
    device = "wot/leak-kitchen"
    payloads = (
        ("wot/garbage/td", orjson.dumps({"title": PAYLOAD, "properties": {"p": {"type": "boolean"}}})),
        ("wot/half/td", b'{"title": "' + PAYLOAD.encode()),
        (f"{device}/properties/leak", orjson.dumps(PAYLOAD)),
        (f"{device}/properties/leak", PAYLOAD.encode() * 50_000),
        (f"{device}/availability", PAYLOAD.encode()),
    )
    for topic, payload in payloads:
        await asyncio.to_thread(publish.single, topic, payload, qos=1, port=port, hostname="127.0.0.1")


async def refused(home: HomeAssistantClient) -> bool:
    """Say when the site's page says that a destination refuses."""
    states = [state for state in await home.get("/api/states") if state["entity_id"].endswith("_destination_status")]
    return any(state["state"] == "refused" for state in states)


async def diagnostics(url: str, token: str, entry: str) -> bytes:
    """Download the diagnostics as a person does."""
    headers = {"Authorization": f"Bearer {token}"}
    path = f"{url}/api/diagnostics/config_entry/{entry}"
    async with aiohttp.ClientSession(headers=headers) as http, http.get(path) as response:
        assert response.status == 200
        return await response.read()


def logs(folder: Path) -> Sequence[Path]:
    """Return everything that is no store: logs, and what Home Assistant writes of itself."""
    found = folder.glob("*.log")
    return [*found, *(folder / "home-assistant").glob("home-assistant.log*")]


def stored(folder: Path) -> str:
    """Return all files of a data folder, which nobody else may read."""
    assert folder.stat().st_mode & 0o077 == 0
    files = [path for path in folder.iterdir() if path.is_file()]
    assert all(path.stat().st_mode & 0o077 == 0 for path in files)
    return "".join(path.read_bytes().decode(errors="replace") for path in files)
