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
    OutgoingReading,
    OutboxFullError,
    Delivery,
    Rejected,
    DeliveryResult,
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
    "OutgoingReading",
    "Outbox",
    "OutboxFullError",
    "Outcome",
    "Delivery",
    "Rejected",
    "DeliveryResult",
    "device_key",
    "failure",
    "program_key",
]
