"""Phones: the mobile app's notify action, and the button ids that come back from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from homeassistant.core import HomeAssistant
from homeassistant.helpers import device_registry as dr

from custom_components.process_cosmos.const import DOMAIN
from custom_components.process_cosmos.contract.escalations import Severity
from custom_components.process_cosmos.contract.identifiers import Ulid, is_ulid
from custom_components.process_cosmos.texts import shortened

from .model import Escalation

BUTTON_EVENT = "mobile_app_notification_action"
SITE_PAGE = "/config/integrations/integration/process_cosmos"

MAX_MESSAGE = 1500
"""Characters of a notification's text: the push services take 4 kB with everything."""

_MOBILE_APP = "mobile_app"
_BUTTON = "cosmos"
_PARTS = 6
_ANSWERS_SHOWN = 2
"""Android shows three buttons: two answers and Seen; the rest is behind a tap."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Button:
    """A button of a notification: which ring of which escalation, on which phone; ``answer`` None: Seen."""

    escalation: Ulid
    ring: int
    phone: str
    answer: str | None

    def __str__(self) -> str:
        """Return the id the phone sends back."""
        kind = "seen" if self.answer is None else "answer"
        return f"{_BUTTON}/{self.escalation}/{self.ring}/{self.phone}/{kind}/{self.answer or ''}"


def read_button(action: object) -> Button | None:
    """Read a button id; None if it is not one of ours."""
    parts = action.split("/", _PARTS - 1) if isinstance(action, str) else []
    match parts:
        case [prefix, escalation, ring, phone, kind, answer] if prefix == _BUTTON and is_ulid(escalation):
            if ring.isdecimal() and kind in ("answer", "seen"):
                return Button(
                    escalation=Ulid(escalation),
                    ring=int(ring),
                    phone=phone,
                    answer=answer if kind == "answer" else None,
                )
    return None


def phone_name(hass: HomeAssistant, device_id: str) -> str | None:
    """Return what people call the phone; None if it is gone."""
    device = dr.async_get(hass).async_get(device_id)
    return (device and (device.name_by_user or device.name)) or None


def reachable(hass: HomeAssistant) -> Sequence[str]:
    """Return the device ids of all phones that take pushes."""
    devices = dr.async_get(hass).devices
    phones = (each.id for each in devices if any(domain == _MOBILE_APP for domain, *_ in each.identifiers))
    return [phone for phone in phones if notify_action(hass, phone)]


def notify_action(hass: HomeAssistant, device_id: str) -> str | None:
    """Return the mobile app's notify action for this device; None if the phone is gone or takes no pushes."""
    if "notify" not in hass.data.get(_MOBILE_APP, {}):
        return None
    # Imported where it is loaded anyway: it needs packages that only its own set-up installs.
    from homeassistant.components.mobile_app.util import (  # noqa: PLC0415 - see above
        get_notify_service,
        webhook_id_from_device_id,
    )

    webhook_id = webhook_id_from_device_id(hass, device_id)
    return get_notify_service(hass, webhook_id) if webhook_id else None


def ring_notification(escalation: Escalation, title: str, device_id: str) -> dict[str, Any]:
    """Return the notify action's data for the newest ring: a round replaces the last one's, buttons carry the ring."""
    content = escalation.content
    buttons = [
        {
            "action": _button_id(escalation, device_id, answer.name),
            "title": answer.name,
            "authenticationRequired": answer.has_actions,
        }
        for answer in escalation.answers[:_ANSWERS_SHOWN]
    ]
    seen = {"action": _button_id(escalation, device_id, None), "title": "Seen"}
    times = f" ({escalation.count} times)" if escalation.count > 1 else ""
    return {
        "title": title,
        "message": f"{shortened(content.message, MAX_MESSAGE)}{times}",
        "data": {
            "tag": escalation.id,
            "group": DOMAIN,
            "actions": [*buttons, seen],
            "url": SITE_PAGE,
            "clickAction": SITE_PAGE,
            **_URGENCY[content.severity],
        },
    }


def plain_notification(title: str, message: str, tag: str) -> dict[str, Any]:
    """Return the notify action's data for a notice without buttons; ``tag``: what it replaces."""
    message = shortened(message, MAX_MESSAGE)
    return {"title": title, "message": message, "data": {"tag": tag, "group": DOMAIN, "url": SITE_PAGE}}


def clearing(tag: str) -> dict[str, Any]:
    """Return the notify action's data that takes a notification away."""
    return {"message": "clear_notification", "data": {"tag": tag}}


def _button_id(escalation: Escalation, device_id: str, answer: str | None) -> str:
    return str(Button(escalation=escalation.id, ring=escalation.ring, phone=device_id, answer=answer))


# Android reads ttl, priority and channel; iOS reads push.
_URGENCY: Mapping[Severity, Mapping[str, Any]] = {
    Severity.INFO: {},
    Severity.WARNING: {
        "ttl": 0,
        "priority": "high",
        "push": {"interruption-level": "time-sensitive"},
    },
    Severity.CRITICAL: {
        "ttl": 0,
        "priority": "high",
        "channel": "alarm_stream",
        "push": {"interruption-level": "critical", "sound": {"name": "default", "critical": 1, "volume": 1.0}},
    },
}
