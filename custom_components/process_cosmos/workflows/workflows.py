"""Workflows: the offered blueprints, their copies in Home Assistant's folder, and the automations made from them.

Copies are written only on request. A copy is identified by its ``variables``, even if it was imported by URL.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from typing import Any

from awesomeversion import AwesomeVersion, AwesomeVersionException
from homeassistant.components.automation.config import AUTOMATION_BLUEPRINT_SCHEMA
from homeassistant.components.automation.const import DOMAIN as AUTOMATION
from homeassistant.components.automation.helpers import async_get_blueprints
from homeassistant.components.blueprint import CONF_USE_BLUEPRINT, Blueprint
from homeassistant.components.blueprint.const import BLUEPRINT_FOLDER, CONF_BLUEPRINT, CONF_SOURCE_URL
from homeassistant.components.blueprint.errors import BlueprintInUse
from homeassistant.config import async_hass_config_yaml, config_per_platform
from homeassistant.const import CONF_DEFAULT, CONF_PATH, CONF_VARIABLES, SERVICE_RELOAD
from homeassistant.core import HomeAssistant, callback
from homeassistant.exceptions import HomeAssistantError
from homeassistant.util.file import WriteError, write_utf8_file_atomic
from homeassistant.util.yaml import load_yaml_dict

from custom_components.process_cosmos.const import LOGGER

_OFFERED = Path(__file__).parents[1] / "blueprints"

RELEASED: Mapping[str, tuple[str, str]] = {
    "b89696d8c073c6de920ba8238e210a02352ad3a0c90c13f7fa7bd8691283ab8d": ("leak_guard", "0.1.0"),
}
"""The ``behaviour_digest`` of each released version; a copy with another digest was edited."""


class State(StrEnum):
    """Comparison of a copy with the offered blueprint."""

    SAME = "same"
    OLDER = "older"  # an unedited older version
    CHANGED = "changed"  # edited, or newer than the offered one


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """A blueprint in Home Assistant's folder that is a copy of an offered one, or has its path.

    ``offered``: path of the offered blueprint, such as ``automation/process_cosmos/leak_guard.yaml``.
    ``path``: path of the copy, as used in automations. ``is_behind``: whether a newer version is offered.
    """

    offered: str
    path: str
    name: str
    version: str
    newest: str
    state: State

    @property
    def is_behind(self) -> bool:
        """Whether a newer version is offered; a copy with an unreadable version counts as edited."""
        try:
            return AwesomeVersion(self.version) < AwesomeVersion(self.newest)
        except AwesomeVersionException:
            return False


async def async_find_copies(hass: HomeAssistant) -> Mapping[str, Sequence[Copy]]:
    """Return the copies of each offered blueprint.

    Returns nothing before the automation integration is set up: it adds its examples only if the folder does not exist.
    """
    if AUTOMATION not in hass.config.components:
        return {}
    blueprints = async_get_blueprints(hass)
    await blueprints.async_reset_cache()  # files may have changed
    there = await blueprints.async_get_blueprints()
    return {
        name: [
            _copy(name, offered, path, found if isinstance(found, Blueprint) else None)
            for path, found in sorted(there.items())
            if path == _path(name)
            or (isinstance(found, Blueprint) and _workflow(found.data)[0] == _workflow(offered.data)[0])
        ]
        for name, offered in (await hass.async_add_executor_job(_offered)).items()
    }


async def async_install(hass: HomeAssistant) -> Sequence[str]:
    """Copy each offered blueprint that has no copy, byte for byte, and reload; return the copied ones.

    An edited copy is kept and logged. Raises ``WriteError`` if the folder cannot be written.
    """
    found = await async_find_copies(hass)
    for copy in (copy for copies in found.values() for copy in copies if copy.state is State.CHANGED):
        LOGGER.warning("The blueprint %s was edited and is kept; delete it to get the offered version", copy.path)
    missing = [name for name, copies in found.items() if not copies]
    for name in missing:
        await async_write(hass, name, _path(name))
    return missing


async def async_write(hass: HomeAssistant, name: str, path: str) -> None:
    """Write an offered blueprint to ``path`` and reload automations; raise ``WriteError``."""
    await hass.async_add_executor_job(_write, _OFFERED / name, async_get_blueprints(hass).blueprint_folder / path)
    await hass.services.async_call(AUTOMATION, SERVICE_RELOAD, blocking=True)


async def async_remove_unused_copies(hass: HomeAssistant) -> None:
    """Delete unedited copies that no automation uses, and their folder if it is empty."""
    for copy in (copy for copies in (await async_find_copies(hass)).values() for copy in copies):
        file = Path(hass.config.path(BLUEPRINT_FOLDER, copy.offered))
        if copy.path == _path(copy.offered) and await hass.async_add_executor_job(_is_untouched, copy.offered, file):
            with suppress(BlueprintInUse, HomeAssistantError, OSError):
                if not await async_find_automations(hass, copy.path):
                    await async_get_blueprints(hass).async_remove_blueprint(copy.path)
                    await hass.async_add_executor_job(file.parent.rmdir)


async def async_find_automations(hass: HomeAssistant, path: str) -> Sequence[Mapping[str, Any]]:
    """Return the configuration of all automations made from the blueprint at ``path``, including disabled ones.

    Raises ``HomeAssistantError`` if Home Assistant's configuration cannot be read.
    """
    written = config_per_platform(await async_hass_config_yaml(hass), AUTOMATION)
    return [one for _, one in written if isinstance(one, dict) and _made_from(one) == path]


@callback
def async_workflow_automations(hass: HomeAssistant) -> Mapping[str, str]:
    """Return the names of the loaded automations made from an offered blueprint or a copy of it, by unique id.

    An automation of ``configuration.yaml`` without an ``id`` has no unique id, and is left out.
    """
    component = hass.data.get(AUTOMATION)
    loaded = component.entities if component else ()
    return {
        one.unique_id: str(one.name)
        for one in loaded
        if one.unique_id and one.raw_config and _workflow(one.raw_config)[0]
    }


async def async_load_offered(hass: HomeAssistant, name: str) -> Blueprint:
    """Load and return an offered blueprint."""
    return (await hass.async_add_executor_job(_offered))[name]


def _made_from(automation: Mapping[str, Any]) -> str | None:
    use = automation.get(CONF_USE_BLUEPRINT)
    return use.get(CONF_PATH) if isinstance(use, dict) else None


def _copy(name: str, offered: Blueprint, path: str, found: Blueprint | None) -> Copy:
    state = State.CHANGED
    if found and _content(found) == _content(offered):
        state = State.SAME
    elif found and RELEASED.get(behaviour_digest(found)) == _workflow(found.data):
        state = State.OLDER
    version = _workflow(found.data)[1] if found else ""
    return Copy(
        offered=name, path=path, name=offered.name, version=version, newest=_workflow(offered.data)[1], state=state
    )


def _workflow(config: Mapping[str, Any]) -> tuple[str, str]:
    """Return the workflow name and version in the variables of a blueprint, or of an automation made from it."""
    variables = config.get(CONF_VARIABLES)
    known = variables if isinstance(variables, dict) else {}
    return str(known.get("cosmos_workflow", "")), str(known.get("cosmos_version", ""))


def _content(blueprint: Blueprint) -> Mapping[str, Any]:
    """Return the blueprint without its source URL, which an import by URL adds."""
    about = {key: value for key, value in blueprint.metadata.items() if key != CONF_SOURCE_URL}
    return {**blueprint.data, CONF_BLUEPRINT: about}


def behaviour_digest(blueprint: Blueprint) -> str:
    """Return a digest of actions and defaults, without selectors, which differ between versions of Home Assistant."""
    does = {key: value for key, value in blueprint.data.items() if key != CONF_BLUEPRINT}
    defaults = {name: (field or {}).get(CONF_DEFAULT) for name, field in blueprint.inputs.items()}
    return sha256(json.dumps([does, defaults], sort_keys=True, default=str).encode()).hexdigest()


def _offered() -> dict[str, Blueprint]:
    names = (str(path.relative_to(_OFFERED)) for path in sorted((_OFFERED / AUTOMATION).rglob("*.yaml")))
    return {name: Blueprint(load_yaml_dict(_OFFERED / name), schema=AUTOMATION_BLUEPRINT_SCHEMA) for name in names}


def _path(name: str) -> str:
    """Return the path for a copy of an offered blueprint, as used in automations."""
    return name.removeprefix(f"{AUTOMATION}/")


def _is_untouched(name: str, file: Path) -> bool:
    return file.read_bytes() == (_OFFERED / name).read_bytes()


def _write(source: Path, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(error) from error
    write_utf8_file_atomic(str(target), source.read_bytes(), mode="wb")
