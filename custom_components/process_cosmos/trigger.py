"""Triggers for five kinds of transitions of an alert."""

from typing import Any, ClassVar, override

import probatio as vol
from homeassistant.config_entries import SIGNAL_CONFIG_ENTRY_CHANGED, ConfigEntry, ConfigEntryChange, ConfigEntryState
from homeassistant.const import CONF_ENTITY_ID, CONF_OPTIONS
from homeassistant.core import CALLBACK_TYPE, HomeAssistant, callback
from homeassistant.helpers import config_validation as cv
from homeassistant.helpers.dispatcher import async_dispatcher_connect
from homeassistant.helpers.trigger import Trigger, TriggerActionRunner, TriggerConfig, TriggerNotTriggeredReporter
from homeassistant.helpers.typing import ConfigType

from .alerts.engine import AlertChange, Alerts, Listener
from .const import DOMAIN
from .contract.alerts import TransitionKind

_CONFIG_SCHEMA = vol.Schema(
    {vol.Optional(CONF_OPTIONS, default=dict): {vol.Optional(CONF_ENTITY_ID, default=list): cv.entity_ids}}
)


class _SiteListeners:
    """Attaches a listener to every loaded site, including sites loaded or reloaded later."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._listening: dict[str, CALLBACK_TYPE] = {}

    @callback
    def follow(self, _change: ConfigEntryChange | None, entry: ConfigEntry) -> None:
        if entry.domain != DOMAIN:
            return
        if entry.state is not ConfigEntryState.LOADED:
            # A reload creates new ``Alerts``; a listener at the old ones would never be called again.
            self._stop(entry.entry_id)
        elif entry.entry_id not in self._listening:
            alerts: Alerts = entry.runtime_data.alerts
            self._listening[entry.entry_id] = alerts.async_listen(self._listener)

    def remove_all(self) -> None:
        for entry_id in tuple(self._listening):
            self._stop(entry_id)

    def _stop(self, entry_id: str) -> None:
        if stop := self._listening.pop(entry_id, None):
            stop()


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

        sites = _SiteListeners(changed)
        stop_following = async_dispatcher_connect(self._hass, SIGNAL_CONFIG_ENTRY_CHANGED, sites.follow)
        for entry in self._hass.config_entries.async_entries(DOMAIN):
            sites.follow(None, entry)

        @callback
        def remove() -> None:
            stop_following()
            sites.remove_all()

        return remove

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


class OpenedTrigger(AlertTrigger):
    """Fires when an alert is opened."""

    kind = TransitionKind.OPENED


class AcknowledgedTrigger(AlertTrigger):
    """Fires when an alert is acknowledged."""

    kind = TransitionKind.ACKNOWLEDGED


class AnsweredTrigger(AlertTrigger):
    """Fires when an alert is answered."""

    kind = TransitionKind.ANSWERED


class UnansweredTrigger(AlertTrigger):
    """Fires when nobody answered an alert in time."""

    kind = TransitionKind.UNANSWERED


class ResolvedTrigger(AlertTrigger):
    """Fires when an alert is resolved without an answer."""

    kind = TransitionKind.RESOLVED


TRIGGERS: dict[str, type[Trigger]] = {
    "alert_opened": OpenedTrigger,
    "alert_acknowledged": AcknowledgedTrigger,
    "alert_answered": AnsweredTrigger,
    "alert_unanswered": UnansweredTrigger,
    "alert_resolved": ResolvedTrigger,
}


async def async_get_triggers(hass: HomeAssistant) -> dict[str, type[Trigger]]:  # noqa: ARG001 - Home Assistant's signature
    """Return the trigger classes by name."""
    return TRIGGERS
