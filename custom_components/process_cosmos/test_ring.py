"""A marked test: everybody chosen is told once; it ends by itself."""

from datetime import datetime, timedelta

from homeassistant.core import HomeAssistant
from homeassistant.helpers.event import async_call_later

from .data import CosmosConfigEntry

GROUP = "process_cosmos.test_ring"
LASTS = timedelta(minutes=2)
"""Shorter than a round: nobody is told twice."""
