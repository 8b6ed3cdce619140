"""Texts within limits."""


def shortened(text: str, limit: int) -> str:
    """Return ``text`` within ``limit`` characters, with an ellipsis where something was cut off."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
