"""Where a site sends events: webhooks, cloud endpoints. One file a kind behind one Protocol."""

from .service import Destinations

__all__ = ["Destinations"]
