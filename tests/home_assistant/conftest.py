"""Fixtures: Home Assistant's pytest plugin with this repository's integration, a gateway and sites."""

# Must be the first import: the plugin has its own package custom_components, and the first import wins.
import custom_components  # noqa: F401, I001 - imported for its effect
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from custom_components.process_cosmos.const import DOMAIN
from homeassistant.config_entries import ConfigEntryState
from homeassistant.core import HomeAssistant
from homeassistant.setup import async_setup_component
from pytest_homeassistant_custom_component.common import MockConfigEntry
from pytest_homeassistant_custom_component.syrupy import HomeAssistantSnapshotExtension
from syrupy.assertion import SnapshotAssertion

from .contract_gateway import SITE, TOKEN, ContractGateway
from tests.support.waiting import until


@pytest.fixture(autouse=True)
def _this_repositorys_integration(enable_custom_integrations: None) -> None:
    """Let Home Assistant load custom integrations."""


@pytest.fixture
def snapshot(snapshot: SnapshotAssertion) -> SnapshotAssertion:
    """Snapshots without ids and times, as Home Assistant's own tests write them."""
    return snapshot.use_extension(HomeAssistantSnapshotExtension)


@pytest.fixture
async def gateway(socket_enabled: None) -> AsyncIterator[ContractGateway]:
    """A gateway that implements the contract, over plain HTTP as in the Supervisor's network."""
    async with ContractGateway() as gateway:
        yield gateway


@pytest.fixture
async def tls_gateway(socket_enabled: None) -> AsyncIterator[ContractGateway]:
    """A gateway that implements the contract, over TLS."""
    async with ContractGateway(tls=True) as gateway:
        yield gateway


@pytest.fixture
def config_folder(hass: HomeAssistant, tmp_path: Path) -> Path:
    """An empty configuration folder, as before an entry is loaded."""
    folder = tmp_path / "config"
    (folder / ".storage").mkdir(parents=True)
    hass.config.config_dir = str(folder)
    return folder


@pytest.fixture
async def notify_entity(hass: HomeAssistant, config_folder: Path) -> str:
    """A recipient: a notify entity, and the action that sends messages to it."""
    hass.services.async_register("notify", "send_message", lambda _: None)
    hass.states.async_set("notify.hall", "unknown")
    return "notify.hall"


@pytest.fixture
async def flow_ends(hass: HomeAssistant, notify_entity: str) -> AsyncIterator[None]:
    """Provide a recipient, and wait for background tasks of the flows."""
    yield
    await hass.async_block_till_done()


@pytest.fixture
async def automations(hass: HomeAssistant, config_folder: Path) -> None:
    """Set up the automation integration without any automation."""
    (config_folder / "configuration.yaml").write_text("automation: []\n")
    assert await async_setup_component(hass, "automation", {"automation": []})
    await hass.async_block_till_done()


@pytest.fixture
def without_app(notify_entity: str) -> MockConfigEntry:
    """A site without the app, not set up yet."""
    return MockConfigEntry(
        domain=DOMAIN,
        title="Process Cosmos",
        data={"site": None, "url": None, "token": None, "sha256": None},
        options={"phones": [], "notify_entities": [notify_entity], "destinations": []},
    )


@pytest.fixture
async def people_only(hass: HomeAssistant, without_app: MockConfigEntry) -> MockConfigEntry:
    """A loaded site without the app."""
    await set_up(hass, without_app)
    return without_app


@pytest.fixture
def site(gateway: ContractGateway, notify_entity: str) -> MockConfigEntry:
    """A site whose gateway is ``gateway``, not set up yet."""
    return MockConfigEntry(
        domain=DOMAIN,
        title="Process Cosmos",
        entry_id="01JDG0000000000000000000C1",  # part of unique ids, which snapshots contain
        unique_id=SITE,
        data={"site": SITE, "url": gateway.url, "token": TOKEN, "sha256": None},
        options={"phones": [], "notify_entities": [notify_entity], "destinations": []},
    )


@pytest.fixture
async def linked(hass: HomeAssistant, gateway: ContractGateway, site: MockConfigEntry) -> MockConfigEntry:
    """A loaded site with the devices of its gateway. A test that needs other devices sets them first."""
    await set_up(hass, site)
    await until(lambda: site.runtime_data.coordinator.status)
    await hass.async_block_till_done()
    return site


async def set_up(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    """Add ``entry`` and set it up."""
    entry.add_to_hass(hass)
    assert await hass.config_entries.async_setup(entry.entry_id)
    await hass.async_block_till_done()
    assert entry.state is ConfigEntryState.LOADED
