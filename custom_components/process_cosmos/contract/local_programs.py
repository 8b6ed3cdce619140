"""Messages of local programs at ``GET /ws/events``; each is answered by a ``Result``."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

from .codec import Json
from .identifiers import Ulid

LONGEST_PUBLISH = 1 << 16
"""Bytes of the longest frame a program may send."""

MOST_CONNECTIONS = 64
"""Connections of programs to one endpoint; further ones are refused as ``too_many_connections``."""

# What is in flight queues in sockets and the event loop, in front of urgent events. Measured with 16 connections:
# an urgent event's p99 is 45 ms with 64 messages each, 12 to 16 ms with 16.
MOST_UNANSWERED = 16
"""Messages of one connection without a result; at this limit the gateway stops reading from it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Publish:
    """Program → gateway: store one event. The result with this ``id`` is sent once the event would survive a power cut.

    ``event``: the event's permanent id; a repeat of the same event is dropped. ``event_type``, ``subject``, ``time``,
    ``data``: attributes of the CloudEvent; types that begin with ``process_cosmos.`` are reserved for the gateway.
    ``slot``: while the outbox is full, a newer event of the same slot replaces an older one. ``urgent``: sent before
    other events, and never replaced.
    """

    type: ClassVar[str] = "publish"
    id: str
    event: Ulid
    # Not `type`, which is the tag of the message.
    event_type: str
    subject: str
    # The program's time, so that an event it publishes again is identical to the byte; otherwise it is a conflict.
    time: datetime
    data: Json
    slot: str | None = None
    urgent: bool = False


FROM_PRODUCER: Mapping[str, type[Publish]] = {Publish.type: Publish}
"""Messages a local program may send, by ``type``. The gateway replies with JSON arrays of ``Result``."""
