"""A marked test: everybody chosen is told once; it ends by itself."""

from datetime import datetime, timedelta

from homeassistant.core import HomeAssistant
from homeassistant.helpers.event import async_call_later

from .const import DOMAIN
from .contract.escalations import Severity
from .data import CosmosConfigEntry
from .escalations.engine import EscalateCall
from .escalations.records import Content

LASTS = timedelta(minutes=2)
"""Shorter than a round: nobody is told twice."""

_GIVE_UP_AFTER = timedelta(minutes=4)
"""Ends it where Home Assistant was restarted meanwhile; still shorter than a round."""


async def async_test_ring(hass: HomeAssistant, entry: CosmosConfigEntry) -> None:
    """Escalate a test of severity info; return when it is on disk. It is resolved after 2 minutes."""
    escalations = entry.runtime_data.escalations
    escalated = await escalations.async_escalate(
        EscalateCall(
            content=Content(
                message=f"This is a test ring of {entry.title}. You would be told like this; there is nothing to do.",
                severity=Severity.INFO,
                give_up_after=_GIVE_UP_AFTER.total_seconds(),
            )
        )
    )

    async def resolve(_: datetime) -> None:
        await escalations.async_resolve(escalated.id, by=DOMAIN, note="test ring", allowed=lambda _: True)

    entry.async_on_unload(async_call_later(hass, LASTS, resolve))
