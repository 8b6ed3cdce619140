"""The state of a site: its devices, the gateway's status, and who is told about changes."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from homeassistant.config_entries import ConfigEntry
from homeassistant.core import CALLBACK_TYPE, HomeAssistant, callback
from homeassistant.util import dt as dt_util

from .alerts.engine import Alerts
from .alerts.safe_duration import duration
from .const import CONF_AT_ONCE, CONF_BUDGET, DEFAULT_BUDGET
from .contract.alerts import Notified, Propose
from .contract.destinations import Status
from .contract.devices import (
    AvailabilityChanged,
    DeviceChanged,
    DeviceRemoved,
    EventHappened,
    MissedChangesReport,
    Snapshot,
    Subscribe,
    ValueChanged,
)
from .contract.messages import DeviceChange, FromGateway
from .contract.session import Committed, Heartbeat
from .flows.gateway_requests import GatewayAccess
from .gateway.client import GatewayError, Session
from .gateway.connection import GatewayConnection
from .gateway.devices import DeviceStates, DeviceUpdate
from .gateway.missed_changes import MissedChanges
from .gateway.registry import register_device, remove_device
from .issues.destination_issues import DestinationIssues
from .issues.polarity import PolarityIssue
from .issues.status_issues import show_status
from .reactions.coalescing import CoalescedWrites
from .reactions.reaction_times import ReactionTimes
from .reactions.references import References

_MAX_QUEUED = 1000
"""Messages about alerts that may wait for the record log; a full queue slows down reading from the gateway."""

_DEVICES_AT_ONCE = 10
"""Devices processed before control returns to the event loop."""

type Subject = str | tuple[str]
"""The subject of a listener: a device id, which may be any text, or one of the tuples below."""

DEVICES: Subject = ("devices",)
STATUS: Subject = ("status",)
AUTOMATIONS: Subject = ("automations",)

_JITTER = timedelta(seconds=30)
"""Timestamps computed from ages vary by less than this even if nothing has happened."""

type Listener = Callable[[DeviceUpdate | None], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteStatus:
    """The gateway's status with timestamps instead of ages."""

    status: Status
    oldest_waiting: datetime | None
    last_contact: datetime | None


class CosmosCoordinator:
    """Holds the state of a site's devices, as the messages of its gateway change it."""

    def __init__(self, hass: HomeAssistant, entry: ConfigEntry, alerts: Alerts, access: GatewayAccess) -> None:
        """Prepare the connection to the gateway at ``access``; ``connection.async_start`` connects."""
        self.hass = hass
        self.entry = entry
        self.devices = DeviceStates()
        self.status: SiteStatus | None = None
        self.at_once: frozenset[str] = frozenset(entry.options.get(CONF_AT_ONCE, ()))
        """Ids in the entity registry of numbers whose changes are always shown at once."""
        self.held_writes: set[CoalescedWrites] = set()
        self.references = References(hass, self._references_renewed)
        budget = entry.options.get(CONF_BUDGET, DEFAULT_BUDGET) / 1000
        self.reaction_times = ReactionTimes(hass, entry.entry_id, budget)
        self.connection = GatewayConnection(
            hass, entry, access, alerts.run, process_fn=self._process_session, on_unavailable=self._call_all_listeners
        )
        self._alerts = alerts
        self._listeners: dict[Subject, list[Listener]] = defaultdict(list)
        self._snapshot_applied = asyncio.Event()
        self._missed = MissedChanges(hass, entry, alerts.sender, self.devices)
        self._destination_issues = DestinationIssues(hass, entry)
        self._polarity_issue = PolarityIssue(hass, entry)

    @callback
    def async_watch(self, subject: Subject, listener: Listener) -> CALLBACK_TYPE:
        """Call ``listener`` when ``subject`` changes; return a function that removes it."""
        self._listeners[subject].append(listener)
        return lambda: self._listeners[subject].remove(listener)

    @callback
    def _references_renewed(self) -> None:
        """Write the numbers that were held back and that something refers to now; find new automations."""
        for writes in tuple(self.held_writes):
            writes.release()
        self.reaction_times.automations_changed()
        self._call_listeners(AUTOMATIONS)

    async def _process_session(self, session: Session) -> None:
        """Process the messages of one session until it ends; raise a ``GatewayError``."""
        queue: asyncio.Queue[Heartbeat | Committed | Notified | Propose] = asyncio.Queue(_MAX_QUEUED)
        self._missed.session_opened()
        self.reaction_times.session_opened()
        session.processed_fn = self._missed.confirm
        self._snapshot_applied.clear()
        ended: GatewayError | None = None
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._receive_messages(session, queue), name="process_cosmos reader")
                # A task of its own, so that changes of devices do not wait for the disk write of an alert message.
                group.create_task(self._process_alert_messages(queue), name="process_cosmos alert messages")
                group.create_task(self._reset_backoff_when_ready(session), name="process_cosmos opening")
        except* GatewayError as errors:
            ended = next(error for error in errors.exceptions if isinstance(error, GatewayError))
        finally:
            self._alerts.gateway_sync.async_session_closed()
            self._destination_issues.stop()
            self._missed.session_closed()
        if ended:
            raise ended

    async def _reset_backoff_when_ready(self, session: Session) -> None:
        """Reset the backoff once the alerts were sent and a snapshot was applied; a mere connection proves nothing."""
        await self._alerts.gateway_sync.async_session_opened(session.hello, session.send)
        await self._snapshot_applied.wait()
        self.connection.reset_backoff()

    async def _receive_messages(
        self, session: Session, queue: asyncio.Queue[Heartbeat | Committed | Notified | Propose]
    ) -> None:
        await session.send(
            Subscribe(
                run=self._alerts.run,
                after=self.devices.sequence,
                report_missed=True,
                confirmed=self._missed.confirmed,
            ),
        )
        async for message in session.messages():
            if isinstance(message, Heartbeat | Committed | Notified | Propose):
                self._alerts.gateway_presence.async_mark_active()
                if isinstance(message, Heartbeat):
                    self.reaction_times.note(message)
                await queue.put(message)
            elif isinstance(message, Snapshot):
                await self._apply_snapshot(message)
            else:
                self._dispatch(message)

    async def _process_alert_messages(self, queue: asyncio.Queue[Heartbeat | Committed | Notified | Propose]) -> None:
        while True:
            await self._alerts.gateway_sync.async_receive(await queue.get())

    @callback
    def _dispatch(self, message: FromGateway) -> None:
        match message:
            case Status():
                self._apply_status(message)
            case MissedChangesReport():
                self._missed.report(message)
            case DeviceChanged() | DeviceRemoved() | ValueChanged() | AvailabilityChanged() | EventHappened():
                self._apply_change(message)

    async def _apply_snapshot(self, snapshot: Snapshot) -> None:
        """Replace the state of all devices; a snapshot proves that the session works."""
        # Missing devices stay in the device registry, because a gateway that lost its database must not delete the
        # names and areas of people. A person can delete them.
        self._missed.compare(snapshot.devices)
        removed = self.devices.apply_snapshot(snapshot)
        self._snapshot_applied.set()
        self.connection.mark_working()
        self._polarity_issue.update_all(snapshot.devices)
        # Before the first await: the next snapshot cannot tell which devices were missing from this one.
        for device_id in removed:
            self._call_listeners(device_id)
        for number, device in enumerate(snapshot.devices):
            register_device(self.hass, self.entry, device)
            self._call_listeners(DEVICES, DeviceUpdate(device=device.id))
            self._call_listeners(device.id)
            if number % _DEVICES_AT_ONCE == 0:
                await asyncio.sleep(0)  # a thousand devices must not block the event loop

    def _apply_change(self, change: DeviceChange) -> None:
        self.connection.mark_available()
        update = self.devices.apply_change(change, time.monotonic())
        match change:
            case DeviceChanged(device=device):
                register_device(self.hass, self.entry, device)
                self._polarity_issue.update_device(device.id, device)
                self._call_listeners(DEVICES, DeviceUpdate(device=device.id))
            case DeviceRemoved(device=device_id):
                remove_device(self.hass, self.entry, device_id)
                self._polarity_issue.update_device(device_id, None)
        if update:
            with self.reaction_times.caused_by(change):
                self._call_listeners(update.device, update)

    def _apply_status(self, status: Status) -> None:
        old = self.status
        now = dt_util.utcnow()
        contacts = [link.last_contact_age for link in status.links if link.last_contact_age is not None]
        self.status = SiteStatus(
            status=status,
            oldest_waiting=_timestamp(now, status.oldest_waiting_age, old.oldest_waiting if old else None),
            last_contact=_timestamp(now, min(contacts, default=None), old.last_contact if old else None),
        )
        show_status(self.hass, self.entry, status)
        self._destination_issues.show(status)
        self._call_listeners(STATUS)

    def _call_listeners(self, subject: Subject, update: DeviceUpdate | None = None) -> None:
        for listener in tuple(self._listeners[subject]):
            listener(update)

    def _call_all_listeners(self) -> None:
        for subject in tuple(self._listeners):
            self._call_listeners(subject)


def _timestamp(now: datetime, age: float | None, old: datetime | None) -> datetime | None:
    """Convert an age in seconds to a timestamp; return ``old`` within the jitter, so that no state is written."""
    if age is None:
        return None
    timestamp = now - duration(age)
    return old if old and abs(timestamp - old) < _JITTER else timestamp.replace(microsecond=0)
