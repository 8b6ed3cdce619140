"""Names and times every part of the integration shares."""

import logging
from typing import Final

from homeassistant.const import Platform

DOMAIN: Final = "process_cosmos"
LOGGER = logging.getLogger(__package__)
VERSION: Final = "0.1.0"
"""The manifest's version; a test keeps them equal."""

PLATFORMS: Final = (
    Platform.BINARY_SENSOR,
    Platform.EVENT,
    Platform.NUMBER,
    Platform.SENSOR,
    Platform.SWITCH,
    Platform.VALVE,
)

# A config entry's data, beside Home Assistant's own CONF_URL and CONF_TOKEN; all None without the app.
CONF_SITE: Final = "site"
CONF_SHA256: Final = "sha256"
CONF_READ: Final = "read"
"""What a person has read of, by issue; it is shown again when it has happened again."""
CONF_NAMES: Final = "names"
"""What people call the recipients, by recipient: one that is gone is still named."""
CONF_HAS_LOG: Final = "has_log"
"""A record log was written: where it is missing at a start, it was lost."""

# A config entry's options.
CONF_PHONES: Final = "phones"
"""By the companion app's own device ids."""

CONF_NOTIFY_ENTITIES: Final = "notify_entities"
"""By their ids in the entity registry, by entity id where they are not in it."""

CONF_PERSISTENT: Final = "persistent_notification"
"""Whether alerts are shown under *Notifications* in Home Assistant too."""

CONF_DESTINATIONS: Final = "destinations"

AVAILABLE_FOR: Final = 10.0
"""Seconds entities stay available after the link dropped: a gateway restarts in 2 s."""

UNREACHABLE_AFTER: Final = 60.0
"""Seconds without a session until a repair issue says so: longer than a restart or an update of the app."""
