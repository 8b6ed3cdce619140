"""The durable queue to destinations."""

from .model import Added, Delivered, Depths, Event, Failed, Limits, Parcel, Rejected, Verdict
from .outbox import Outbox

__all__ = ["Added", "Delivered", "Depths", "Event", "Failed", "Limits", "Outbox", "Parcel", "Rejected", "Verdict"]
