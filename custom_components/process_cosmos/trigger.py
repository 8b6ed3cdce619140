"""Triggers for five kinds of transitions of an alert."""

from typing import Any, ClassVar, override

import probatio as vol
from homeassistant.const import CONF_ENTITY_ID, CONF_OPTIONS
from homeassistant.core import CALLBACK_TYPE, HomeAssistant, callback
from homeassistant.helpers import config_validation as cv
from homeassistant.helpers.dispatcher import async_dispatcher_connect
from homeassistant.helpers.trigger import Trigger, TriggerActionRunner, TriggerConfig, TriggerNotTriggeredReporter
from homeassistant.helpers.typing import ConfigType

from .alerts.engine import SIGNAL_ALERT_CHANGED, AlertChange
from .contract.alerts import TransitionKind

_CONFIG_SCHEMA = vol.Schema(
    {vol.Optional(CONF_OPTIONS, default=dict): {vol.Optional(CONF_ENTITY_ID, default=list): cv.entity_ids}}
)


class AlertTrigger(Trigger):
    """Fires after a stored transition of an alert about one of the configured entities (none: of any alert)."""

    kind: ClassVar[TransitionKind]

    @classmethod
    @override
    async def async_validate_config(cls, hass: HomeAssistant, config: ConfigType) -> ConfigType:
        """Validate the trigger options."""
        validated: ConfigType = _CONFIG_SCHEMA(config)
        return validated

    def __init__(self, hass: HomeAssistant, config: TriggerConfig) -> None:
        """Fire for alerts about the entities in the options; without entities, for all alerts."""
        super().__init__(hass, config)
        self._entities = set((config.options or {}).get(CONF_ENTITY_ID, ()))

    @override
    async def async_attach_runner(
        self, run_action: TriggerActionRunner, did_not_trigger: TriggerNotTriggeredReporter | None = None
    ) -> CALLBACK_TYPE:
        """Run the action for each matching transition at any site; return a function that detaches the trigger."""

        @callback
        def changed(change: AlertChange) -> None:
            if self._matches(change):
                run_action(_payload(change), f"alert {change.kind}: {change.alert.content.message}")

        return async_dispatcher_connect(self._hass, SIGNAL_ALERT_CHANGED, changed)

    def _matches(self, change: AlertChange) -> bool:
        about = change.alert.content.about
        return change.kind is self.kind and (not self._entities or not self._entities.isdisjoint(about))


def _payload(change: AlertChange) -> dict[str, Any]:
    """Return the fields that the ``trigger`` variable of the automation gets."""
    alert = change.alert
    return {
        "alert": alert.id,
        "revision": alert.revision,
        "group": alert.group,
        "message": alert.content.message,
        "severity": alert.content.severity.value,
        "entities": list(alert.content.about),
        "answer": alert.answer,
        "by": alert.by,
        "note": alert.note,
    }


def _trigger_for(kind: TransitionKind) -> type[Trigger]:
    return type(f"{kind.capitalize()}Trigger", (AlertTrigger,), {"kind": kind})


TRIGGERS: dict[str, type[Trigger]] = {
    f"alert_{kind}": _trigger_for(kind)
    for kind in (
        TransitionKind.OPENED,
        TransitionKind.ACKNOWLEDGED,
        TransitionKind.ANSWERED,
        TransitionKind.UNANSWERED,
        TransitionKind.RESOLVED,
    )
}


async def async_get_triggers(hass: HomeAssistant) -> dict[str, type[Trigger]]:  # noqa: ARG001 - Home Assistant's signature
    """Return the trigger classes by name."""
    return TRIGGERS
