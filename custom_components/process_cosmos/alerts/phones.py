"""Notifications in the format of the companion apps, and the ids of their buttons."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

from homeassistant.config_entries import ConfigEntry
from homeassistant.helpers.json import json_bytes

from custom_components.process_cosmos.const import DOMAIN
from custom_components.process_cosmos.contract.alerts import Severity
from custom_components.process_cosmos.contract.identifiers import Ulid, is_ulid
from custom_components.process_cosmos.texts import json_size, shortened_to_bytes

from .companion_commands import escape_command
from .model import Alert
from .push import MAX_PAYLOAD, push_payload

BUTTON_EVENT = "mobile_app_notification_action"
SITE_PAGE = "/config/integrations/integration/process_cosmos"

MAX_TITLE = 200
"""Most bytes in a notification's title."""

MIN_TEXT = 1000
"""Bytes reserved for the text; answer buttons that would need them are left out."""

ENTITY_RESERVE = 500
"""Bytes a notify entity's service may add: tokens, ids, the JSON around them."""

_BUTTON = "cosmos"
_BUTTON_PARTS = 6
_MAX_BUTTONS = 3
"""Buttons that Android shows; unknown platforms are treated like it."""

_MAX_BUTTONS_IOS = 10
_APP_IOS = "io.robbie."


@dataclass(frozen=True, slots=True, kw_only=True)
class Button:
    """A notification button for one revision of an alert on one phone; ``answer`` None: the *Seen* button.

    ``phone``: the app's device id. Older notifications have the id of its device in Home Assistant; both are accepted.
    """

    alert: Ulid
    revision: int
    phone: str
    answer: str | None

    def __str__(self) -> str:
        """Return the action id that the phone sends when the button is pressed."""
        # The answer comes last because its name may contain slashes; the phone's id is quoted for the same reason.
        kind = "seen" if self.answer is None else "answer"
        return f"{_BUTTON}/{self.alert}/{self.revision}/{quote(self.phone, safe='')}/{kind}/{self.answer or ''}"


def parse_button(action: object) -> Button | None:
    """Parse an action id; return None if it is not a button of this integration."""
    parts = action.split("/", _BUTTON_PARTS - 1) if isinstance(action, str) else []
    match parts:
        case [prefix, alert, revision, phone, kind, answer] if prefix == _BUTTON and is_ulid(alert):
            if revision.isdecimal() and kind in ("answer", "seen"):
                return Button(
                    alert=Ulid(alert),
                    revision=int(revision),
                    phone=unquote(phone),
                    answer=answer if kind == "answer" else None,
                )
    return None


def alert_notification(alert: Alert, title: str, phone: str, entry: ConfigEntry) -> dict[str, Any]:
    """Return the notification of the alert's current revision. Each round replaces the previous one on the phone.

    ``phone``: the device id in the button ids. ``entry``: the phone's registration, which determines the number of
    buttons and is part of the payload. It has as many answers as the platform shows and the payload allows, then
    *Seen*; the text is shortened to the remaining bytes.
    """
    content, text = alert.content, escape_command(alert.content.message)
    times = f" ({alert.count} times)" if alert.count > 1 else ""
    seen = {"action": _button_id(alert, phone, None), "title": "Seen"}
    data = {
        "tag": alert.id,
        "group": DOMAIN,
        "actions": [seen],
        "url": SITE_PAGE,
        "clickAction": SITE_PAGE,
        **_URGENCY[content.severity],
    }
    notification = {"title": shortened_to_bytes(title, MAX_TITLE), "message": times, "data": data}
    text_room = min(json_size(shortened_to_bytes(text, MIN_TEXT)), MIN_TEXT)
    for answer in alert.answers[: _buttons_shown(entry) - 1]:
        button = {
            "action": _button_id(alert, phone, answer.name),
            "title": answer.name,
            "authenticationRequired": answer.has_actions,
        }
        more = {**data, "actions": [*data["actions"][:-1], button, seen]}
        if _bytes_left(entry, {**notification, "data": more}) < text_room:
            break
        data = notification["data"] = more
    return _with_text(entry, notification, text, times)


def plain_notification(title: str, message: str, tag: str, entry: ConfigEntry) -> dict[str, Any]:
    """Return a notification without buttons; it replaces an earlier one with the same ``tag``."""
    data = {"tag": tag, "group": DOMAIN, "url": SITE_PAGE}
    notification = {"title": shortened_to_bytes(title, MAX_TITLE), "message": "", "data": data}
    return _with_text(entry, notification, escape_command(message))


def clear_command(tag: str) -> dict[str, Any]:
    """Return the command that removes the notification with ``tag`` from a phone."""
    return {"message": "clear_notification", "data": {"tag": tag}}


def entity_message(title: str, message: str) -> dict[str, str]:
    """Return title and message for a notify entity.

    The entity may belong to a phone, so the text leaves ``ENTITY_RESERVE`` bytes for the fields its service adds.
    """
    title = shortened_to_bytes(title, MAX_TITLE)
    room = MAX_PAYLOAD - ENTITY_RESERVE - json_size(title)
    return {"title": title, "message": shortened_to_bytes(escape_command(message), room)}


def _with_text(entry: ConfigEntry, notification: dict[str, Any], text: str, suffix: str = "") -> dict[str, Any]:
    return {**notification, "message": f"{shortened_to_bytes(text, _bytes_left(entry, notification))}{suffix}"}


def _bytes_left(entry: ConfigEntry, notification: Mapping[str, Any]) -> int:
    """Return how many bytes of text the payload of ``notification`` still has room for."""
    return MAX_PAYLOAD - len(json_bytes(push_payload(entry, notification)))


def _buttons_shown(entry: ConfigEntry) -> int:
    """Return how many buttons the platform shows, including *Seen*."""
    is_ios = str(entry.data.get("os_name", "")).casefold() in ("ios", "ipados")
    return _MAX_BUTTONS_IOS if is_ios or str(entry.data.get("app_id", "")).startswith(_APP_IOS) else _MAX_BUTTONS


def _button_id(alert: Alert, phone: str, answer: str | None) -> str:
    return str(Button(alert=alert.id, revision=alert.revision, phone=phone, answer=answer))


# Android uses ttl, priority and channel; iOS uses push.
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
