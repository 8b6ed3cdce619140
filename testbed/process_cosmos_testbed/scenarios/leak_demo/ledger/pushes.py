"""Reads what a phone is sent: rings with their buttons, as the companion app would show them."""

import time
from typing import Any

from .evidence import Ring

_RING = 2
_PARTS = 6


def ring_of(phone: str, push: dict[str, Any]) -> Ring | None:
    """Return the ring a push makes; None for one that only clears a notification or says how something ended."""
    data = push.get("data", {})
    buttons = [str(action["action"]).split("/", _PARTS - 1) for action in data.get("actions", ())]
    if not buttons:
        return None
    alert = str(data["tag"])
    return Ring(phone=phone, alert=alert, key=f"{alert}/{buttons[0][_RING]}", at=time.monotonic())


def button_of(push: dict[str, Any], title: str) -> str:
    """Return the id of the button that reads ``title``."""
    return str(next(action["action"] for action in push["data"]["actions"] if action["title"] == title))
