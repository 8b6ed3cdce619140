"""Entries of a site in Home Assistant's device and entity registries."""

from typing import Final

from homeassistant.config_entries import ConfigEntry
from homeassistant.core import HomeAssistant
from homeassistant.helpers import device_registry as dr
from homeassistant.helpers import entity_registry as er
from homeassistant.helpers.device_registry import DeviceEntryType, DeviceInfo

from custom_components.process_cosmos.const import CONF_SITE, DOMAIN
from custom_components.process_cosmos.contract.devices import Device
from custom_components.process_cosmos.contract.identifiers import is_ulid, join_names


def device_identifier(entry: ConfigEntry, device_id: str) -> str:
    """Return the registry identifier of a device. It contains the gateway's site id, so it survives a new set-up."""
    return f"{entry.data[CONF_SITE]}/{device_id}"


EVENT_KEY: Final = "event"
"""Prefix of a device event's name in the unique id of its entity."""


def unique_id(entry: ConfigEntry, device_id: str, *key: str) -> str:
    """Return the unique id of an entity of a device, unambiguous for any device names."""
    return join_names(entry.data[CONF_SITE] or "", device_id, *key)


def make_site_device_info(entry: ConfigEntry) -> DeviceInfo:
    """Return the registry data of the site's own device."""
    return DeviceInfo(
        identifiers={(DOMAIN, entry.entry_id)},
        name=entry.title,
        manufacturer="Process Cosmos",
        entry_type=DeviceEntryType.SERVICE,
    )


def make_device_info(hass: HomeAssistant, entry: ConfigEntry, device: Device) -> DeviceInfo:
    """Return the registry data of a device; the site's own device must already be registered."""
    site_device = _site_device(hass, entry)
    return DeviceInfo(
        identifiers={(DOMAIN, device_identifier(entry, device.id))},
        name=device.title,
        manufacturer=device.manufacturer,
        model=device.model,
        sw_version=device.firmware,
        via_device_id=site_device.id if site_device else None,
    )


def register_site(hass: HomeAssistant, entry: ConfigEntry) -> None:
    """Register the site's own device, and assign the registry entries of a replaced gateway to the current one."""
    # Before devices are registered, which would otherwise appear a second time beside the old ones.
    _adopt(hass, entry)
    dr.async_get(hass).async_get_or_create_from_info(
        config_entry_id=entry.entry_id, device_info=make_site_device_info(entry)
    )


def register_version(hass: HomeAssistant, entry: ConfigEntry, version: str) -> None:
    """Store the gateway's version in the site's own device."""
    dr.async_get(hass).async_get_or_create(
        config_entry_id=entry.entry_id, identifiers={(DOMAIN, entry.entry_id)}, sw_version=version
    )


def register_device(hass: HomeAssistant, entry: ConfigEntry, device: Device) -> None:
    """Register a device, or update its registry entry."""
    dr.async_get(hass).async_get_or_create_from_info(
        config_entry_id=entry.entry_id, device_info=make_device_info(hass, entry, device)
    )


def remove_device(hass: HomeAssistant, entry: ConfigEntry, device_id: str) -> None:
    """Remove a device and its entities."""
    registry = dr.async_get(hass)
    if device_state := registry.async_get_device_by_identifier(
        (DOMAIN, device_identifier(entry, device_id)), entry.entry_id
    ):
        registry.async_remove_device(device_state.id)


def _adopt(hass: HomeAssistant, entry: ConfigEntry) -> None:
    """Replace the site id in identifiers and unique ids, so that names, areas and history survive a new gateway."""
    devices, entities = dr.async_get(hass), er.async_get(hass)
    for device in dr.async_entries_for_config_entry(devices, entry.entry_id):
        ours = {(domain, _adopted(entry, name)) for domain, name in device.identifiers}
        if ours != device.identifiers:
            devices.async_update_device(device.id, new_identifiers=ours)
    for entity in er.async_entries_for_config_entry(entities, entry.entry_id):
        if (name := _adopted(entry, entity.unique_id)) != entity.unique_id:
            entities.async_update_entity(entity.entity_id, new_unique_id=name)


def _adopted(entry: ConfigEntry, name: str) -> str:
    """Return an identifier or unique id with the site id of the entry's gateway; others unchanged."""
    # Identifiers of the site itself begin with the entry's id, a ULID too, but contain no slash.
    site, slash, rest = name.partition("/")
    return device_identifier(entry, rest) if slash and is_ulid(site) and entry.data[CONF_SITE] else name


def _site_device(hass: HomeAssistant, entry: ConfigEntry) -> dr.DeviceEntry | None:
    return dr.async_get(hass).async_get_device_by_identifier((DOMAIN, entry.entry_id), entry.entry_id)
