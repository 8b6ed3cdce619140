"""Gateway side of the alert protocol: replica, notification requests and proposals."""

from .service import Alerts

__all__ = ["Alerts"]
