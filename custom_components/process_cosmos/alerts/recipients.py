"""Look-up of notification recipients in Home Assistant's registries.

Options store a phone by the companion app's own device id, which survives a new registration, and a notify entity by
its registry id, which survives a new entity id (an unregistered entity by its entity id).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from homeassistant.config_entries import ConfigEntry, ConfigEntryState
from homeassistant.const import ATTR_DEVICE_ID, ATTR_FRIENDLY_NAME
from homeassistant.core import HomeAssistant
from homeassistant.helpers import device_registry as dr
from homeassistant.helpers import entity_registry as er

from custom_components.process_cosmos.const import CONF_NAMES, CONF_NOTIFY_ENTITIES, CONF_PHONES
from custom_components.process_cosmos.contract.identifiers import NOTIFY, PHONE

from .policy import PERSISTENT

MOBILE_APP = "mobile_app"


def phone_entry(hass: HomeAssistant, phone: str) -> ConfigEntry | None:
    """Return the newest loaded registration of a phone; None if there is none that is enabled.

    ``phone``: the app's device id.
    """
    entries = hass.config_entries.async_entries(MOBILE_APP, include_ignore=False, include_disabled=False)
    found = [entry for entry in entries if entry.data.get(ATTR_DEVICE_ID) == phone]
    return max(found, key=lambda entry: (entry.state is ConfigEntryState.LOADED, entry.created_at), default=None)


def notify_entity(hass: HomeAssistant, entity: str) -> str | None:
    """Return the current entity id of a notify entity; None if it does not exist or is disabled.

    ``entity``: its registry id or entity id.
    """
    if registered := er.async_get(hass).async_get(entity):
        return None if registered.disabled else registered.entity_id
    return entity if hass.states.get(entity) else None


def recipient_name(hass: HomeAssistant, recipient: str) -> str | None:
    """Return the recipient's display name; None if it does not exist or is disabled."""
    if recipient.startswith(PHONE):
        return phone_name(hass, recipient.removeprefix(PHONE))
    if recipient == PERSISTENT:
        return "Home Assistant"
    entity_id = notify_entity(hass, recipient.removeprefix(NOTIFY))
    if entity_id is None:
        return None
    state = hass.states.get(entity_id)
    return str(state.attributes.get(ATTR_FRIENDLY_NAME, entity_id)) if state else entity_id


def shown_name(hass: HomeAssistant, entry: ConfigEntry, recipient: str) -> str:
    """Return the recipient's display name, its last known name stored in the site's ``entry``, or its id."""
    known = recipient_name(hass, recipient) or entry.data.get(CONF_NAMES, {}).get(recipient)
    return known or recipient.removeprefix(PHONE).removeprefix(NOTIFY)


def phone_name(hass: HomeAssistant, phone: str) -> str | None:
    """Return the phone's display name; None if it is not registered."""
    entry = phone_entry(hass, phone)
    if entry is None:
        return None
    device = _device(hass, entry)
    return (device and (device.name_by_user or device.name)) or entry.title


def devices_with_push(hass: HomeAssistant) -> Sequence[str]:
    """Return the device ids, in Home Assistant, of all phones that can receive push notifications."""
    entries = hass.config_entries.async_entries(MOBILE_APP, include_ignore=False, include_disabled=False)
    devices = (_device(hass, entry) for entry in entries if supports_push(entry))
    return [device.id for device in devices if device]


def supports_push(entry: ConfigEntry) -> bool:
    """Return whether a phone's registration has a push service or a local push channel."""
    app_data = entry.data.get("app_data", {})
    return "push_url" in app_data or "push_websocket_channel" in app_data


def phones_by_name(hass: HomeAssistant) -> Mapping[str, str]:
    """Return the app's device ids of phones that can receive push notifications, by display name."""
    phones = [own_id for device in devices_with_push(hass) if (own_id := _own_id(hass, device))]
    return {str(phone_name(hass, phone)): phone for phone in phones}


def as_options(hass: HomeAssistant, answer: Mapping[str, Any]) -> dict[str, Any]:
    """Convert a form's recipients into the ids that options store; unknown recipients are unchanged."""
    entities = er.async_get(hass)
    phones = [_own_id(hass, device) or device for device in answer.get(CONF_PHONES, ())]
    registered = {entity: entities.async_get(entity) for entity in answer.get(CONF_NOTIFY_ENTITIES, ())}
    kept = [found.id if found else entity for entity, found in registered.items()]
    return {**answer, CONF_PHONES: list(dict.fromkeys(phones)), CONF_NOTIFY_ENTITIES: list(dict.fromkeys(kept))}


def as_form_values(hass: HomeAssistant, options: Mapping[str, Any]) -> dict[str, Any]:
    """Convert the recipients in options into a form's device and entity ids; unknown recipients are unchanged."""
    phones = [(phone, phone_entry(hass, phone)) for phone in options.get(CONF_PHONES, ())]
    devices = [(phone, entry and _device(hass, entry)) for phone, entry in phones]
    entities = er.async_get(hass)
    registered = {entity: entities.async_get(entity) for entity in options.get(CONF_NOTIFY_ENTITIES, ())}
    return {
        **options,
        CONF_PHONES: [device.id if device else phone for phone, device in devices],
        CONF_NOTIFY_ENTITIES: [found.entity_id if found else entity for entity, found in registered.items()],
    }


def _own_id(hass: HomeAssistant, device_id: str) -> str | None:
    """Return the app's device id of a phone, from its device in the registry."""
    device = dr.async_get(hass).async_get(device_id)
    return next((own_id for domain, own_id in device.identifiers if domain == MOBILE_APP), None) if device else None


def _device(hass: HomeAssistant, entry: ConfigEntry) -> dr.DeviceEntry | None:
    devices = dr.async_entries_for_config_entry(dr.async_get(hass), entry.entry_id)
    return next((each for each in devices if (MOBILE_APP, entry.data.get(ATTR_DEVICE_ID)) in each.identifiers), None)
