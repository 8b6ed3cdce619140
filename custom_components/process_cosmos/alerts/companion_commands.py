"""Messages the companion apps execute instead of showing: one table, and how such a message is sent as text.

The apps and their push relay compare the message with these words; everything else is shown. A title is only a
parameter of some commands, never a command. Sources:
https://companion.home-assistant.io/docs/notifications/notification-commands, ``MessagingManager.kt`` of
home-assistant/android (``TTS``, ``remove_channel``), ``NotificationsCommandManager.swift`` of home-assistant/iOS,
``functions/legacy.js`` and the fixtures of home-assistant/mobile-apps-fcm-push (``delete_alert``, ``kiosk_…``).
"""

import re
from typing import Final

_COMMANDS: Final = frozenset(
    {
        "clear_badge",
        "clear_notification",
        "delete_alert",
        "hide_camera",
        "keep_screen_on",
        "live_activity",
        "remove_channel",
        "request_location_update",
        "request_location_updates",
        "show_camera",
        "test_push_source",
        "tts",
        "update_complications",
        "update_widgets",
    }
)

_FAMILIES: Final = re.compile(r"(?:command|kiosk)_\w+")
"""Families of commands that grow with each release of the apps."""

_INVISIBLE: Final = "\u200b"
"""ZERO WIDTH SPACE: makes another word of a command, and is not seen."""


def as_text(message: str) -> str:
    """Return ``message`` so that no companion app takes it for a command; all other messages stay as they are."""
    word = message.strip().casefold()
    return f"{message}{_INVISIBLE}" if word in _COMMANDS or _FAMILIES.fullmatch(word) else message
