"""The gateway's side of the escalation protocol: replica, asks, proposals."""

from .service import Escalations

__all__ = ["Escalations"]
