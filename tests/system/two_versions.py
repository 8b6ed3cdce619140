"""A site whose gateway and integration may each be of this version or the one before: real processes, one receiver."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from demo.home import Home
from demo.house import HOME_ASSISTANT_ENTITIES, ROOT, until
from demo.onboarding import Phone, answers_http, onboard, prepare_folder, register_phone
from demo.site import KINDS, Entities, Flow, find_entities
from process_cosmos_gateway.lab.devices import OPEN, LeakSensor, Valve
from process_cosmos_gateway.lab.processes import Part, PartFailedError, free_ports, run_once
from tests.brokers import running_broker
from tests.gateway.gateway_process import COMMAND, GatewayProcess
from tests.versions.parts import unpack

from .home import Pushes

ANSWER = "Do it"
DONE = "counter.pump_restarts"
"""Counts how often the actions of an answer ran."""

INTEGRATION = ROOT / "custom_components/process_cosmos"


@dataclass(slots=True)
class Receiver:
    """A webhook; to an alert of which ``to_answer`` holds the message it replies with the answer."""

    events: list[dict[str, Any]] = field(default_factory=list)
    to_answer: set[str] = field(default_factory=set)

    async def take(self, request: web.Request) -> web.Response:
        """Take one event in."""
        event = await request.json()
        self.events.append(event)
        asked = event["type"].endswith(".opened.v1") and event["data"]["message"] in self.to_answer
        return web.json_response({"answer": ANSWER} if asked else {})

    def heard(self, alert: str) -> list[str]:
        """Return the kinds of transitions heard of an alert, in order."""
        return [event["type"].split(".")[2] for event in self.events if event["subject"] == alert]


class Site:
    """The processes, each of which may be taken to another version."""

    def __init__(self, folder: Path, gateway: GatewayProcess, sensor: LeakSensor, valve: Valve) -> None:
        """Take the folder, a gateway that was not started yet, and two devices."""
        self.previous_gateway = ("env", f"PYTHONPATH={unpack('gateway', folder)}", COMMAND)
        self.previous_integration = unpack("integration", folder) / "process_cosmos"
        self.gateway = gateway
        self.sensor = sensor
        self.valve = valve
        self.pushes = Pushes()
        self.receiver = Receiver()
        self.home: Home
        self.phone: Phone
        self.entities: Entities
        [port] = free_ports(1)
        self._url = f"http://127.0.0.1:{port}"
        self._folder = folder / "home-assistant"
        self._process = Part("home-assistant", folder)
        self._connection = AsyncExitStack()
        self._token = ""
        prepare_folder(self._folder, port, self.previous_integration, HOME_ASSISTANT_ENTITIES)

    async def set_up(self, server: TestServer) -> None:
        """Set the site up through the flow of the version before, which must be running."""
        pair = (*self.gateway.program, "pair", "--options", self.gateway.file, "--host", "127.0.0.1")
        line = (await run_once(*pair, log=self.gateway.log)).strip()
        self.phone = await register_phone(self.home, "ann", str(server.make_url("/push")))
        flow = Flow(self.home, "/api/config/config_entries/flow")
        await flow.begin(handler="process_cosmos")
        await flow.choose("pairing")
        await flow.fill("pairing", line=line)
        await flow.fill("who", phones=[self.phone.device], notify_entities=[])
        await flow.choose("webhook")
        await flow.fill("webhook", url=str(server.make_url("/webhook")), kinds=KINDS)
        await flow.fill("finish", test_notification=False, install_blueprints=False)
        self.entities = await find_entities(self.home)

    async def start_home(self, integration: Path) -> None:
        """Start Home Assistant with ``integration``; stop it first if it runs."""
        await self.stop_home()
        link = self._folder / "custom_components/process_cosmos"
        link.unlink()
        link.symlink_to(integration)
        await self._process.start(Path(sys.executable).parent / "hass", "-c", self._folder, "--skip-pip")
        await self._process.until(lambda: answers_http(self._url), "its frontend", 90)
        self._token = self._token or await onboard(self._url)
        self.home = await self._connection.enter_async_context(Home(self._url, self._token))
        await self.home.until_running()

    async def stop_home(self) -> None:
        """Stop Home Assistant."""
        await self._connection.aclose()
        await self._process.stop(30)

    async def start_gateway(self, *program: str | Path) -> None:
        """Update the gateway, or take it back, as an app's update does: it is stopped, another is started."""
        await self.gateway.stop()
        self.gateway.program = program
        await self.gateway.start()

    async def why_the_previous_gateway_does_not_start(self) -> str:
        """Start the gateway of the version before in vain; return what it says."""
        run = (*self.previous_gateway, "run", "--options", self.gateway.file)
        with pytest.raises(PartFailedError) as failure:
            await run_once(*run, log=self.gateway.log)
        return str(failure.value)

    @property
    def memory(self) -> Path:
        """The integration's file of alerts."""
        [file] = (self._folder / ".storage").glob("process_cosmos.*.memory")
        return file

    async def why_it_is_not_set_up(self) -> str:
        """Return the code of what keeps the integration from being set up."""
        [entry] = await self.home.command("config_entries/get", domain="process_cosmos")
        assert entry["state"] == "setup_error"
        return str(entry["error_reason_translation_key"])

    async def raise_alert(self, message: str) -> str:
        """Escalate with an answer whose actions count up; return the alert once the phone has rung."""
        actions = [{"action": "counter.increment", "target": {"entity_id": DONE}}]
        answers = [{"name": ANSWER, "actions": actions}, {"name": "Leave it"}]
        data = {"message": message, "answers": answers, "group": message}
        raised = await self.home.action("process_cosmos.alert", data, reply=True)
        await self.pushes.next_ring(message)
        return str(raised["id"])

    async def until_state(self, entity: str, *states: str) -> None:
        """Return when an entity has one of ``states``."""

        async def has() -> bool | None:
            return await self.home.state(entity) in states or None

        await until(has, f"{entity} {states[0]}", 30)

    async def until_heard(self, alert: str, *kinds: str) -> None:
        """Return when the receiver has heard these kinds of transitions, in this order, and nothing else."""

        async def heard() -> bool | None:
            return self.receiver.heard(alert) == list(kinds) or None

        await until(heard, f"{', '.join(kinds)} of {alert}", 30)

    async def shown_issues(self) -> set[str]:
        """Return which of our repair issues are shown."""
        issues = (await self.home.command("repairs/list_issues"))["issues"]
        return {issue["translation_key"] for issue in issues if issue["domain"] == "process_cosmos"}

    async def dry(self) -> None:
        """Wipe the floor and open the valve by hand."""
        await self.sensor.set(False)
        await self.valve.report(OPEN, value=True)
        await self.until_state(self.entities.valve, "open")
        await self.until_state(self.entities.sensor, "off")


@asynccontextmanager
async def site_of_the_previous_version(folder: Path) -> AsyncIterator[Site]:
    """Run a site that was set up with the version before, on both sides."""
    app = web.Application()
    async with AsyncExitStack() as stack:
        (folder / "broker").mkdir()
        broker = (await stack.enter_async_context(running_broker(folder / "broker"))).options
        sensor = await stack.enter_async_context(LeakSensor(broker, "leak-kitchen", "Kitchen floor"))
        valve = await stack.enter_async_context(Valve(broker, "valve-kitchen", "Kitchen valve", safe_after=None))
        options = f'mqtt_host = "127.0.0.1"\nmqtt_port = {broker.port}\n'
        gateway = GatewayProcess(folder, free_ports(1)[0], options, measured=False)
        gateway.http = await stack.enter_async_context(ClientSession())
        site = Site(folder, gateway, sensor, valve)
        app.router.add_post("/push", site.pushes.take)
        app.router.add_post("/webhook", site.receiver.take)
        server = TestServer(app)
        await stack.enter_async_context(server)
        gateway.program = site.previous_gateway
        await gateway.start()
        try:
            await site.start_home(site.previous_integration)
            await asyncio.wait_for(site.set_up(server), 60)
            yield site
        finally:
            await site.stop_home()
            if gateway.process.returncode is None:
                await gateway.kill()
