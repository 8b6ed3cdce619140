"""The durable queue to destinations."""

from .group_commit import Outcome, failure
from .model import (
    Added,
    Delivered,
    Depths,
    DropReason,
    Event,
    Failed,
    Limits,
    Measurement,
    OutboxFullError,
    Parcel,
    Rejected,
    Verdict,
)
from .order_keys import GAP_KEY, device_key, program_key
from .outbox import Outbox

__all__ = [
    "GAP_KEY",
    "Added",
    "Delivered",
    "Depths",
    "DropReason",
    "Event",
    "Failed",
    "Limits",
    "Measurement",
    "Outbox",
    "OutboxFullError",
    "Outcome",
    "Parcel",
    "Rejected",
    "Verdict",
    "device_key",
    "failure",
    "program_key",
]
