"""Triggers for the five states an escalation can reach."""

from typing import Any, ClassVar, override

import probatio as vol
from homeassistant.config_entries import SIGNAL_CONFIG_ENTRY_CHANGED, ConfigEntry, ConfigEntryChange, ConfigEntryState
from homeassistant.const import CONF_ENTITY_ID, CONF_OPTIONS
from homeassistant.core import CALLBACK_TYPE, HomeAssistant, callback
from homeassistant.helpers import config_validation as cv
from homeassistant.helpers.dispatcher import async_dispatcher_connect
from homeassistant.helpers.trigger import Trigger, TriggerActionRunner, TriggerConfig, TriggerNotTriggeredReporter
from homeassistant.helpers.typing import ConfigType

from .alerts.engine import EscalationChange, Escalations, Listener
from .const import DOMAIN
from .contract.alerts import TransitionKind

_CONFIG_SCHEMA = vol.Schema(
    {vol.Optional(CONF_OPTIONS, default=dict): {vol.Optional(CONF_ENTITY_ID, default=list): cv.entity_ids}}
)


class _Sites:
    """Listens to all loaded sites, also to those loaded later or again."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._listening: dict[str, CALLBACK_TYPE] = {}

    @callback
    def follow(self, _change: ConfigEntryChange | None, entry: ConfigEntry) -> None:
        if entry.domain != DOMAIN:
            return
        if entry.state is not ConfigEntryState.LOADED:
            self._stop(entry.entry_id)
        elif entry.entry_id not in self._listening:
            escalations: Escalations = entry.runtime_data.escalations
            self._listening[entry.entry_id] = escalations.async_listen(self._listener)

    def let_go(self) -> None:
        for entry_id in tuple(self._listening):
            self._stop(entry_id)

    def _stop(self, entry_id: str) -> None:
        if stop := self._listening.pop(entry_id, None):
            stop()


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
        """Fire for escalations about the entities in the options; without any, for all."""
        super().__init__(hass, config)
        self._entities = set((config.options or {}).get(CONF_ENTITY_ID, ()))

    @override
    async def async_attach_runner(
        self, run_action: TriggerActionRunner, did_not_trigger: TriggerNotTriggeredReporter | None = None
    ) -> CALLBACK_TYPE:
        """Run the action for each match at any site, also one that is loaded later; return how to stop."""

        @callback
        def changed(change: EscalationChange) -> None:
            if self._matches(change):
                run_action(_payload(change), f"escalation {change.kind}: {change.escalation.content.message}")

        sites = _Sites(changed)
        stop_following = async_dispatcher_connect(self._hass, SIGNAL_CONFIG_ENTRY_CHANGED, sites.follow)
        for entry in self._hass.config_entries.async_entries(DOMAIN):
            sites.follow(None, entry)

        @callback
        def remove() -> None:
            stop_following()
            sites.let_go()

        return remove

    def _matches(self, change: EscalationChange) -> bool:
        about = change.escalation.content.about
        return change.kind is self.kind and (not self._entities or not self._entities.isdisjoint(about))


def _payload(change: EscalationChange) -> dict[str, Any]:
    """Return what the automation's ``trigger`` variable holds besides the usual."""
    escalation = change.escalation
    return {
        "escalation": escalation.id,
        "ring": escalation.ring,
        "group": escalation.group,
        "message": escalation.content.message,
        "severity": escalation.content.severity.value,
        "entities": list(escalation.content.about),
        "answer": escalation.answer,
        "by": escalation.by,
        "note": escalation.note,
    }


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


async def async_get_triggers(hass: HomeAssistant) -> dict[str, type[Trigger]]:  # noqa: ARG001 - Home Assistant's signature
    """Return the triggers by name."""
    return TRIGGERS
