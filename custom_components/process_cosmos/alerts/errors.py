"""Errors of the actions, each with a stable code."""

from homeassistant.exceptions import HomeAssistantError, ServiceValidationError

from custom_components.process_cosmos.const import DOMAIN
from custom_components.process_cosmos.errors import CosmosError

MEMORY_NOT_WRITTEN = "memory_not_written"
NO_GROUP = "no_group"


class AlertRefusedError(CosmosError, ServiceValidationError):
    """A request was refused: ``code`` is stable and the key of the translated sentence."""

    def __init__(self, code: str, **placeholders: str) -> None:
        """Build the error from the translation key ``code`` and the placeholders of its sentence."""
        super().__init__(translation_domain=DOMAIN, translation_key=code, translation_placeholders=placeholders)
        self.code = code
        self.placeholders = placeholders


class NotOnDiskError(CosmosError, HomeAssistantError):
    """A record is in RAM and people are notified, but it is not on disk and a power failure would lose it."""

    code = MEMORY_NOT_WRITTEN

    def __init__(self, reason: str) -> None:
        """Build the error; ``reason`` is the operating system's error text, which is shown to people."""
        super().__init__(
            translation_domain=DOMAIN, translation_key=MEMORY_NOT_WRITTEN, translation_placeholders={"reason": reason}
        )
