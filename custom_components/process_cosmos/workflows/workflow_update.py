"""Repair issue and fix flow for copies of a workflow that are older than the offered version."""

from collections.abc import Mapping, Sequence
from typing import Any

import probatio as vol
from homeassistant.components.automation.config import async_validate_config_item
from homeassistant.components.blueprint import Blueprint, BlueprintInputs
from homeassistant.components.blueprint.schemas import BLUEPRINT_INSTANCE_FIELDS
from homeassistant.components.repairs import RepairsFlow, RepairsFlowResult
from homeassistant.const import CONF_ALIAS, CONF_ID
from homeassistant.core import HomeAssistant
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers import issue_registry as ir
from homeassistant.util.file import WriteError

from custom_components.process_cosmos.const import DOMAIN
from custom_components.process_cosmos.issues.site_issues import issues_with_prefix

from . import workflows

WORKFLOW_BEHIND = "workflow_behind"


async def async_update_issues(hass: HomeAssistant) -> None:
    """Create an issue for each outdated copy of a workflow, and delete all others."""
    copies = [one for each in (await workflows.async_find_copies(hass)).values() for one in each if one.is_behind]
    behind = {_issue_id(copy): copy for copy in copies}
    for issue in issues_with_prefix(hass, WORKFLOW_BEHIND):
        # An inactive issue stores that it was ignored in an earlier run.
        if issue.active and issue.issue_id not in behind:
            ir.async_delete_issue(hass, DOMAIN, issue.issue_id)
    for issue_id, copy in behind.items():
        ir.async_create_issue(
            hass,
            DOMAIN,
            issue_id,
            data={"issue": WORKFLOW_BEHIND, "path": copy.path},
            is_fixable=True,
            severity=ir.IssueSeverity.WARNING,
            translation_key=WORKFLOW_BEHIND,
            translation_placeholders=_about(copy),
        )


def _issue_id(copy: workflows.Copy) -> str:
    """Return an issue id that contains the version: ignoring one version does not hide the next."""
    return f"{WORKFLOW_BEHIND}_{copy.newest}_{copy.path}"


class WorkflowUpdateFlow(RepairsFlow):
    """Replaces a copy with the newest version if every automation made from it works with that version."""

    def __init__(self, path: str) -> None:
        """Update the copy at ``path``, relative to the blueprint folder as in automations."""
        self._path = path

    async def async_step_init(self, _: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Ask whether to update the copy, or to replace an edited one."""
        return await self._replace_copy("init")

    async def async_step_update(self, user_input: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Update an unedited copy."""
        return await self._replace_copy("update", user_input)

    async def async_step_replace(self, user_input: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Replace an edited copy."""
        return await self._replace_copy("replace", user_input)

    async def _replace_copy(self, step: str, user_input: dict[str, Any] | None = None) -> RepairsFlowResult:
        copy = await self._copy()
        if copy is None:  # deleted or updated meanwhile
            return self.async_create_entry(data={})
        # A copy edited while the dialog was open must not be replaced without a warning.
        step_id = "replace" if copy.state is workflows.State.CHANGED else "update"
        try:
            incompatible = await async_find_incompatible(self.hass, copy)
            if incompatible:
                reasons = "\n".join(f"- {name}: {reason}" for name, reason in incompatible)
                placeholders = {**_about(copy), "automations": reasons}
                return self.async_abort(reason="unfit", description_placeholders=placeholders)
            if user_input is not None and step == step_id:
                await workflows.async_write(self.hass, copy.offered, copy.path)
                await async_update_issues(self.hass)
                return self.async_create_entry(data={})
            users = [_name(one) for one in await workflows.async_find_automations(self.hass, copy.path)]
        except (HomeAssistantError, OSError) as error:
            reason = "blueprints_not_written" if isinstance(error, WriteError | OSError) else "configuration_unreadable"
            return self.async_abort(reason=reason, description_placeholders={"error": str(error)})
        return self.async_show_form(
            step_id=step_id,
            description_placeholders={**_about(copy), "count": str(len(users)), "automations": ", ".join(users)},
        )

    async def _copy(self) -> workflows.Copy | None:
        copies = (copy for each in (await workflows.async_find_copies(self.hass)).values() for copy in each)
        return next((copy for copy in copies if copy.path == self._path and copy.is_behind), None)


async def async_find_incompatible(hass: HomeAssistant, copy: workflows.Copy) -> Sequence[tuple[str, str]]:
    """Return the automations made from ``copy`` that do not work with the newest version, each with the reason.

    Raises ``HomeAssistantError`` if Home Assistant's configuration cannot be read.
    """
    newest = await workflows.async_load_offered(hass, copy.offered)
    instances = await workflows.async_find_automations(hass, copy.path)
    found = [(_name(instance), await _async_incompatibility(hass, newest, instance)) for instance in instances]
    return [(name, reason) for name, reason in found if reason]


async def _async_incompatibility(hass: HomeAssistant, newest: Blueprint, instance: Mapping[str, Any]) -> str | None:
    try:
        inputs = BlueprintInputs(newest, BLUEPRINT_INSTANCE_FIELDS(dict(instance)))
        inputs.validate()
        await async_validate_config_item(hass, _name(instance), inputs.async_substitute())
    except (vol.Invalid, HomeAssistantError) as error:
        return str(error)
    return None


def _name(instance: Mapping[str, Any]) -> str:
    return str(instance.get(CONF_ALIAS) or instance.get(CONF_ID) or "?")


def _about(copy: workflows.Copy) -> dict[str, str]:
    return {"name": copy.name, "path": copy.path, "version": copy.version, "newest": copy.newest}
