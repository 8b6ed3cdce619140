"""The app beside the real Home Assistant and a Supervisor: installed from the set-up, found by its discovery."""

from pathlib import Path

from aiohasupervisor import SupervisorClient
from aiohttp import ClientSession

from process_cosmos_testbed.broker import running_broker
from tests.support.supervisor.apps import App, State
from tests.support.supervisor.container import ProcessHost
from tests.support.supervisor.fake import HOME_TOKEN, FakeSupervisor

from .setting_up import REPOSITORY, finish, home_beside, offered, set_up_with_the_app, step, until_linked

OURS = App.ours()


async def test_from_nothing_the_set_up_has_the_supervisor_bring_the_app_and_is_linked_to_it(tmp_path: Path) -> None:
    supervisor = FakeSupervisor(elsewhere={REPOSITORY: [App.ours()]}, host=ProcessHost(tmp_path))
    async with supervisor.listening(), home_beside(supervisor, tmp_path) as lived:
        await set_up_with_the_app(lived)
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
