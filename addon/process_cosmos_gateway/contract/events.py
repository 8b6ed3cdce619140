"""Encoding of the events sent to destinations: CloudEvents 1.0 in the JSON format."""

from datetime import datetime
from typing import Any

import orjson

from .bounds import write_json
from .identifiers import Ulid

TYPE_PREFIX = "process_cosmos."
CONTENT_TYPE = "application/cloudevents+json"
BATCH_CONTENT_TYPE = "application/cloudevents-batch+json"


def event_type(*words: str) -> str:
    """Return the ``type`` of an event, e.g. ``process_cosmos.alert.opened.v1``."""
    return TYPE_PREFIX + ".".join(words) + ".v1"


def site_source(site: Ulid) -> str:
    """Return the ``source`` of a site's events."""
    return f"/sites/{site}"


def encode_event(*, id: Ulid, site: Ulid, type: str, subject: str, time: datetime, data: Any) -> bytes:  # noqa: A002, ANN401 - CloudEvents' own names; anything write_json writes
    """Return an event as one JSON object (CloudEvents JSON format 1.0.2)."""
    # The outbox compares the bytes of events with the same id: another order of the members would be a conflict.
    return write_json(
        {
            "specversion": "1.0",
            "id": id,
            "source": site_source(site),
            "type": type,
            "subject": subject,
            "time": time,
            "datacontenttype": "application/json",
            "data": data,
        },
        orjson.OPT_UTC_Z,
    )
