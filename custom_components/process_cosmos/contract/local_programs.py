"""What local programs say to the outbox at ``GET /ws/events``; each message is answered by a ``Result``."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

from .codec import Json
from .identifiers import Ulid

LONGEST_PUBLISH = 1 << 16
"""Bytes of the longest frame a producer may send."""

MOST_CONNECTIONS = 64
"""Connections of programs at one door; one more is refused as ``too_many_connections``."""

MOST_UNANSWERED = 16
"""Messages of one connection without a result; beyond that the gateway stops reading it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Publish:
    """Producer → gateway: accept one event. The result with this ``id`` comes once the event survives a power cut.

    ``event``: its id for ever; the same event sent again is dropped. ``event_type``, ``subject``, ``time``, ``data``:
    of the CloudEvent; types that begin with ``process_cosmos.`` are the gateway's own. ``slot``: while the outbox is
    full a newer event of the slot replaces an older one. ``urgent``: goes out first, and is never replaced.
    """

    type: ClassVar[str] = "publish"
    id: str
    event: Ulid
    event_type: str
    subject: str
    time: datetime
    data: Json
    slot: str | None = None
    urgent: bool = False


FROM_PRODUCER: Mapping[str, type[Publish]] = {Publish.type: Publish}
"""What a local program may send, by ``type``. The gateway's frames are JSON arrays of ``Result``."""
