"""Notifications as phones take them, and the button ids that come back."""

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

from .companion_commands import as_text
from .model import Alert
from .push import MAX_PAYLOAD, posted

BUTTON_EVENT = "mobile_app_notification_action"
SITE_PAGE = "/config/integrations/integration/process_cosmos"

MAX_TITLE = 200
"""Bytes of a notification's title."""

MIN_TEXT = 1000
"""Bytes of its text that buttons leave room for."""

ENTITY_RESERVE = 500
"""Bytes a notify entity's service may add: tokens, ids, the JSON around them."""

_BUTTON = "cosmos"
_PARTS = 6
_BUTTONS = 3
"""Android shows no more; what is unknown may be like it."""

_BUTTONS_IOS = 10
_APP_IOS = "io.robbie."


@dataclass(frozen=True, slots=True, kw_only=True)
class Button:
    """A button of a notification: which ring of which alert, on which phone; ``answer`` None: Seen.

    ``phone``: the app's device id.
    """

    alert: Ulid
    revision: int
    phone: str
    answer: str | None

    def __str__(self) -> str:
        """Return the id the phone sends back."""
        kind = "seen" if self.answer is None else "answer"
        return f"{_BUTTON}/{self.alert}/{self.revision}/{quote(self.phone, safe='')}/{kind}/{self.answer or ''}"


def read_button(action: object) -> Button | None:
    """Read a button id; None if it is not one of ours."""
    parts = action.split("/", _PARTS - 1) if isinstance(action, str) else []
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
    """Return the notification of the newest ring: a round replaces the last one's, buttons carry the ring.

    ``phone``: the word its buttons name it by; ``entry``: its registration, which says what it shows and is posted too.
    As many answers as the platform shows and the payload holds, then *Seen*; the text takes the room that is left.
    """
    content, text = alert.content, as_text(alert.content.message)
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
        if _room(entry, {**notification, "data": more}) < text_room:
            break
        data = notification["data"] = more
    return _with_text(entry, notification, text, times)


def plain_notification(title: str, message: str, tag: str, entry: ConfigEntry) -> dict[str, Any]:
    """Return a notification without buttons; ``tag``: what it replaces."""
    data = {"tag": tag, "group": DOMAIN, "url": SITE_PAGE}
    notification = {"title": shortened_to_bytes(title, MAX_TITLE), "message": "", "data": data}
    return _with_text(entry, notification, as_text(message))


def clearing(tag: str) -> dict[str, Any]:
    """Return the notification that takes another one away."""
    return {"message": "clear_notification", "data": {"tag": tag}}


def entity_message(title: str, message: str) -> dict[str, str]:
    """Return title and text for a notify entity, whose service adds what nobody here knows; it may be a phone's."""
    title = shortened_to_bytes(title, MAX_TITLE)
    room = MAX_PAYLOAD - ENTITY_RESERVE - json_size(title)
    return {"title": title, "message": shortened_to_bytes(as_text(message), room)}


def _with_text(entry: ConfigEntry, notification: dict[str, Any], text: str, suffix: str = "") -> dict[str, Any]:
    return {**notification, "message": f"{shortened_to_bytes(text, _room(entry, notification))}{suffix}"}


def _room(entry: ConfigEntry, notification: Mapping[str, Any]) -> int:
    """Return how many bytes a text may still add to ``notification`` as it is posted."""
    return MAX_PAYLOAD - len(json_bytes(posted(entry, notification)))


def _buttons_shown(entry: ConfigEntry) -> int:
    """Return how many buttons the platform shows, *Seen* included."""
    is_ios = str(entry.data.get("os_name", "")).casefold() in ("ios", "ipados")
    return _BUTTONS_IOS if is_ios or str(entry.data.get("app_id", "")).startswith(_APP_IOS) else _BUTTONS


def _button_id(alert: Alert, phone: str, answer: str | None) -> str:
    return str(Button(alert=alert.id, revision=alert.revision, phone=phone, answer=answer))


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
