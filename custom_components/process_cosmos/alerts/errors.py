"""What the actions refuse, each with its stable code."""

from homeassistant.exceptions import HomeAssistantError, ServiceValidationError

from custom_components.process_cosmos.const import DOMAIN

MEMORY_NOT_WRITTEN = "memory_not_written"
NO_GROUP = "no_group"


class AlertRefusedError(ServiceValidationError):
    """The caller has to do something else: ``code`` is stable, the sentence stands in the translations."""

    def __init__(self, code: str, **placeholders: str) -> None:
        """``code`` is the key of a sentence in the translations, with a placeholder for each keyword."""
        super().__init__(translation_domain=DOMAIN, translation_key=code, translation_placeholders=placeholders)
        self.code = code
        self.placeholders = placeholders


class NotOnDiskError(HomeAssistantError):
    """It is kept in RAM and people are told from there, but a power cut would lose it."""

    code = MEMORY_NOT_WRITTEN

    def __init__(self, reason: str) -> None:
        """``reason``: what the operating system says of the disk, shown to people."""
        super().__init__(
            translation_domain=DOMAIN, translation_key=MEMORY_NOT_WRITTEN, translation_placeholders={"reason": reason}
        )
