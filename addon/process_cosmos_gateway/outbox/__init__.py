"""A durable, ordered queue of events per destination (the outbox pattern)."""

from .group_commit import Outcome, outcome_error
from .model import (
    Added,
    Delivered,
    Delivery,
    DeliveryResult,
    Depths,
    DropReason,
    Event,
    Failed,
    Limits,
    OutboxFullError,
    OutgoingReading,
    Rejected,
)
from .order_keys import GAP_KEY, device_key, program_key
from .outbox import Outbox

__all__ = [
    "GAP_KEY",
    "Added",
    "Delivered",
    "Delivery",
    "DeliveryResult",
    "Depths",
    "DropReason",
    "Event",
    "Failed",
    "Limits",
    "Outbox",
    "OutboxFullError",
    "Outcome",
    "OutgoingReading",
    "Rejected",
    "device_key",
    "outcome_error",
    "program_key",
]
