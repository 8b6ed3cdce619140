"""Process Cosmos: alerts to people; with the app also MQTT devices and destinations."""

from homeassistant.components.automation import EVENT_AUTOMATION_RELOADED
from homeassistant.core import HomeAssistant
from homeassistant.helpers import config_validation as cv
from homeassistant.helpers import device_registry as dr
from homeassistant.helpers import issue_registry as ir
from homeassistant.helpers.start import async_at_started
from homeassistant.helpers.typing import ConfigType

from .actions.alert_actions import async_setup_services
from .alerts.engine import Alerts
from .alerts.removal import async_resolve_all
from .const import CONF_DESTINATIONS, DOMAIN, PLATFORMS
from .coordinator import CosmosCoordinator
from .data import CosmosConfigEntry, CosmosRuntime, loaded_runtime
from .flows.gateway_requests import GatewayAccess, async_remove_destinations
from .gateway import missed_changes
from .gateway.registry import device_identifier, register_site
from .issues.call_mistakes import CALL_PROBLEMS
from .issues.site_issues import clear_all_issues, issues_with_prefix
from .reactions import garbage_collection
from .workflows import workflow_update, workflows

CONFIG_SCHEMA = cv.config_entry_only_config_schema(DOMAIN)


async def async_setup(hass: HomeAssistant, config: ConfigType) -> bool:  # noqa: ARG001 - Home Assistant's signature
    """Register the actions, which raise a helpful error while no entry is loaded."""
    async_setup_services(hass)
    garbage_collection.async_measure(hass)
    return True


async def async_setup_entry(hass: HomeAssistant, entry: CosmosConfigEntry) -> None:
    """Set up a site: first alerts, which do not need the app, then the connection, which may take long."""
    alerts = Alerts(hass, entry)
    await alerts.async_start()
    access = GatewayAccess.from_entry_data(entry.data)
    coordinator = CosmosCoordinator(hass, entry, alerts, access) if access else None
    entry.runtime_data = CosmosRuntime(alerts=alerts, coordinator=coordinator)
    # The site's device is registered first, because devices refer to it as ``via_device``.
    register_site(hass, entry)
    await hass.config_entries.async_forward_entry_setups(entry, PLATFORMS)
    if coordinator:
        entry.async_on_unload(coordinator.references.async_start())
        entry.async_on_unload(coordinator.reaction_times.async_start())
        coordinator.connection.async_start()

    entry.async_on_unload(garbage_collection.async_apply_option(hass))

    async def update_workflow_issues(_: object) -> None:
        await workflow_update.async_update_issues(hass)

    entry.async_on_unload(async_at_started(hass, update_workflow_issues))
    entry.async_on_unload(hass.bus.async_listen(EVENT_AUTOMATION_RELOADED, update_workflow_issues))


async def async_unload_entry(hass: HomeAssistant, entry: CosmosConfigEntry) -> None:
    """Close the connection, then stop notifying; open alerts stay in the record log."""
    # First, because it raises if a platform cannot be unloaded: alerts and the connection then continue.
    await hass.config_entries.async_unload_platforms_or_raise(entry, PLATFORMS)
    # Before the alerts, to which the connection hands messages until it is closed.
    if entry.runtime_data.coordinator:
        await entry.runtime_data.coordinator.connection.async_stop()
    await entry.runtime_data.alerts.async_stop()
    clear_all_issues(hass, entry)


async def async_remove_entry(hass: HomeAssistant, entry: CosmosConfigEntry) -> None:
    """Delete the record log, the issues and the destinations of the entry; with the last entry also the blueprints.

    Blueprints used by automations are kept: the automations work without the integration.
    """
    alerts = Alerts(hass, entry)
    await alerts.async_withdraw_notifications()
    if found := GatewayAccess.from_entry_data(entry.data):
        # Before the log is deleted: it contains the open alerts that the app would otherwise continue with.
        await async_resolve_all(hass, entry, found)
        await async_remove_destinations(hass, found, entry.options[CONF_DESTINATIONS])
    await alerts.async_remove()
    clear_all_issues(hass, entry)
    missed_changes.forget(hass, entry)
    if not hass.config_entries.async_entries(DOMAIN):
        # Not on unload: an ignored issue stays ignored.
        for issue in issues_with_prefix(hass, CALL_PROBLEMS, workflow_update.WORKFLOW_BEHIND):
            ir.async_delete_issue(hass, DOMAIN, issue.issue_id)
        await workflows.async_remove_unused_copies(hass)


async def async_remove_config_entry_device(
    hass: HomeAssistant,  # noqa: ARG001 - Home Assistant's signature
    entry: CosmosConfigEntry,
    device: dr.DeviceEntry,
) -> bool:
    """Return whether a device may be deleted: one that the gateway no longer has, but never the site's own device."""
    identifiers = {ours for domain, ours in device.identifiers if domain == DOMAIN}
    if entry.entry_id in identifiers:
        return False
    # While the entry is not loaded, what the gateway has is unknown: a device it still has is registered again with
    # the next snapshot.
    runtime = loaded_runtime(entry)
    coordinator = runtime.coordinator if runtime else None
    return coordinator is None or identifiers.isdisjoint(
        device_identifier(entry, device_state) for device_state in coordinator.devices.by_id
    )
