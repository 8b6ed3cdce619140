"""The set-up with a Supervisor: the app is installed, started and discovered in the flow."""

import asyncio
from collections.abc import AsyncIterator
from unittest.mock import patch

import pytest
from aiohasupervisor import SupervisorError
from aiohasupervisor.discovery import DiscoveryClient
from aiohasupervisor.exceptions import SupervisorTimeoutError
from aiohasupervisor.models import StoreAddRepository
from aiohasupervisor.store import StoreClient
from homeassistant.components.hassio import AddonManager
from homeassistant.config_entries import SOURCE_USER, ConfigFlowResult
from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import FlowResultType
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.process_cosmos.const import DOMAIN
from custom_components.process_cosmos.contract.session import Refused
from custom_components.process_cosmos.flows import app_installation
from tests.support.supervisor.apps import State
from tests.support.waiting import until

from .contract_gateway import SITE, TOKEN, ContractGateway
from .setting_up import NEITHER, begin, choose, choose_recipients, discover, submit
from .supervised import Supervised, supervised

WITHOUT = {"without_app": True}
AGAIN = {"without_app": False}


@pytest.fixture
async def supervisor(hass: HomeAssistant, notify_entity: str, gateway: ContractGateway) -> AsyncIterator[Supervised]:
    """A Supervisor with a broker, which can install an app that responds."""
    async with supervised(hass) as there:
        there.add_broker({})
        there.announced = {"host": "127.0.0.1", "port": gateway.port, "token": TOKEN, "site": SITE}
        yield there
        await hass.async_block_till_done()


async def after_progress(hass: HomeAssistant, result: ConfigFlowResult) -> ConfigFlowResult:
    """Return the step after all progress steps."""
    assert result["type"] is FlowResultType.SHOW_PROGRESS
    while result["type"] is FlowResultType.SHOW_PROGRESS:
        await hass.async_block_till_done()
        result = await hass.config_entries.flow.async_configure(result["flow_id"])
    return result


async def test_the_app_is_installed_started_and_used(
    hass: HomeAssistant, supervisor: Supervised, gateway: ContractGateway
) -> None:
    result = await begin(hass)
    assert result["menu_options"] == ["app", "without_app", "pairing"]
    result = await after_progress(hass, await choose(hass, result, "app"))
    assert supervisor.done() == ["repositories", "install", "start"]
    result = await submit(hass, await choose(hass, await choose_recipients(hass, result), "finish"), NEITHER)
    assert result["data"] == {"site": SITE, "url": gateway.url, "token": TOKEN, "sha256": None}


async def test_a_running_app_is_found_at_once(hass: HomeAssistant, supervisor: Supervised) -> None:
    await supervisor.set_app_state(State.STARTED)
    assert (await after_progress(hass, await begin(hass, "app")))["step_id"] == "who"
    assert supervisor.done() == []


async def test_a_stopped_app_is_started(hass: HomeAssistant, supervisor: Supervised) -> None:
    await supervisor.set_app_state(State.STOPPED)
    assert (await after_progress(hass, await begin(hass, "app")))["step_id"] == "who"
    assert supervisor.done() == ["start"]


async def test_an_existing_repository_is_not_added_again(hass: HomeAssistant, supervisor: Supervised) -> None:
    supervisor._add_repository(app_installation.REPOSITORY)
    assert (await after_progress(hass, await begin(hass, "app")))["step_id"] == "who"
    assert supervisor.done() == ["install", "start"]


async def test_a_repository_slower_than_the_client_timeout_is_waited_for(
    hass: HomeAssistant, supervisor: Supervised
) -> None:
    async def add_late(_: StoreClient, asked: StoreAddRepository) -> None:
        hass.loop.call_later(0.05, supervisor._add_repository, asked.repository)
        raise SupervisorTimeoutError("late")

    with patch.object(StoreClient, "add_repository", autospec=True, side_effect=add_late):
        assert (await after_progress(hass, await begin(hass, "app")))["step_id"] == "who"


async def test_a_repository_that_never_appears_is_an_error(
    hass: HomeAssistant, supervisor: Supervised, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app_installation, "LISTED_WITHIN", 0.05)
    with patch.object(StoreClient, "add_repository", autospec=True, side_effect=SupervisorTimeoutError("late")):
        result = await after_progress(hass, await begin(hass, "app"))
    assert (result["step_id"], result["errors"]) == ("app_failed", {"base": "app_not_installed"})


@pytest.mark.parametrize(
    ("trouble", "code", "reason"),
    [
        ({"broken": True}, "app_not_installed", "Failed to get the Process Cosmos app info"),
        ({"refusal": (500, "Boom")}, "app_not_installed", "Boom"),
        ({"elsewhere": {}}, "app_not_installed", "see Supervisor logs"),
        ({"arch": "armv7"}, "app_not_installed", "not supported on this platform"),
        ({"stuck": OSError("Port 8735 is taken")}, "app_not_started", "Check Supervisor logs"),
    ],
)
async def test_an_error_of_the_supervisor_is_shown_and_can_be_retried(
    hass: HomeAssistant, supervisor: Supervised, trouble: dict[str, object], code: str, reason: str
) -> None:
    well = {name: getattr(supervisor, name) for name in trouble}
    vars(supervisor).update(trouble)
    result = await after_progress(hass, await begin(hass, "app"))
    assert (result["step_id"], result["errors"]) == ("app_failed", {"base": code})
    assert reason in (result["description_placeholders"] or {})["reason"]
    vars(supervisor).update(well)
    result = await after_progress(hass, await submit(hass, result, AGAIN))
    assert result["step_id"] == "who"


async def test_after_a_failed_installation_the_setup_continues_without_the_app(
    hass: HomeAssistant, supervisor: Supervised
) -> None:
    supervisor.arch = "armv7"
    result = await after_progress(hass, await begin(hass, "app"))
    assert (await submit(hass, result, WITHOUT))["step_id"] == "who"


async def test_choosing_the_app_later_keeps_the_chosen_recipients(hass: HomeAssistant, supervisor: Supervised) -> None:
    supervisor.arch = "armv7"
    result = await choose_recipients(hass, await begin(hass, "without_app"))
    assert result["menu_options"] == ["finish", "app"]
    result = await after_progress(hass, await choose(hass, result, "app"))
    result = await submit(hass, result, WITHOUT)
    assert result["step_id"] == "finish"
    assert (await submit(hass, result, NEITHER))["options"]["notify_entities"] == ["notify.hall"]


async def test_an_app_that_is_never_discovered_is_an_error(
    hass: HomeAssistant, supervisor: Supervised, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app_installation, "ANSWERS_WITHIN", 0.05)
    supervisor.announced = None
    result = await after_progress(hass, await begin(hass, "app"))
    assert result["errors"] == {"base": "app_silent"}
    with patch.object(DiscoveryClient, "list", autospec=True, side_effect=SupervisorError("500")):
        result = await after_progress(hass, await submit(hass, result, AGAIN))
    assert result["errors"] == {"base": "app_silent"}


async def test_a_permanent_refusal_is_not_retried(
    hass: HomeAssistant, supervisor: Supervised, gateway: ContractGateway
) -> None:
    gateway.refused = Refused(code="schema_too_new", message="The integration is too new")
    result = await after_progress(hass, await begin(hass, "app"))
    assert result["errors"] == {"base": "schema_too_old"}
    assert len(gateway.received) == 1


async def test_an_app_that_starts_listening_late_is_waited_for(
    hass: HomeAssistant, supervisor: Supervised, gateway: ContractGateway
) -> None:
    await gateway.stop()
    result = await begin(hass, "app")
    await hass.async_block_till_done()
    result = await hass.config_entries.flow.async_configure(result["flow_id"])
    assert result["step_id"] == "start_app"
    await until(lambda: "start" in supervisor.done())
    await gateway.start()
    assert (await after_progress(hass, result))["step_id"] == "who"


async def test_without_a_broker_a_hint_is_shown_and_the_setup_continues(
    hass: HomeAssistant, supervisor: Supervised
) -> None:
    broker, supervisor.messages = supervisor.messages, []
    result = await after_progress(hass, await begin(hass, "app"))
    assert (result["step_id"], result["menu_options"]) == ("broker", ["without_broker", "broker"])
    result = await choose(hass, result, "broker")
    assert result["step_id"] == "broker"
    supervisor.messages += broker
    assert (await choose(hass, result, "broker"))["step_id"] == "who"


async def test_a_stopped_broker_counts_as_missing(hass: HomeAssistant, supervisor: Supervised) -> None:
    supervisor.apps[0].state = State.STOPPED
    assert (await after_progress(hass, await begin(hass, "app")))["step_id"] == "broker"


@pytest.mark.parametrize("silent", [False, True])
async def test_a_configured_broker_or_a_failing_supervisor_skips_the_hint(
    hass: HomeAssistant, supervisor: Supervised, gateway: ContractGateway, *, silent: bool
) -> None:
    supervisor.messages = []
    await supervisor.set_app_state(State.STARTED)
    supervisor.apps[-1].options["mqtt_host"] = "broker.example"
    supervisor.broken = silent
    assert (await submit(hass, await discover(hass, gateway), {}))["step_id"] == "who"


async def test_a_discovered_app_shows_the_hint_about_the_broker_too(
    hass: HomeAssistant, supervisor: Supervised, gateway: ContractGateway
) -> None:
    supervisor.messages = []
    result = await submit(hass, await discover(hass, gateway), {})
    assert (await choose(hass, result, "without_broker"))["step_id"] == "who"


async def test_the_app_is_added_to_the_site_without_one_and_not_offered_again(
    hass: HomeAssistant, supervisor: Supervised, gateway: ContractGateway, people_only: MockConfigEntry
) -> None:
    offered = await discover(hass, gateway)
    assert offered["step_id"] == "hassio_confirm"
    result = await after_progress(hass, await begin(hass, "app"))
    assert (await choose(hass, result, "finish"))["reason"] == "joined"
    assert people_only.data["site"] == SITE
    assert not hass.config_entries.flow.async_progress_by_handler(DOMAIN)


async def test_a_new_dialog_continues_the_installation_of_a_closed_one(
    hass: HomeAssistant, supervisor: Supervised
) -> None:
    released = asyncio.Event()
    install = AddonManager.async_install_addon
    installs: list[AddonManager] = []

    async def slow(manager: AddonManager) -> None:
        installs.append(manager)
        await released.wait()
        await install(manager)

    with patch.object(AddonManager, "async_install_addon", slow):
        first = await begin(hass, "app")
        await until(lambda: installs)
        hass.config_entries.flow.async_abort(first["flow_id"])
        second = await hass.config_entries.flow.async_init(DOMAIN, context={"source": SOURCE_USER})
        second = await choose(hass, second, "app")
        released.set()
        assert (await after_progress(hass, second))["step_id"] == "who"
    assert len(installs) == 1
