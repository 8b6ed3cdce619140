"""Actions that export the settings of a site without secrets, and import them at another site."""

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import probatio as vol
from homeassistant.core import HomeAssistant, ServiceCall, ServiceResponse, SupportsResponse, callback
from homeassistant.exceptions import ServiceValidationError
from homeassistant.helpers import config_validation as cv
from homeassistant.helpers.service import async_register_admin_service
from homeassistant.util.file import WriteError
from homeassistant.util.json import JsonValueType

from custom_components.process_cosmos.alerts.recipients import as_form_values, as_options, phone_name, phones_by_name
from custom_components.process_cosmos.const import (
    CONF_DESTINATIONS,
    CONF_NOTIFY_ENTITIES,
    CONF_PERSISTENT,
    CONF_PHONES,
    DOMAIN,
)
from custom_components.process_cosmos.contract.destinations import DestinationKind, EventKind
from custom_components.process_cosmos.data import CosmosConfigEntry
from custom_components.process_cosmos.flows.forms import CONF_KINDS, choose_name, destination_request
from custom_components.process_cosmos.flows.pairing_line import PastedLineError
from custom_components.process_cosmos.gateway.client import GatewayError
from custom_components.process_cosmos.gateway.destination_texts import label_of
from custom_components.process_cosmos.workflows import workflows

from .site_lookup import async_find_entry

EXPORT_SETTINGS: Final = "export_settings"
IMPORT_SETTINGS: Final = "import_settings"

VERSION: Final = 1
"""Version of the exported format, which docs/settings.md describes."""

_MOST = 100
_NAMES = vol.All([vol.All(cv.string, vol.Length(min=1, max=255))], vol.Length(max=_MOST))
_DESTINATION = vol.Schema(
    {
        vol.Required("name"): cv.string,
        vol.Optional("label"): cv.string,
        vol.Required("kind"): vol.Coerce(DestinationKind),
        vol.Required(CONF_KINDS): vol.All([vol.Coerce(EventKind)], vol.Length(min=1)),
        vol.Optional("address"): cv.string,
    }
)
_SETTINGS = vol.Schema(
    {
        vol.Required("version"): vol.All(vol.Coerce(int), vol.Range(min=1)),
        vol.Optional("title"): cv.string,
        vol.Optional(CONF_PHONES, default=list): _NAMES,
        vol.Optional(CONF_NOTIFY_ENTITIES, default=list): vol.All(cv.entity_ids, vol.Length(max=_MOST)),
        vol.Optional(CONF_PERSISTENT, default=False): cv.boolean,
        vol.Optional(CONF_DESTINATIONS, default=list): vol.All([_DESTINATION], vol.Length(max=_MOST)),
        vol.Optional("blueprints", default=list): _NAMES,
    },
    extra=vol.REMOVE_EXTRA,
)
_SITE: dict[Any, Any] = {vol.Optional("site"): cv.string}
_IMPORT_SCHEMA = vol.Schema(
    {
        **_SITE,
        vol.Required("settings"): dict,
        vol.Optional("secrets", default=dict): {cv.string: {cv.string: cv.string}},
    }
)


@callback
def async_setup_transfer(hass: HomeAssistant) -> None:
    """Register the actions for administrators."""
    register = partial(async_register_admin_service, hass, DOMAIN)
    only = SupportsResponse.ONLY
    register(EXPORT_SETTINGS, _async_export, vol.Schema(_SITE), supports_response=only)
    register(IMPORT_SETTINGS, _async_import, _IMPORT_SCHEMA, supports_response=only)


async def _async_export(call: ServiceCall) -> ServiceResponse:
    entry = await async_find_entry(call.hass, call.data.get("site"))
    status = entry.runtime_data.status
    copies = await workflows.async_find_copies(call.hass)
    return {
        "version": VERSION,
        "title": entry.title,
        CONF_PHONES: [name for phone in entry.options[CONF_PHONES] if (name := phone_name(call.hass, phone))],
        # An entity that was removed has only a registry id left, which means nothing in another home.
        CONF_NOTIFY_ENTITIES: [
            one for one in as_form_values(call.hass, entry.options)[CONF_NOTIFY_ENTITIES] if "." in one
        ],
        CONF_PERSISTENT: entry.options.get(CONF_PERSISTENT, False),
        CONF_DESTINATIONS: [
            {
                "name": link.name,
                "label": label_of(link),
                "kind": link.kind,
                "address": link.address,
                CONF_KINDS: list(link.kinds),
            }
            for link in (status.links if status else ())
        ],
        "blueprints": [name for name, there in copies.items() if there],
    }


async def _async_import(call: ServiceCall) -> ServiceResponse:
    """Import everything that exists here; the response lists the rest, each with a code."""
    entry = await async_find_entry(call.hass, call.data.get("site"))
    settings = _parse_settings(call.data["settings"])
    imported: list[JsonValueType] = []
    skipped: list[JsonValueType] = []

    def record(what: str, code: str | None) -> bool:
        if code is None:
            imported.append(what)
        else:
            skipped.append({"what": what, "code": code})
        return code is None

    phones = phones_by_name(call.hass)
    found = [phones[name] for name in settings[CONF_PHONES] if record(name, None if name in phones else "no_phone")]
    entities = [
        entity
        for entity in settings[CONF_NOTIFY_ENTITIES]
        if record(entity, None if call.hass.states.get(entity) else "no_entity")
    ]
    names = list(entry.options[CONF_DESTINATIONS])
    for wanted in settings[CONF_DESTINATIONS]:
        record(wanted["name"], await _async_add_destination(entry, wanted, call.data["secrets"], names))
    for name, code in (await _async_install(call.hass, settings["blueprints"])).items():
        record(name, code)
    # Only additions: an import removes nothing that exists.
    options = {
        CONF_PHONES: list(dict.fromkeys([*entry.options[CONF_PHONES], *found])),
        CONF_NOTIFY_ENTITIES: list(dict.fromkeys([*entry.options[CONF_NOTIFY_ENTITIES], *entities])),
        CONF_PERSISTENT: settings[CONF_PERSISTENT] or entry.options.get(CONF_PERSISTENT, False),
        CONF_DESTINATIONS: names,
    }
    if call.hass.config_entries.async_update_entry(entry, options=as_options(call.hass, {**entry.options, **options})):
        call.hass.config_entries.async_schedule_reload(entry.entry_id)
    return {"taken": imported, "left": skipped}


def _parse_settings(document: Mapping[str, Any]) -> dict[str, Any]:
    """Validate exported settings; raise ``ServiceValidationError`` if they are malformed or of a newer version."""
    version = document.get("version")
    if isinstance(version, int) and version > VERSION:
        raise _refused("settings_too_new", version=str(version))
    try:
        settings: dict[str, Any] = _SETTINGS(dict(document))
    except vol.Invalid as error:
        raise _refused("settings_malformed", reason=str(error)) from error
    return settings


def _refused(key: str, **placeholders: str) -> ServiceValidationError:
    return ServiceValidationError(translation_domain=DOMAIN, translation_key=key, translation_placeholders=placeholders)


async def _async_add_destination(
    entry: CosmosConfigEntry, wanted: Mapping[str, Any], secrets: Mapping[str, Mapping[str, str]], names: list[str]
) -> str | None:
    """Set up a destination with its secrets and append its new name to ``names``; return an error code or None."""
    link = entry.runtime_data.coordinator
    if link is None:
        return "no_app"
    if wanted["name"] not in secrets:
        return "secret_missing"
    try:
        answer = {**secrets[wanted["name"]], CONF_KINDS: wanted[CONF_KINDS]}
        # A name of its own: the exported one may already belong to another destination here.
        name = choose_name(wanted["kind"], names)
        request = destination_request(wanted["kind"], answer, name, wanted.get("label"))
        await link.connection.async_send_request(request)
    except KeyError:
        # The request reads address and code by key, so this is a field missing among the secrets.
        return "secret_missing"
    except (GatewayError, PastedLineError) as error:
        return error.code
    names.append(request.name)
    return None


async def _async_install(hass: HomeAssistant, names: list[str]) -> Mapping[str, str | None]:
    """Install the offered blueprints among ``names``; return an error code or None by name."""
    copies = await workflows.async_find_copies(hass)
    if any(copies.get(name) == [] for name in names):
        try:
            await workflows.async_install(hass)
        except OSError, WriteError:
            return dict.fromkeys(names, "blueprints_not_written")
    return {name: None if name in copies else "not_offered" for name in names}
