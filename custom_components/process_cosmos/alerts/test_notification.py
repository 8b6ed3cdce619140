"""Test notification: an alert that is reported as a test, returns each recipient's result and resolves itself."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from homeassistant.core import HomeAssistant
from homeassistant.helpers.event import async_call_later

from custom_components.process_cosmos.const import DOMAIN
from custom_components.process_cosmos.contract.alerts import Severity
from custom_components.process_cosmos.data import CosmosConfigEntry
from custom_components.process_cosmos.selector_texts import selector_text
from custom_components.process_cosmos.texts import escaped

from .calls import AlertRequest
from .notification_results import NotificationResult
from .recipients import shown_name
from .records import Content

RESOLVE_AFTER = timedelta(minutes=2)
"""Time until the test alert is resolved; shorter than a round, so that nobody is notified twice."""

_GIVE_UP_AFTER = timedelta(minutes=4)
"""Give-up time of the test alert, in case Home Assistant restarts meanwhile; also shorter than a round."""


async def async_test_notification(
    hass: HomeAssistant, entry: CosmosConfigEntry, severity: Severity = Severity.INFO
) -> Mapping[str, NotificationResult | None]:
    """Send a test notification to all configured recipients; return each one's result (None: not tried yet).

    The test alert is resolved after 2 minutes. Raises ``NotOnDiskError`` like every alert; people are notified anyway.
    """
    alerts = entry.runtime_data.alerts
    message = f"This is a test notification from {entry.title}. An alert would look like this. No action is needed."
    raised = await alerts.async_raise_alert(
        AlertRequest(content=Content(message=message, severity=severity, give_up_after=_GIVE_UP_AFTER.total_seconds()))
    )

    async def resolve(_: datetime) -> None:
        await alerts.async_resolve(raised.id, by=DOMAIN, note="test notification", allowed=lambda _: True)

    entry.async_on_unload(async_call_later(hass, RESOLVE_AFTER, resolve))
    return await alerts.async_results(raised.id)


def results_shown(
    hass: HomeAssistant, entry: CosmosConfigEntry, results: Mapping[str, NotificationResult | None]
) -> str:
    """Return the results as a Markdown list with one line per recipient."""
    lines = (f"- **{escaped(shown_name(hass, entry, one))}**: {_shown(hass, it)}" for one, it in results.items())
    return "\n".join(lines)


def _shown(hass: HomeAssistant, result: NotificationResult | None) -> str | None:
    if result is None:
        return selector_text(hass, "notification_result", "not_sent")
    if result.code is None:
        return selector_text(hass, "notification_result", "handed_over")
    return selector_text(
        hass, "notification_result", "not_delivered", code=result.code, sentence=escaped(result.sentence)
    )
