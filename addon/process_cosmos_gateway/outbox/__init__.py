"""The durable queue to destinations."""

from .accepting import Outcome, failure
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
from .outbox import Outbox

__all__ = [
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
    "failure",
]
