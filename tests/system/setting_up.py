"""The config flow with a Supervisor, run step by step over Home Assistant's API."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from process_cosmos_testbed.home_assistant.client import HomeAssistantClient
from process_cosmos_testbed.processes import until
from tests.support.supervisor.apps import App
from tests.support.supervisor.fake import HOME_TOKEN, FakeSupervisor

from .home import Lived, living_home

REPOSITORY = str(App.ours().config["url"])


@asynccontextmanager
async def home_beside(supervisor: FakeSupervisor, folder: Path) -> AsyncIterator[Lived]:
    """Start Home Assistant with the environment that a Supervisor provides."""
    supervisor.core = folder / "core.sock"
    environment = {
        "SUPERVISOR": supervisor.url.removeprefix("http://").rstrip("/"),
        "SUPERVISOR_TOKEN": HOME_TOKEN,
        "SUPERVISOR_CORE_API_SOCKET": str(supervisor.core),
    }
    async with living_home(folder, environment) as lived:
        yield lived


async def step(api: HomeAssistantClient, flow: dict[str, Any], **answers: Any) -> dict[str, Any]:  # noqa: ANN401 - as the form has it
    """Submit a step of a config flow; return the next step after any progress."""
    path = f"/api/config/config_entries/flow/{flow['flow_id']}"
    shown = await api.post(path, answers)

    async def after_progress() -> dict[str, Any] | None:
        result: dict[str, Any] = await api.get(path) if shown["type"] == "progress" else shown
        return None if result["type"] == "progress" else result

    return await until(after_progress, "the end of the progress step")


async def finish(api: HomeAssistantClient, flow: dict[str, Any], phone: str) -> dict[str, Any]:
    """Run the flow from the recipients to the created entry."""
    assert flow["step_id"] == "who"
    flow = await step(api, flow, phones=[phone], notify_entities=[])
    assert flow["type"] == "menu"
    flow = await step(api, flow, next_step_id="finish")
    flow = await step(api, flow, test_notification=False, install_blueprints=False)
    assert flow["type"] == "create_entry", flow
    return flow


async def until_linked(api: HomeAssistantClient) -> None:
    """Wait until the site shows a value that the gateway reported."""

    async def linked() -> bool:
        return await api.state("sensor.process_cosmos_app_storage") == "ok"

    await until(linked, "a connection to the gateway")


async def offered(api: HomeAssistantClient) -> dict[str, Any]:
    """Wait until Home Assistant shows the app as discovered; return its config flow."""

    async def discovered() -> dict[str, Any] | None:
        flows = await api.command("config_entries/flow/progress")
        return next((flow for flow in flows if flow["handler"] == "process_cosmos"), None)

    return await until(discovered, "a flow of the discovered app")


async def set_up_with_the_app(lived: Lived) -> None:
    """Run the flow from *Add integration* without app and broker until the site is connected to its app."""
    flow = await lived.api.post("/api/config/config_entries/flow", {"handler": "process_cosmos"})
    assert flow["menu_options"] == ["app", "without_app", "pairing"]
    flow = await step(lived.api, flow, next_step_id="app")
    assert flow["step_id"] == "broker", flow
    flow = await step(lived.api, flow, next_step_id="without_broker")
    await finish(lived.api, flow, lived.phone.device)
    await until_linked(lived.api)
