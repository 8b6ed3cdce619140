"""Closes the alerts of a site that is deleted, so that neither its app nor its destinations go on with them."""

import asyncio
import uuid
from datetime import datetime

from homeassistant.config_entries import ConfigEntry
from homeassistant.core import HomeAssistant

from custom_components.process_cosmos.const import CONF_DESTINATIONS, LOGGER
from custom_components.process_cosmos.contract.alerts import Propose
from custom_components.process_cosmos.contract.destinations import Status
from custom_components.process_cosmos.contract.devices import Subscribe
from custom_components.process_cosmos.contract.errors import Code
from custom_components.process_cosmos.contract.identifiers import NotificationKey, Position, Ulid
from custom_components.process_cosmos.contract.session import Receipt
from custom_components.process_cosmos.flows.gateway_requests import GatewayAccess, async_connect
from custom_components.process_cosmos.gateway.client import GatewayError, Session

from .gateway_sync import GatewaySync
from .journal import Journal
from .model import Alert
from .record_log import RecordLogTooNewError, RecordLogWriteError
from .records import PlannedRequests, Resolved

_APPLIED_WITHIN = 5.0
_DELIVERED_WITHIN = 5.0


class NoNotifications:
    """The timetable of a site that is deleted: nobody is notified any more."""

    def requests(self, _alert: Alert) -> PlannedRequests:
        """Ask nothing of the gateway."""
        return ()

    def learn(self, key: NotificationKey, *, reached: bool, at: datetime) -> None:
        """Record nothing: what is alive is closed next."""

    def look(self, _alert_id: Ulid) -> None:
        """Leave the recipients of one alert alone: the site is being deleted."""

    def look_at_all(self) -> None:
        """Leave all recipients alone."""


async def async_resolve_all(hass: HomeAssistant, entry: ConfigEntry, found: GatewayAccess) -> None:
    """Resolve what is alive at the app of ``entry``, which is not loaded, and give destinations a moment to hear of it.

    An app that is away keeps them until the next site connects to it, which closes them (``alerts/merge.py``).
    """
    journal = Journal(hass, entry, lambda _: None, lambda _: None)
    try:
        await journal.async_open()
        if journal.state.alive:
            await _async_hand_over(hass, entry, found, journal)
    except (GatewayError, RecordLogTooNewError, RecordLogWriteError, OSError) as error:
        LOGGER.warning(
            "alerts_left_open: the app of %s does not know that its alerts are over (%s); the next site that connects"
            " to it closes them",
            entry.title,
            str(error) or type(error).__name__,
        )
    finally:
        await journal.async_close()


async def _async_hand_over(hass: HomeAssistant, entry: ConfigEntry, found: GatewayAccess, journal: Journal) -> None:
    """Send what the app has not heard of, and that all is over; raise ``TimeoutError`` if it is not applied in time."""
    async with await async_connect(hass, found, run=journal.run, entry=entry.entry_id) as session:
        if session.hello.entry not in (None, entry.entry_id):
            return  # it serves another site by now, whose alerts are not ours to close
        gateway_sync = GatewaySync(hass, entry, journal, NoNotifications(), _async_settle)
        try:
            async with asyncio.timeout(_APPLIED_WITHIN):
                await gateway_sync.async_session_opened(session.hello, session.send)
                newest = await _async_resolve(journal, entry.title)
                gateway_sync.send_news()
                await _async_until_applied(session, newest)
            if entry.options[CONF_DESTINATIONS]:
                await _async_until_delivered(session, journal)
        finally:
            gateway_sync.async_stop()


async def _async_resolve(journal: Journal, by: str) -> Position:
    """Record that everything is over; return the position of the last record."""
    for alert in tuple(journal.state.alive.values()):
        journal.record(Resolved(alert=alert, event=journal.new_id(), at=journal.now(), by=by))
    await journal.async_on_disk()
    return journal.memory.entries[-1].position


async def _async_until_applied(session: Session, newest: Position) -> None:
    async for message in session.messages():
        if isinstance(message, Receipt) and message.position is not None and message.position >= newest:
            return


async def _async_until_delivered(session: Session, journal: Journal) -> None:
    """Return once no alert waits for a destination, or after a moment: a destination may be away."""
    try:
        async with asyncio.timeout(_DELIVERED_WITHIN):
            await session.send(Subscribe(id=uuid.uuid4().hex, run=journal.run, confirmed=0))
            async for message in session.messages():
                if isinstance(message, Status) and not message.waiting.urgent:
                    return
    except TimeoutError:
        LOGGER.debug("A destination was away, and will not hear that alerts are over")


async def _async_settle(_: Propose) -> tuple[bool, str | None]:
    """Refuse what destinations propose now."""
    return True, Code.ANSWER_TOO_LATE
