"""Closing of a deleted site's alerts, so that neither its app nor its destinations continue with them."""

import asyncio

from homeassistant.config_entries import ConfigEntry
from homeassistant.core import HomeAssistant

from custom_components.process_cosmos.const import CONF_DESTINATIONS, LOGGER
from custom_components.process_cosmos.contract.alerts import Propose
from custom_components.process_cosmos.contract.destinations import Status
from custom_components.process_cosmos.contract.devices import Subscribe
from custom_components.process_cosmos.contract.errors import Code
from custom_components.process_cosmos.contract.identifiers import Position
from custom_components.process_cosmos.contract.session import Committed
from custom_components.process_cosmos.flows.gateway_requests import GatewayAccess, async_connect
from custom_components.process_cosmos.gateway.client import GatewayError, Session
from custom_components.process_cosmos.issues.recipient_issues import RecipientIssues

from .gateway_presence import GatewayPresence
from .gateway_sync import GatewaySync
from .journal import Journal
from .notification_sender import NotificationSender
from .policy import Policy
from .record_log import RecordLogTooNewError, RecordLogWriteError
from .records import Resolved
from .scheduler import Scheduler

_APPLIED_WITHIN = 5.0
_DELIVERED_WITHIN = 5.0


async def async_resolve_all(hass: HomeAssistant, entry: ConfigEntry, found: GatewayAccess) -> None:
    """Resolve what is alive at the app of ``entry``, which is not loaded, and give destinations a moment to hear of it.

    An unreachable app keeps them until the next site that connects to it closes them (``alerts/merge.py``).
    """
    journal = Journal(hass, entry, lambda _: None, lambda _: None)
    try:
        await journal.async_open()
        if journal.state.alive:
            await _async_hand_over(hass, entry, found, journal)
    except (GatewayError, RecordLogTooNewError, RecordLogWriteError, OSError) as error:
        LOGGER.warning(
            "alerts_left_open: The app of %s was not notified that its alerts are closed (%s). The next site that"
            " connects to it closes them.",
            entry.title,
            str(error) or type(error).__name__,
        )
    finally:
        await journal.async_close()


async def _async_hand_over(hass: HomeAssistant, entry: ConfigEntry, found: GatewayAccess, journal: Journal) -> None:
    """Send what the app has not heard of, and that all is over; raise ``TimeoutError`` if it is not applied in time."""
    async with await async_connect(hass, found, run=journal.run, entry=entry.entry_id) as session:
        if session.hello.entry not in (None, entry.entry_id):
            return  # the app serves another site now, whose alerts must stay open
        presence = GatewayPresence(hass, journal.now)
        issues = RecipientIssues(hass, entry, (), journal.now)
        # Without levels nobody is notified, and the gateway gets no notification requests.
        scheduler = Scheduler(
            hass,
            entry,
            journal,
            policy=Policy(levels=()),
            sender=NotificationSender(hass, entry.title, issues.learn),
            recipient_issues=issues,
            gateway=presence,
        )
        gateway_sync = GatewaySync(
            hass, entry, journal, scheduler=scheduler, presence=presence, async_settle=_async_settle
        )
        try:
            async with asyncio.timeout(_APPLIED_WITHIN):
                await gateway_sync.async_session_opened(session.hello, session.send)
                newest = await _async_resolve(journal, entry.title)
                gateway_sync.send_new_records()
                await _async_until_applied(session, newest)
            if entry.options[CONF_DESTINATIONS]:
                await _async_until_delivered(session, journal)
        finally:
            gateway_sync.async_stop()


async def _async_resolve(journal: Journal, by: str) -> Position:
    """Record a resolution of each open alert; return the position of the last record."""
    for alert in tuple(journal.state.alive.values()):
        journal.record(Resolved(alert=alert, event=journal.new_id(), at=journal.now(), by=by))
    await journal.async_flush()
    return journal.record_log.entries[-1].position


async def _async_until_applied(session: Session, newest: Position) -> None:
    async for message in session.messages():
        if isinstance(message, Committed) and message.position >= newest:
            return


async def _async_until_delivered(session: Session, journal: Journal) -> None:
    """Return once no alert waits for a destination, or after 5 s, because a destination may be unreachable."""
    try:
        async with asyncio.timeout(_DELIVERED_WITHIN):
            await session.send(Subscribe(run=journal.run, confirmed=0))
            async for message in session.messages():
                if isinstance(message, Status) and not message.waiting.urgent:
                    return
    except TimeoutError:
        LOGGER.debug("A destination was unreachable and is not notified that the alerts were closed")


async def _async_settle(_: Propose) -> tuple[bool, str | None]:
    """Refuse every proposal of destinations as too late."""
    return True, Code.ANSWER_TOO_LATE
