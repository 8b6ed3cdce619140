"""A refusing destination, and a set-up without a phone, in a real browser."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

from process_cosmos_testbed.processes import until
from tests.gateway.gateway_process import gateway_process

from .browser import browser_at
from .home import Lived, living_home
from .setting_up import step


@dataclass(slots=True)
class Receiver:
    """A webhook receiver whose old address refuses events and whose new address accepts them."""

    accepted: list[dict[str, Any]] = field(default_factory=list)

    async def refuse(self, _: web.Request) -> web.Response:
        return web.Response(status=401, text="This token has been rotated.")

    async def accept(self, request: web.Request) -> web.Response:
        self.accepted.append(await request.json())
        return web.Response(status=204)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        """Start listening; yield the base URL without a path."""
        application = web.Application()
        application.router.add_post("/old", self.refuse)
        application.router.add_post("/new", self.accept)
        async with TestServer(application, host="127.0.0.1") as server:
            yield str(server.make_url("")).rstrip("/")


async def test_a_corrected_destination_gets_the_waiting_events(tmp_path: Path, unused_tcp_port: int) -> None:
    receiver = Receiver()
    async with (
        receiver.listening() as url,
        gateway_process(tmp_path, unused_tcp_port) as gateway,
        living_home(tmp_path) as home,
        browser_at(home.url) as person,
    ):
        await set_up_with_a_webhook(home, str(await gateway.pairing_line()), f"{url}/old")
        await home.api.action("process_cosmos.alert", {"message": "Water in the cellar"})
        await person.log_in()
        await person.look_at_the_repair("Mill refuses events")
        await person.correct_the_destination("Mill", f"{url}/new")
        await until(lambda: waited(receiver), "the waiting events at the new address")
    assert "process_cosmos.test.v1" in {event["type"] for event in receiver.accepted}
    opened = next(event for event in receiver.accepted if event["type"] == "process_cosmos.alert.opened.v1")
    assert opened["data"]["message"] == "Water in the cellar"


async def test_without_a_phone_alerts_appear_in_home_assistant(tmp_path: Path) -> None:
    async with living_home(tmp_path) as home, browser_at(home.url) as person:
        for entry in await home.api.get("/api/config/config_entries/entry?domain=mobile_app"):
            await home.api.delete(f"/api/config/config_entries/entry/{entry['entry_id']}")
        await person.log_in()
        await person.add_the_integration_without_a_phone()
        await home.api.action("process_cosmos.alert", {"message": "Water in the cellar"})
        await person.read_the_notification("Water in the cellar")


async def set_up_with_a_webhook(home: Lived, line: str, url: str) -> None:
    """Set up a site with the app and an unconfirmed webhook through the config flow."""
    flow = await home.api.post("/api/config/config_entries/flow", {"handler": "process_cosmos"})
    flow = await step(home.api, flow, next_step_id="pairing")
    flow = await step(home.api, flow, line=line)
    flow = await step(home.api, flow, phones=[], notify_entities=[], persistent_notification=True)
    flow = await step(home.api, flow, next_step_id="webhook")
    flow = await step(home.api, flow, url=url, label="Mill", kinds=["alert"])
    assert flow["step_id"] == "unconfirmed", flow
    assert flow["description_placeholders"]["reply"] == "HTTP 401: `This token has been rotated.`"
    flow = await step(home.api, flow, next_step_id="keep")
    flow = await step(home.api, flow, test_notification=False, install_blueprints=False)
    assert flow["type"] == "create_entry", flow


async def waited(receiver: Receiver) -> bool | None:
    """Return True once the alert was received."""
    return any(event["type"] == "process_cosmos.alert.opened.v1" for event in receiver.accepted) or None
