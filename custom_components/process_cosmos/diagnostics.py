"""Diagnostics without secrets: no tokens, no addresses, no messages of alerts, no names of devices."""

from collections import Counter
from dataclasses import asdict
from operator import attrgetter
from statistics import fmean
from typing import Any

from homeassistant.components.automation import automations_with_blueprint
from homeassistant.const import CONF_URL
from homeassistant.core import HomeAssistant

from .const import CONF_DESTINATIONS, CONF_NOTIFY_ENTITIES, CONF_PERSISTENT, CONF_PHONES, CONF_SITE, VERSION
from .contract.destinations import BrokerLink, Status
from .coordinator import CosmosCoordinator
from .data import CosmosConfigEntry, loaded_runtime
from .gateway.devices import DeviceState
from .reactions.garbage_collection import FULL_COLLECTIONS, FullCollections
from .reactions.reaction_times import PARTS, ReactionTimes
from .workflows.workflows import Copy, async_find_copies


async def async_get_config_entry_diagnostics(hass: HomeAssistant, entry: CosmosConfigEntry) -> dict[str, Any]:
    """Return the diagnostics of a site, built from an allow list so that new secret fields stay out."""
    # Diagnostics are needed most for a site that failed to load, and that has no runtime data.
    runtime = loaded_runtime(entry)
    return {
        "state": entry.state.value,
        "version": VERSION,
        "site": entry.data[CONF_SITE],
        "app": entry.data[CONF_URL] is not None,
        "notified": {key: len(entry.options[key]) for key in (CONF_PHONES, CONF_NOTIFY_ENTITIES, CONF_DESTINATIONS)}
        | {CONF_PERSISTENT: entry.options.get(CONF_PERSISTENT, False)},
        "alerts": Counter(alert.state for alert in runtime.alerts.alive) if runtime else None,
        "full_collections": _collections(hass.data[FULL_COLLECTIONS]),
        "gateway": _gateway(runtime.coordinator) if runtime and runtime.coordinator else None,
        "workflows": [_workflow(hass, copy) for each in (await async_find_copies(hass)).values() for copy in each],
    }


def _workflow(hass: HomeAssistant, copy: Copy) -> dict[str, Any]:
    known = {key: getattr(copy, key) for key in ("offered", "path", "version", "newest", "state")}
    return {**known, "automations": len(automations_with_blueprint(hass, copy.path))}


def _gateway(coordinator: CosmosCoordinator) -> dict[str, Any]:
    session, site = coordinator.connection.session, coordinator.status
    return {
        "connected": session is not None,
        "version": session.hello.version if session else None,
        "schema": session.hello.schema if session else None,
        "frames_ignored": session.ignored if session else None,
        "status": _status(site.status) if site else None,
        "things": [_device(device_state) for device_state in coordinator.devices.by_id.values()],
        "reactions": [_reactions(coordinator.reaction_times, one) for one in coordinator.reaction_times.automations],
    }


def _collections(collections: FullCollections) -> dict[str, Any]:
    return {name: getattr(collections, name) for name in ("frozen", "without_freeze", "with_freeze")}


def _reactions(times: ReactionTimes, automation: str) -> dict[str, Any]:
    """Return times in seconds; ``slowest``: the parts of the slowest reaction, ``mean``: those of all."""
    summary = times.summary(automation)
    reactions = summary.reactions
    slowest = max(reactions, key=attrgetter("seconds"), default=None)
    return {
        "budget": summary.budget,
        "reactions": len(reactions),
        "over_budget": len(summary.slow),
        "p50": summary.percentile(50),
        "p99": summary.percentile(99),
        "mean": {part: fmean(getattr(each, part) for each in reactions) for part in PARTS} if reactions else None,
        "slowest": {part: getattr(slowest, part) for part in PARTS} if slowest else None,
    }


def _status(status: Status) -> dict[str, Any]:
    links = [_link(asdict(link)) for link in status.links]
    return asdict(status) | {"links": links, "broker": _broker(status.broker) if status.broker else None}


def _broker(broker: BrokerLink) -> dict[str, Any]:
    """Replace lists that name devices by their length."""
    return asdict(broker) | {"denied": len(broker.denied), "limited": len(broker.limited)}


def _link(link: dict[str, Any]) -> dict[str, Any]:
    """Keep only safe fields; the label (user text or host name) and the reply of the receiver are left out."""
    return {key: link[key] for key in ("name", "kind", "kinds", "state", "reason", "last_contact_age", "state_age")}


def _device(device_state: DeviceState) -> dict[str, Any]:
    return {
        "online": device_state.online,
        "properties": [
            {"kind": item.kind, "hint": item.hint, "writable": item.writable, "unit": item.unit}
            for item in device_state.device.properties
        ],
        "values_heard": sum(value is not None for value in device_state.values.values()),
        "events": len(device_state.device.events),
    }
