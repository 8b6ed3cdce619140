"""A newer version of a workflow that is here: said in a repair issue, and put in the old one's place on request."""

from collections.abc import Mapping, Sequence
from typing import Any

import probatio as vol
from homeassistant.components.automation.config import async_validate_config_item
from homeassistant.components.blueprint import Blueprint, BlueprintInputs
from homeassistant.components.blueprint.schemas import BLUEPRINT_INSTANCE_FIELDS
from homeassistant.components.repairs import RepairsFlow, RepairsFlowResult
from homeassistant.const import CONF_ALIAS, CONF_ID
from homeassistant.core import HomeAssistant, callback
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers import issue_registry as ir
from homeassistant.util.file import WriteError

from custom_components.process_cosmos.const import DOMAIN

from . import workflows

WORKFLOW_BEHIND = "workflow_behind"


async def async_update_issues(hass: HomeAssistant) -> None:
    """Show an issue for each copy of a workflow that is behind, and no other."""
    copies = [one for each in (await workflows.async_find_copies(hass)).values() for one in each if one.is_behind]
    behind = {_issue_id(copy): copy for copy in copies}
    for issue in _issues(hass):
        # One that is not active says of an earlier run what was ignored then.
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


@callback
def forget(hass: HomeAssistant) -> None:
    """Leave nothing behind in the registry of issues."""
    for issue in _issues(hass):
        ir.async_delete_issue(hass, DOMAIN, issue.issue_id)


def _issues(hass: HomeAssistant) -> Sequence[ir.IssueEntry]:
    issues = ir.async_get(hass).issues.values()
    return [issue for issue in issues if issue.domain == DOMAIN and issue.issue_id.startswith(WORKFLOW_BEHIND)]


def _issue_id(copy: workflows.Copy) -> str:
    """Return an id of its own for each version: who ignores this one hears of the next."""
    return f"{WORKFLOW_BEHIND}_{copy.newest}_{copy.path}"


class WorkflowUpdateFlow(RepairsFlow):
    """Puts the newest version in a copy's place, once every automation made from it was found to work with it."""

    def __init__(self, path: str) -> None:
        """Update the copy at ``path``, as automations name it."""
        self._path = path

    async def async_step_init(self, _: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Ask whether to update the copy, or to replace one that somebody changed."""
        return await self._put("init")

    async def async_step_update(self, user_input: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Update a copy that is as it was made."""
        return await self._put("update", user_input)

    async def async_step_replace(self, user_input: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Replace a copy that somebody has changed."""
        return await self._put("replace", user_input)

    async def _put(self, asked: str, user_input: dict[str, Any] | None = None) -> RepairsFlowResult:
        copy = await self._copy()
        if copy is None:  # gone or updated meanwhile
            return self.async_create_entry(data={})
        # What somebody has changed, perhaps just now, is not lost unsaid.
        step_id = "replace" if copy.state is workflows.State.CHANGED else "update"
        try:
            unfit = await async_find_incompatible(self.hass, copy)
            if unfit:
                reasons = "\n".join(f"- {name}: {reason}" for name, reason in unfit)
                placeholders = {**_about(copy), "automations": reasons}
                return self.async_abort(reason="unfit", description_placeholders=placeholders)
            if user_input is not None and asked == step_id:
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
    """Return the automations made from ``copy`` that would not work with the newest version, each with the reason.

    Raises ``HomeAssistantError`` if Home Assistant's configuration cannot be read.
    """
    newest = await workflows.async_load_offered(hass, copy.offered)
    instances = await workflows.async_find_automations(hass, copy.path)
    found = [(_name(instance), await _async_why_unfit(hass, newest, instance)) for instance in instances]
    return [(name, reason) for name, reason in found if reason]


async def _async_why_unfit(hass: HomeAssistant, newest: Blueprint, instance: Mapping[str, Any]) -> str | None:
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
