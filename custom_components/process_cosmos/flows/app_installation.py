"""Installation of the app through the Supervisor: repository, installation, start and discovery."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

from aiohasupervisor import SupervisorError
from aiohasupervisor.exceptions import SupervisorTimeoutError
from aiohasupervisor.models import StoreAddRepository
from homeassistant.components.hassio import AddonError, AddonManager, AddonState, get_supervisor_client
from homeassistant.const import CONF_URL
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers.hassio import is_hassio
from homeassistant.helpers.singleton import singleton

from custom_components.process_cosmos.const import DOMAIN, LOGGER
from custom_components.process_cosmos.contract.errors import Code
from custom_components.process_cosmos.gateway.client import GatewayAwayError, GatewayError

from .gateway_requests import GatewayAccess, async_send_requests

REPOSITORY: Final = "https://github.com/process-cosmos/process-cosmos"
_REPOSITORY_SLUG = hashlib.sha1(REPOSITORY.encode(), usedforsecurity=False).hexdigest()[:8]
SLUG: Final = f"{_REPOSITORY_SLUG}_process_cosmos"
"""The Supervisor's name of the app: a hash of the repository's address, and the slug of the app."""

NOT_INSTALLED = "app_not_installed"
NOT_STARTED = "app_not_started"
SILENT = "app_silent"

LISTED_WITHIN = 120.0
"""Seconds that the Supervisor may take to fetch our repository; its client times out much earlier."""

ANSWERS_WITHIN = 90.0
"""Seconds within which a started app has to respond."""

LOOK_AGAIN = 1.0
"""Seconds between two checks."""

_FOR_GOOD = frozenset({Code.OTHER_HOME_ASSISTANT, Code.SCHEMA_TOO_OLD, Code.SCHEMA_TOO_NEW})
"""Permanent refusals; others may be caused by a discovery message of an earlier run of the app."""


@singleton(f"{DOMAIN}_app_manager")
@callback
def app_manager(hass: HomeAssistant) -> AddonManager:
    """Return the single manager of the app."""
    return AddonManager(hass, LOGGER, "Process Cosmos", SLUG)


def is_supervised_app(hass: HomeAssistant, data: Mapping[str, Any]) -> bool:
    """Return whether the gateway in a config entry's ``data`` is the app that our Supervisor runs."""
    # A gateway is reached without TLS only within the Supervisor's network.
    return is_hassio(hass) and str(data[CONF_URL]).startswith("http://")


async def async_install(hass: HomeAssistant) -> None:
    """Install the app if it is missing; raise ``GatewayAwayError`` with the Supervisor's reason."""
    async with _supervisor_errors(NOT_INSTALLED):
        if not await _is_missing(hass):
            return
        await _add_repository(hass)
        # Checked again: an installation started in a closed dialog may have finished meanwhile.
        if await _is_missing(hass):
            # Shielded: a dialog that is closed and opened again continues the same installation.
            await asyncio.shield(app_manager(hass).async_schedule_install_addon())


async def async_start(hass: HomeAssistant) -> GatewayAccess:
    """Start the app if it is not running, and return it once it responds; raise ``GatewayError``."""
    async with _supervisor_errors(NOT_STARTED):
        manager = app_manager(hass)
        if (await manager.async_get_addon_info()).state is not AddonState.RUNNING:
            await asyncio.shield(manager.async_schedule_start_addon())
    until = hass.loop.time() + ANSWERS_WITHIN
    while True:
        try:
            return await _async_check_app(hass)
        except GatewayError as error:
            if error.code in _FOR_GOOD or hass.loop.time() > until:
                raise
        await asyncio.sleep(LOOK_AGAIN)


async def async_find_app(hass: HomeAssistant, url: str | None = None) -> GatewayAccess | None:
    """Return the running app that has announced itself (at ``url`` if given); None if there is none.

    An app from our repository is preferred to one from another repository.
    """
    try:
        messages = await get_supervisor_client(hass).discovery.list()
    except SupervisorError as error:
        LOGGER.debug("Could not list the discovery messages of the Supervisor: %s", error)
        return None
    # An app of a fork or of a local repository announces the same service.
    announced = sorted((each for each in messages if each.service == DOMAIN), key=lambda each: each.addon != SLUG)
    found = (GatewayAccess.from_discovery(each.config) for each in announced)
    return next((app for app in found if app and url in (None, app.url)), None)


async def async_lacks_broker(hass: HomeAssistant) -> bool:
    """Return whether the app has no MQTT broker: none announced to the Supervisor, none in the app's options."""
    if not is_hassio(hass):
        return False
    try:
        messages = await get_supervisor_client(hass).discovery.list()
        info = await app_manager(hass).async_get_addon_info()
    except (SupervisorError, AddonError) as error:
        LOGGER.debug("Could not find out whether there is an MQTT broker: %s", error)
        return False
    return "mqtt_host" not in info.options and all(message.service != "mqtt" for message in messages)


async def _async_check_app(hass: HomeAssistant) -> GatewayAccess:
    found = await async_find_app(hass)
    if found is None:
        raise GatewayAwayError(SILENT, "The app has not announced itself")
    await async_send_requests(hass, found)
    return found


async def _is_missing(hass: HomeAssistant) -> bool:
    return (await app_manager(hass).async_get_addon_info()).state is AddonState.NOT_INSTALLED


async def _add_repository(hass: HomeAssistant) -> None:
    store = get_supervisor_client(hass).store

    async def is_listed() -> bool:
        return any(repository.slug == _REPOSITORY_SLUG for repository in await store.repositories_list())

    if await is_listed():
        return
    with contextlib.suppress(SupervisorTimeoutError):  # the Supervisor continues to fetch it
        await store.add_repository(StoreAddRepository(repository=REPOSITORY))
    until = hass.loop.time() + LISTED_WITHIN
    # The Supervisor continues after its client has timed out, so only the list tells when the repository is there.
    while not await is_listed():
        if hass.loop.time() > until:
            raise AddonError("The repository could not be fetched in time")
        await asyncio.sleep(LOOK_AGAIN)


@contextlib.asynccontextmanager
async def _supervisor_errors(code: str) -> AsyncIterator[None]:
    """Translate errors of the Supervisor into ``GatewayAwayError`` with ``code``."""
    try:
        yield
    except (AddonError, SupervisorError) as error:
        raise GatewayAwayError(code, str(error) or type(error).__name__) from error
