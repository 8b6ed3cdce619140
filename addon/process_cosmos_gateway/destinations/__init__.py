"""Destinations of events: webhooks and cloud endpoints, one module for each kind behind one ``Protocol``."""

from .service import Destinations

__all__ = ["Destinations"]
