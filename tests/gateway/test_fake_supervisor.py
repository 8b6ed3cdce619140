"""The fake Supervisor, tested with the library of Home Assistant, which parses every reply strictly."""

from collections.abc import AsyncIterator
from uuid import UUID

import pytest
from aiohasupervisor import SupervisorClient, SupervisorError
from aiohasupervisor.exceptions import (
    AddonNotSupportedArchitectureError,
    SupervisorBadRequestError,
    SupervisorForbiddenError,
    SupervisorNotFoundError,
)
from aiohasupervisor.models import AddonsOptions, AddonState, StoreAddRepository
from aiohttp import ClientSession

from tests.support.supervisor.apps import App, State
from tests.support.supervisor.fake import BROKER, HOME_TOKEN, TOKEN, FakeSupervisor

OURS = App.ours()
SLUG = OURS.slug
REPOSITORY = str(OURS.config["url"])
OFFER = {"service": "process_cosmos", "config": {"port": 8735}}


@pytest.fixture
async def fake() -> AsyncIterator[FakeSupervisor]:
    supervisor = FakeSupervisor(elsewhere={REPOSITORY: [App.ours()]})
    async with supervisor.listening():
        yield supervisor


@pytest.fixture
async def http(fake: FakeSupervisor) -> AsyncIterator[ClientSession]:
    async with ClientSession(fake.url) as session:
        yield session


@pytest.fixture
def home(fake: FakeSupervisor, http: ClientSession) -> SupervisorClient:
    return SupervisorClient(fake.url, HOME_TOKEN, session=http)


async def ask(
    http: ClientSession, method: str, path: str, token: str | None = TOKEN, body: object = None
) -> tuple[int, str]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with http.request(method, path, headers=headers, json=body) as reply:
        return reply.status, await reply.text()


async def test_every_request_of_a_starting_home_assistant_is_answered(
    fake: FakeSupervisor, home: SupervisorClient
) -> None:
    fake.add_broker(BROKER)
    await home.supervisor.ping()
    assert (await home.info()).arch == "amd64"
    for part in (home.homeassistant, home.supervisor, home.os, home.host, home.network):
        assert await part.info()
    for other in (home.mounts, home.resolution, home.jobs, home.backups):
        assert await other.info()
    assert (await home.store.info()).addons
    assert [app.slug for app in await home.addons.list()] == ["core_mosquitto"]
    assert await home.ingress.panels() == {}
    with pytest.raises(SupervisorBadRequestError, match="No supervisor update available"):
        await home.supervisor.update()
    assert not fake.unknown


async def test_an_app_is_found_installed_set_started_and_removed(fake: FakeSupervisor, home: SupervisorClient) -> None:
    with pytest.raises(SupervisorNotFoundError, match="does not exist in the store"):
        await home.store.addon_info(SLUG)
    await home.store.add_repository(StoreAddRepository(repository=REPOSITORY))
    assert [repository.source for repository in await home.store.repositories_list()] == [REPOSITORY]
    assert not (await home.store.addon_info(SLUG)).installed
    with pytest.raises(SupervisorBadRequestError, match="not installed"):
        await home.addons.addon_info(SLUG)
    await home.store.install_addon(SLUG)
    await home.addons.set_addon_options(SLUG, AddonsOptions(config={"log_level": "debug"}))
    await home.addons.start_addon(SLUG)
    info = await home.addons.addon_info(SLUG)
    assert (info.state, info.options["log_level"], info.ingress) == (AddonState.STARTED, "debug", True)
    assert (await home.ingress.panels()).keys() == {SLUG}
    await home.addons.restart_addon(SLUG)
    await home.addons.stop_addon(SLUG)
    assert (await home.addons.addon_info(SLUG)).state is AddonState.STOPPED
    await home.addons.uninstall_addon(SLUG)
    assert await home.addons.list() == []


async def test_impossible_requests_are_refused_with_the_supervisors_messages(
    fake: FakeSupervisor, home: SupervisorClient
) -> None:
    with pytest.raises(SupervisorError, match="see Supervisor logs"):
        await home.store.add_repository(StoreAddRepository(repository="https://elsewhere.example/apps"))
    await home.store.add_repository(StoreAddRepository(repository=REPOSITORY))
    with pytest.raises(SupervisorError, match="already in the store"):
        await home.store.add_repository(StoreAddRepository(repository=REPOSITORY))
    fake.arch = "armv7"
    for attempt in (home.store.addon_availability, home.store.install_addon):
        with pytest.raises(AddonNotSupportedArchitectureError, match="supported architectures: amd64, aarch64"):
            await attempt(SLUG)
    fake.arch = "aarch64"
    await home.store.install_addon(SLUG)
    with pytest.raises(SupervisorError, match="already installed"):
        await home.store.install_addon(SLUG)
    with pytest.raises(SupervisorNotFoundError):
        await home.addons.start_addon("core_nothing")


async def test_a_message_is_identified_by_app_and_service_and_listed_while_its_app_runs(
    fake: FakeSupervisor, home: SupervisorClient, http: ClientSession
) -> None:
    fake.apps = [App.ours(State.STARTED, TOKEN)]
    for port in (8735, 8735, 8736):
        assert (await ask(http, "POST", "/discovery", body={**OFFER, "config": {"port": port}}))[0] == 200
    assert fake.passed_on == [{"port": 8735}, {"port": 8736}]
    (message,) = await home.discovery.list()
    assert (message.addon, message.config) == (SLUG, {"port": 8736})
    assert await home.discovery.get(message.uuid) == message
    await home.addons.stop_addon(SLUG)
    assert await home.discovery.list() == []
    await home.addons.uninstall_addon(SLUG)
    with pytest.raises(SupervisorNotFoundError):
        await home.discovery.get(UUID(message.uuid.hex))


async def test_an_app_has_access_only_to_its_own_resources(fake: FakeSupervisor, http: ClientSession) -> None:
    fake.apps = [App.ours(State.STARTED, TOKEN), App.mosquitto()]
    assert await ask(http, "GET", "/services/mqtt") == (400, '{"result": "error", "message": "Service not enabled"}')
    fake.mqtt = BROKER
    assert (await ask(http, "GET", "/services/mqtt"))[0] == 200
    assert (await ask(http, "GET", "/services/mysql"))[0] == 404
    assert (await ask(http, "GET", "/addons/self/info"))[0] == 200
    assert (await ask(http, "GET", f"/addons/{SLUG}/info"))[0] == 403
    assert (await ask(http, "GET", "/discovery"))[0] == 401
    assert (await ask(http, "POST", "/discovery", body={**OFFER, "service": "mqtt"}))[0] == 403
    assert (await ask(http, "POST", "/discovery", body={}))[0] == 400
    assert (await ask(http, "POST", "/discovery", body=OFFER))[0] == 200
    (message,) = fake.messages
    assert (await ask(http, "DELETE", f"/discovery/{message.uuid}", "made-up-token-of-the-broker"))[0] == 403
    assert (await ask(http, "DELETE", f"/discovery/{message.uuid}"))[0] == 200
    assert fake.messages == []


async def test_requests_without_a_valid_token_are_refused(
    fake: FakeSupervisor, home: SupervisorClient, http: ClientSession
) -> None:
    fake.apps = [App.ours(State.STARTED, TOKEN)]
    await home.addons.restart_addon(SLUG)
    assert (await ask(http, "GET", "/info"))[0] == 403
    assert (await ask(http, "GET", "/info", None))[0] == 401
    assert (await ask(http, "GET", "/supervisor/ping", None))[0] == 200


async def test_unsupported_requests_are_recorded(fake: FakeSupervisor, home: SupervisorClient) -> None:
    with pytest.raises(SupervisorNotFoundError):
        await home.network.reload()
    with pytest.raises(SupervisorForbiddenError):
        await SupervisorClient(fake.url, "another", session=home._client.session).info()
    assert fake.unknown == ["POST /network/reload"]
