"""CloudEvents 1.0 in the JSON format: what destinations receive."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from .identifiers import Ulid

TYPE_PREFIX = "process_cosmos."
CONTENT_TYPE = "application/cloudevents+json"
BATCH_CONTENT_TYPE = "application/cloudevents-batch+json"


def event_type(*words: str) -> str:
    """Return the ``type`` of an event, e.g. ``process_cosmos.escalation.opened.v1``."""
    return TYPE_PREFIX + ".".join(words) + ".v1"


def site_source(site: Ulid) -> str:
    """Return the ``source`` of a site's events."""
    return f"/sites/{site}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudEvent:
    """One event before it is encoded. ``data`` is anything orjson writes: a dataclass of the contract, or JSON."""

    id: Ulid
    source: str
    type: str
    subject: str
    time: datetime
    data: Any

    def encode(self) -> bytes:
        """Return the event as one JSON object (CloudEvents JSON format 1.0.2)."""
        return orjson.dumps(
            {
                "specversion": "1.0",
                "id": self.id,
                "source": self.source,
                "type": self.type,
                "subject": self.subject,
                "time": self.time,
                "datacontenttype": "application/json",
                "data": self.data,
            },
            option=orjson.OPT_UTC_Z,
        )
