"""The app beside the real Home Assistant and a Supervisor: installed from the set-up, found by its discovery."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohasupervisor import SupervisorClient
from aiohttp import ClientSession

from demo.home import Home
from demo.house import until
from tests.brokers import running_broker
from tests.supervisor.apps import App, State
from tests.supervisor.container import ProcessHost
from tests.supervisor.fake import HOME_TOKEN, FakeSupervisor

from .home import Lived, living_home

OURS = App.ours()
REPOSITORY = str(OURS.config["url"])


@asynccontextmanager
async def home_beside(supervisor: FakeSupervisor, folder: Path) -> AsyncIterator[Lived]:
    """Start Home Assistant as the Supervisor starts it."""
    supervisor.core = folder / "core.sock"
    environment = {
        "SUPERVISOR": supervisor.url.removeprefix("http://").rstrip("/"),
        "SUPERVISOR_TOKEN": HOME_TOKEN,
        "SUPERVISOR_CORE_API_SOCKET": str(supervisor.core),
    }
    async with living_home(folder, environment) as lived:
        yield lived


async def step(api: Home, flow: dict[str, Any], **answers: Any) -> dict[str, Any]:  # noqa: ANN401 - as the form has it
    """Answer a step of a set-up; return what is shown when nothing is in progress any more."""
    path = f"/api/config/config_entries/flow/{flow['flow_id']}"
    shown = await api.post(path, answers)

    async def after_progress() -> dict[str, Any] | None:
        result: dict[str, Any] = await api.get(path) if shown["type"] == "progress" else shown
        return None if result["type"] == "progress" else result

    return await until(after_progress, "the end of what is in progress")


async def finish(api: Home, flow: dict[str, Any], phone: str) -> dict[str, Any]:
    """Go from "who should be told" to the entry."""
    assert flow["step_id"] == "who"
    flow = await step(api, flow, phones=[phone], notify_entities=[])
    assert flow["type"] == "menu"
    flow = await step(api, flow, next_step_id="finish")
    flow = await step(api, flow, test_ring=False, install_blueprints=False)
    assert flow["type"] == "create_entry", flow
    return flow


async def until_linked(api: Home) -> None:
    """Wait until the site shows what only its gateway can tell."""

    async def linked() -> bool | None:
        return await api.state("sensor.process_cosmos_storage") == "ok" or None

    await until(linked, "a link to the gateway")


async def offered(api: Home) -> dict[str, Any]:
    """Wait until Home Assistant shows the app as discovered; return where its set-up stands."""

    async def discovered() -> dict[str, Any] | None:
        flows = await api.command("config_entries/flow/progress")
        return next((flow for flow in flows if flow["handler"] == "process_cosmos"), None)

    return await until(discovered, "the app among what was discovered")


async def test_from_nothing_the_set_up_has_the_supervisor_bring_the_app_and_is_linked_to_it(tmp_path: Path) -> None:
    supervisor = FakeSupervisor(elsewhere={REPOSITORY: [App.ours()]}, host=ProcessHost(tmp_path))
    async with supervisor.listening(), home_beside(supervisor, tmp_path) as lived:
        flow = await lived.api.post("/api/config/config_entries/flow", {"handler": "process_cosmos"})
        assert flow["menu_options"] == ["app", "without_app", "pairing"]
        flow = await step(lived.api, flow, next_step_id="app")
        assert flow["step_id"] == "broker", flow
        flow = await step(lived.api, flow, next_step_id="without_broker")
        await finish(lived.api, flow, lived.phone.device)
        await until_linked(lived.api)
        done = [line for line in supervisor.said if line.startswith("POST /store/") or line.endswith("/start")]
    slug = OURS.slug
    assert done == ["POST /store/repositories", f"POST /store/addons/{slug}/install", f"POST /addons/{slug}/start"]
    assert not supervisor.unknown


async def test_an_app_that_is_started_is_offered_by_its_discovery_and_again_after_its_site_was_removed(
    tmp_path: Path,
) -> None:
    supervisor = FakeSupervisor(apps=[App.ours(State.STOPPED)], host=ProcessHost(tmp_path))
    async with supervisor.listening(), running_broker(tmp_path) as broker, home_beside(supervisor, tmp_path) as lived:
        supervisor.add_broker({"host": "127.0.0.1", "port": broker.options.port})
        async with ClientSession(supervisor.url) as http:
            await SupervisorClient(supervisor.url, HOME_TOKEN, session=http).addons.start_addon(OURS.slug)
        flow = await offered(lived.api)
        assert (flow["context"]["source"], flow["step_id"]) == ("hassio", "hassio_confirm")
        entry = await finish(lived.api, await step(lived.api, flow), lived.phone.device)
        await until_linked(lived.api)
        await lived.api.delete(f"/api/config/config_entries/entry/{entry['result']['entry_id']}")
        assert (await offered(lived.api))["step_id"] == "hassio_confirm"
    assert not supervisor.unknown
