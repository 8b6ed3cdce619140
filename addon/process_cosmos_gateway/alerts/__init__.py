"""The gateway's side of the alert protocol: replica, asks, proposals."""

from .service import Alerts

__all__ = ["Alerts"]
