"""Constants shared by the packages of the integration."""

import json
import logging
from pathlib import Path
from typing import Final

from homeassistant.const import Platform

DOMAIN: Final = "process_cosmos"
LOGGER = logging.getLogger(__package__)
# Home Assistant imports integrations outside its event loop, so that this read does not block it.
VERSION: Final[str] = json.loads(Path(__file__).with_name("manifest.json").read_bytes())["version"]

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
"""Marks of the occurrences that were read, by issue; a new mark shows the issue again."""
CONF_NAMES: Final = "names"
"""Display names of the recipients, by recipient, for messages about one that was removed."""
CONF_HAS_LOG: Final = "has_log"
"""Whether a record log was written; if so and the file is missing at the next start, it was lost."""

# A config entry's options.
CONF_PHONES: Final = "phones"
"""The device ids of the companion apps."""

CONF_NOTIFY_ENTITIES: Final = "notify_entities"
"""Ids in the entity registry; entity ids of entities that are not registered."""

CONF_PERSISTENT: Final = "persistent_notification"
"""Whether alerts are also shown under *Notifications* in Home Assistant; absent in older entries."""

CONF_DESTINATIONS: Final = "destinations"

CONF_AT_ONCE: Final = "at_once"
"""Ids in the entity registry of numbers whose changes are always shown at once; absent in older entries."""

CONF_STEADY: Final = "steady"
"""Whether full garbage collections are made shorter; absent in older entries."""

CONF_BUDGET: Final = "budget"
"""Milliseconds that a reaction may take; absent in older entries."""

DEFAULT_BUDGET: Final = 100

AVAILABLE_FOR: Final = 10.0
"""Seconds that entities stay available after the connection was lost: a gateway restarts in 2 s."""

UNREACHABLE_AFTER: Final = 60.0
"""Seconds without a session until a repair issue is created: longer than a restart or update of the app."""
