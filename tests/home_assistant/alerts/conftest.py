"""Fixtures: a site with two phones, and no gateway."""

from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import orjson
import pytest
from freezegun.api import FrozenDateTimeFactory
from homeassistant.core import HomeAssistant
from homeassistant.setup import async_setup_component
from pytest_homeassistant_custom_component.common import MockConfigEntry
from pytest_homeassistant_custom_component.typing import ClientSessionGenerator

from custom_components.process_cosmos.alerts.recipients import as_options
from custom_components.process_cosmos.const import DOMAIN
from custom_components.process_cosmos.contract import codec
from tests.home_assistant.alerts.push_server import Client, PushServer, Registered, cloud, push_service, register
from tests.home_assistant.alerts.site import Phone, Site, add_phone


@pytest.fixture(autouse=True)
def _frozen_times_are_written_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let orjson encode the datetime subclass of a frozen clock."""
    dumps = partial(orjson.dumps, default=lambda moment: moment.isoformat())
    monkeypatch.setattr(
        codec, "orjson", SimpleNamespace(dumps=dumps, loads=orjson.loads, JSONDecodeError=orjson.JSONDecodeError)
    )


@pytest.fixture
def anna(hass: HomeAssistant) -> Phone:
    return add_phone(hass, "Anna")


@pytest.fixture
def ben(hass: HomeAssistant) -> Phone:
    return add_phone(hass, "Ben")


@pytest.fixture
def add_site(hass: HomeAssistant, freezer: FrozenDateTimeFactory, tmp_path: Path) -> Callable[..., Site]:
    """Return a function that adds a config entry without setting it up."""
    hass.config.config_dir = str(tmp_path)
    (tmp_path / ".storage").mkdir()

    def add(url: str | None = None, **options: list[str]) -> Site:
        data = {"site": None, "url": url, "token": None, "sha256": None}
        full = {"phones": [], "notify_entities": [], "destinations": [], **options}
        entry = MockConfigEntry(domain=DOMAIN, title="Home", data=data, options=as_options(hass, full))
        entry.add_to_hass(hass)
        return Site(hass, freezer, entry)

    return add


@pytest.fixture
async def site(hass: HomeAssistant, add_site: Callable[..., Site], anna: Phone, ben: Phone) -> Site:
    site = add_site(phones=[anna.device_id, ben.device_id])
    await site.set_up()
    return site


@pytest.fixture
async def linked(add_site: Callable[..., Site], anna: Phone, ben: Phone, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Return a site with one destination and an unavailable gateway, whose session the tests simulate."""
    monkeypatch.setattr("custom_components.process_cosmos.CosmosCoordinator", lambda *_: None)
    site = add_site("http://127.0.0.1:1", phones=[anna.device_id, ben.device_id], destinations=["cloud"])
    await site.set_up()
    return site


@pytest.fixture
async def push_server(socket_enabled: None) -> AsyncIterator[PushServer]:
    """Run a push service on a real port."""
    async with push_service() as server:
        yield server


@pytest.fixture
async def client(hass: HomeAssistant, hass_client: ClientSessionGenerator) -> Client:
    """Set up ``mobile_app`` and return a client of the HTTP API by which phones register."""
    for component in ("mobile_app", "repairs"):
        assert await async_setup_component(hass, component, {})
    await hass.async_block_till_done(wait_background_tasks=True)  # its notify platform comes by discovery
    client: Client = await hass_client()
    return client


@pytest.fixture
async def real_phone(hass: HomeAssistant, client: Client, push_server: PushServer) -> Registered:
    """Anna's phone, registered with Home Assistant's own ``mobile_app``."""
    return await register(hass, client, "Anna", app_data=cloud(push_server, "anna"))
