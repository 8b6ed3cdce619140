"""Pytest plugin, loaded before Home Assistant's own: what 0.13.375 of it expects of Home Assistant 2026.10.

Home Assistant's import aliases ``httpx`` and must come before respx imports it; one helper of the logger moved.
Drop this file when a release of pytest-homeassistant-custom-component pins 2026.11.
"""

import homeassistant.const  # noqa: F401 - imported for its effect
from homeassistant.components import logger
from homeassistant.components.logger import helpers

logger._clear_logger_overwrites = getattr(helpers, "_clear_logger_overwrites", None)  # type: ignore[attr-defined] # noqa: SLF001
