"""Triggers for the five states an escalation can reach."""

from typing import ClassVar, override

import voluptuous as vol
from homeassistant.config_entries import SIGNAL_CONFIG_ENTRY_CHANGED, ConfigEntry, ConfigEntryChange, ConfigEntryState
from homeassistant.const import CONF_ENTITY_ID, CONF_OPTIONS
from homeassistant.core import CALLBACK_TYPE, HomeAssistant, callback
from homeassistant.helpers import config_validation as cv
from homeassistant.helpers.dispatcher import async_dispatcher_connect
from homeassistant.helpers.trigger import Trigger, TriggerActionRunner, TriggerConfig, TriggerNotTriggeredReporter
from homeassistant.helpers.typing import ConfigType

from .const import DOMAIN
from .contract.escalations import TransitionKind
from .data import CosmosConfigEntry
from .escalations.engine import EscalationChange

_CONFIG_SCHEMA = vol.Schema(
    {vol.Optional(CONF_OPTIONS, default=dict): {vol.Optional(CONF_ENTITY_ID, default=list): cv.entity_ids}}
)


class EscalationTrigger(Trigger):
    """Fires when an escalation about one of the entities (none given: any) has reached a state, on disk."""

    kind: ClassVar[TransitionKind]

    @classmethod
    @override
    async def async_validate_config(cls, hass: HomeAssistant, config: ConfigType) -> ConfigType:
        """Check the options."""
        validated: ConfigType = _CONFIG_SCHEMA(config)
        return validated

    def __init__(self, hass: HomeAssistant, config: TriggerConfig) -> None:
        """Take the entities."""
        super().__init__(hass, config)
        self._entities = set((config.options or {}).get(CONF_ENTITY_ID, ()))

    @override
    async def async_attach_runner(
        self, run_action: TriggerActionRunner, did_not_trigger: TriggerNotTriggeredReporter | None = None
    ) -> CALLBACK_TYPE:
        """Listen to all sites, also to those loaded later or again."""
        listening: dict[str, CALLBACK_TYPE] = {}

        @callback
        def changed(change: EscalationChange) -> None:
            escalation = change.escalation
            about = escalation.content.entities
            if change.kind is self.kind and (not self._entities or self._entities & set(about)):
                payload = {
                    "escalation": escalation.id,
                    "ring": escalation.ring,
                    "group": escalation.group,
                    "message": escalation.content.message,
                    "severity": escalation.content.severity.value,
                    "entities": list(about),
                    "answer": escalation.answer,
                    "by": escalation.by,
                    "note": escalation.note,
                }
                run_action(payload, f"escalation {self.kind}: {escalation.content.message}")

        @callback
        def entry_changed(change: ConfigEntryChange, entry: ConfigEntry) -> None:
            if entry.domain == DOMAIN:
                follow(entry)

        @callback
        def follow(entry: CosmosConfigEntry) -> None:
            if entry.state is not ConfigEntryState.LOADED:
                if stop := listening.pop(entry.entry_id, None):
                    stop()
            elif entry.entry_id not in listening:
                listening[entry.entry_id] = entry.runtime_data.escalations.async_listen(changed)

        @callback
        def remove() -> None:
            stop_following()
            for stop in listening.values():
                stop()

        stop_following = async_dispatcher_connect(self._hass, SIGNAL_CONFIG_ENTRY_CHANGED, entry_changed)
        for entry in self._hass.config_entries.async_entries(DOMAIN):
            follow(entry)
        return remove


class OpenedTrigger(EscalationTrigger):
    """A new escalation."""

    kind = TransitionKind.OPENED


class AcknowledgedTrigger(EscalationTrigger):
    """Somebody acknowledged."""

    kind = TransitionKind.ACKED


class AnsweredTrigger(EscalationTrigger):
    """Somebody answered."""

    kind = TransitionKind.ANSWERED


class UnansweredTrigger(EscalationTrigger):
    """Nobody answered in time."""

    kind = TransitionKind.UNANSWERED


class ResolvedTrigger(EscalationTrigger):
    """It is over without an answer."""

    kind = TransitionKind.RESOLVED


TRIGGERS: dict[str, type[Trigger]] = {
    "escalation_opened": OpenedTrigger,
    "escalation_acknowledged": AcknowledgedTrigger,
    "escalation_answered": AnsweredTrigger,
    "escalation_unanswered": UnansweredTrigger,
    "escalation_resolved": ResolvedTrigger,
}


async def async_get_triggers(hass: HomeAssistant) -> dict[str, type[Trigger]]:
    """Return the triggers by name."""
    return TRIGGERS
