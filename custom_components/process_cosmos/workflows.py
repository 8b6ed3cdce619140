"""Copies the offered blueprints into Home Assistant's folder, asked to, never on its own; takes them out again."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from enum import StrEnum
from pathlib import Path

from homeassistant.components.automation.helpers import async_get_blueprints as automation_blueprints
from homeassistant.components.blueprint.const import BLUEPRINT_FOLDER
from homeassistant.components.blueprint.errors import BlueprintInUse
from homeassistant.components.blueprint.models import DomainBlueprints
from homeassistant.components.script.helpers import async_get_blueprints as script_blueprints
from homeassistant.const import SERVICE_RELOAD
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers import entity_registry as er
from homeassistant.util.file import WriteError, write_utf8_file_atomic

from .const import LOGGER

_OFFERED = Path(__file__).parent / "blueprints"
_BLUEPRINTS: Mapping[str, Callable[[HomeAssistant], DomainBlueprints]] = {
    "automation": automation_blueprints,
    "script": script_blueprints,
}


class Presence(StrEnum):
    """What Home Assistant's folder holds of an offered blueprint."""

    MISSING = "missing"
    SAME = "same"
    CHANGED = "changed"  # somebody's own version, or an older one: it stays


async def async_offered(hass: HomeAssistant) -> Mapping[str, Presence]:
    """The offered blueprints, as paths below Home Assistant's blueprint folder, and what is there of each.

    Nothing is offered to a domain (automation, script) that is not set up: it fills its folder with examples only where
    there is none yet.
    """
    return await hass.async_add_executor_job(_offered, _folder(hass), frozenset(hass.config.components))


async def async_install(hass: HomeAssistant) -> Mapping[str, Presence]:
    """Copy what is missing byte for byte and have it read; return what was there before.

    A changed file is kept, which the log says. Raises ``WriteError`` if the folder cannot be written.
    """
    found = await hass.async_add_executor_job(_install, _folder(hass), frozenset(hass.config.components))
    for name in (name for name, presence in found.items() if presence is Presence.CHANGED):
        LOGGER.warning("The blueprint %s was changed here and is kept; delete it to get the offered one", name)
    for domain in sorted({Path(name).parts[0] for name, presence in found.items() if presence is Presence.MISSING}):
        await hass.services.async_call(domain, SERVICE_RELOAD, blocking=True)
    return found


async def async_withdraw(hass: HomeAssistant) -> None:
    """Remove the blueprints that are as they were installed and that nobody uses, and their folder once it is empty."""
    folder = _folder(hass)
    for name in (name for name, presence in (await async_offered(hass)).items() if presence is Presence.SAME):
        domain, *rest = Path(name).parts
        if _may_be_used(hass, domain):
            continue
        with suppress(BlueprintInUse, OSError):
            await _BLUEPRINTS[domain](hass).async_remove_blueprint("/".join(rest))
            await hass.async_add_executor_job((folder / name).parent.rmdir)


@callback
def _may_be_used(hass: HomeAssistant, domain: str) -> bool:
    """Say whether an automation or script is disabled: then it is not loaded, and nobody knows what it is made from."""
    entities = er.async_get(hass).entities.values()
    return any(entity.domain == domain and entity.disabled_by for entity in entities)


def _folder(hass: HomeAssistant) -> Path:
    return Path(hass.config.path(BLUEPRINT_FOLDER))


def _offered(folder: Path, components: frozenset[str]) -> dict[str, Presence]:
    names = (path.relative_to(_OFFERED) for path in sorted(_OFFERED.rglob("*.yaml")))
    return {str(name): _presence(folder, name) for name in names if name.parts[0] in components}


def _presence(folder: Path, name: Path) -> Presence:
    try:
        present = (folder / name).read_bytes()
    except FileNotFoundError, NotADirectoryError:
        return Presence.MISSING
    return Presence.SAME if present == (_OFFERED / name).read_bytes() else Presence.CHANGED


def _install(folder: Path, components: frozenset[str]) -> dict[str, Presence]:
    found = _offered(folder, components)
    for name in (name for name, presence in found.items() if presence is Presence.MISSING):
        try:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WriteError(error) from error
        write_utf8_file_atomic(str(folder / name), (_OFFERED / name).read_bytes(), mode="wb")
    return found
