"""Messages that the companion apps execute as commands instead of showing them, and their escaping.

The apps and their push relay compare the whole message with these words and show everything else. A title is only a
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
"""Prefixes under which new releases of the apps add commands."""

_INVISIBLE: Final = "\u200b"
"""ZERO WIDTH SPACE: changes the word without a visible difference."""


def escape_command(message: str) -> str:
    """Return ``message`` such that no companion app executes it as a command; other messages are unchanged."""
    word = message.strip().casefold()
    return f"{message}{_INVISIBLE}" if word in _COMMANDS or _FAMILIES.fullmatch(word) else message
