"""Selection of recipients: choices and defaults of its form, and the resulting policy without duplicates."""

from collections.abc import Mapping, Sequence
from typing import Any

from homeassistant.components.notify import DOMAIN as NOTIFY_DOMAIN
from homeassistant.const import ATTR_DEVICE_ID
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers import entity_registry as er

from custom_components.process_cosmos.const import CONF_NOTIFY_ENTITIES, CONF_PERSISTENT, CONF_PHONES

from .policy import Policy, default_policy
from .recipients import MOBILE_APP, as_form_values, devices_with_push


@callback
def policy_of(hass: HomeAssistant, options: Mapping[str, Any]) -> Policy:
    """Return the policy for a site's options. A phone that is also chosen by its notify entity is notified once."""
    phones = options.get(CONF_PHONES, ())
    entities = [one for one in options.get(CONF_NOTIFY_ENTITIES, ()) if _phone_of(hass, one) not in phones]
    return default_policy({**options, CONF_NOTIFY_ENTITIES: entities})


@callback
def phone_notify_entities(hass: HomeAssistant) -> Sequence[str]:
    """Return the notify entities of phones, to exclude them from the form: phones are offered with answer buttons."""
    entries = er.async_get(hass).entities.values()
    return [one.entity_id for one in entries if one.domain == NOTIFY_DOMAIN and one.platform == MOBILE_APP]


@callback
def current_selection(hass: HomeAssistant, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the form's initial values for existing options; a phone's notify entity is replaced by the phone."""
    phones = {one: _phone_of(hass, one) for one in options[CONF_NOTIFY_ENTITIES]}
    as_phones = [*options[CONF_PHONES], *(phone for phone in phones.values() if phone)]
    entities = [one for one, phone in phones.items() if phone is None]
    changed = {CONF_PHONES: list(dict.fromkeys(as_phones)), CONF_NOTIFY_ENTITIES: entities}
    return as_form_values(hass, {CONF_PERSISTENT: False, **options, **changed})


@callback
def default_selection(hass: HomeAssistant) -> dict[str, Any]:
    """Return the form's initial values for a new site: the only phone, or Home Assistant itself if nothing else exists.

    With several phones none is preselected: some may belong to children.
    """
    phones, unusable = devices_with_push(hass), phone_notify_entities(hass)
    others = [entity for entity in hass.states.async_entity_ids(NOTIFY_DOMAIN) if entity not in unusable]
    return {
        CONF_PHONES: [*phones] if len(phones) == 1 else [],
        CONF_NOTIFY_ENTITIES: [],
        CONF_PERSISTENT: not phones and not others,
    }


def _phone_of(hass: HomeAssistant, entity: str) -> str | None:
    """Return the app's device id of the phone that owns this notify entity; None if it belongs to no phone."""
    entry = er.async_get(hass).async_get(entity)
    if entry is None or entry.platform != MOBILE_APP or entry.config_entry_id is None:
        return None
    registration = hass.config_entries.async_get_entry(entry.config_entry_id)
    phone: str | None = registration.data.get(ATTR_DEVICE_ID) if registration else None
    return phone
