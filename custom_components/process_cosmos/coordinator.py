"""The connection of a site to its gateway: devices, status and the exchange of alerts."""

import asyncio
import contextlib
import random
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from homeassistant.config_entries import ConfigEntry
from homeassistant.const import CONF_TOKEN, CONF_URL, EVENT_HOMEASSISTANT_STOP
from homeassistant.core import CALLBACK_TYPE, Event, HomeAssistant, callback
from homeassistant.helpers.event import async_call_later
from homeassistant.util import dt as dt_util

from .alerts.durations import duration
from .alerts.engine import Alerts
from .const import AVAILABLE_FOR, CONF_SHA256, CONF_SITE, DOMAIN, LOGGER, UNREACHABLE_AFTER, VERSION
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
from .contract.errors import Code
from .contract.messages import DeviceChange, FromGateway, Request
from .contract.session import Committed, Heartbeat, Stopping
from .contract.versions import SCHEMA
from .errors import refusal
from .flows.app_installation import async_find_app, is_supervised_app
from .flows.gateway_requests import GatewayAccess, async_connect
from .gateway.backoff import next_delay
from .gateway.client import (
    GATEWAY_AWAY,
    FrameInvalidError,
    GatewayAwayError,
    GatewayError,
    GatewayRefusedError,
    Reply,
    Session,
)
from .gateway.devices import DeviceStates, DeviceUpdate
from .gateway.missed_changes import MissedChanges
from .gateway.registry import register_device, register_version, remove_device
from .issues.destination_issues import DestinationIssues
from .issues.frame_issue import FrameIssue
from .issues.polarity import PolarityIssue
from .issues.site_issues import (
    ISSUES_OF_CODES,
    LINK_ISSUES,
    Issue,
    clear_issues,
    create_issue,
    end_reauth,
    show_other_gateway,
)
from .issues.status_issues import show_status
from .texts import quoted

_REFUSED_FAILURES = 8
"""A refusal needs a person, so wait as long as after this many failures."""

_MAX_QUEUED = 1000
"""Messages about alerts that may wait for the record log; a full queue slows down reading from the gateway."""

_DEVICES_AT_ONCE = 10
"""Devices processed before control returns to the event loop."""

type Subject = str | tuple[str]
"""The subject of a listener: a device id, which may be any text, or ``DEVICES`` or ``STATUS``, which are tuples."""

DEVICES: Subject = ("devices",)
STATUS: Subject = ("status",)

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
    """Keeps a session with the gateway of one site open and holds the state of its devices."""

    def __init__(self, hass: HomeAssistant, entry: ConfigEntry, alerts: Alerts) -> None:
        """Prepare a client for the gateway of the entry; ``async_start`` connects."""
        self.entry = entry
        self.devices = DeviceStates()
        self.status: SiteStatus | None = None
        self.available = False
        """Whether the held state is valid: the session is open, or was lost less than 10 s ago."""
        self.session: Session | None = None
        self.hass = hass
        self._alerts = alerts
        data = entry.data
        self._access = GatewayAccess(
            site=data[CONF_SITE], url=data[CONF_URL], token=data[CONF_TOKEN], sha256=data[CONF_SHA256]
        )
        self._listeners: dict[Subject, list[Listener]] = defaultdict(list)
        self._failures = 0
        self._refused = False
        self._snapshot_applied = asyncio.Event()
        self._missed = MissedChanges(hass, entry, alerts.sender, self.devices)
        self._away_timers: list[CALLBACK_TYPE] = []
        self._destination_issues = DestinationIssues(hass, entry)
        self._frame_issue = FrameIssue(hass, entry)
        self._polarity_issue = PolarityIssue(hass, entry)
        self._stop_listening: CALLBACK_TYPE | None = None
        self._task: asyncio.Task[None]

    @callback
    def async_start(self) -> None:
        """Connect in the background, and reconnect whenever the session ends."""
        self._start_away_timers()
        self._stop_listening = self.hass.bus.async_listen_once(EVENT_HOMEASSISTANT_STOP, self._announce_stop)
        self._task = self.entry.async_create_background_task(
            self.hass, self._keep_connected(), f"{DOMAIN} {self.entry.title} link"
        )

    async def async_stop(self) -> None:
        """Close the session and cancel all timers."""
        if self._stop_listening:
            self._stop_listening()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._destination_issues.stop()
        self._cancel_away_timers()

    @callback
    def async_watch(self, subject: Subject, listener: Listener) -> CALLBACK_TYPE:
        """Call ``listener`` when ``subject`` changes; return a function that removes it."""
        self._listeners[subject].append(listener)
        return lambda: self._listeners[subject].remove(listener)

    async def async_request(self, message: Request) -> Reply:
        """Send a request and return its reply; raise a coded ``HomeAssistantError``, at once without a session."""
        try:
            return await self.async_send_request(message)
        except GatewayError as error:
            raise refusal(error) from error

    async def async_send_request(self, message: Request) -> Reply:
        """Send a request and return its reply; raise ``GatewayError``, at once without a session."""
        if not self.session:
            raise GatewayAwayError(GATEWAY_AWAY, "The gateway is not connected")
        return await self.session.request(message)

    async def _keep_connected(self) -> None:
        while True:
            try:
                run, entry_id = self._alerts.run, self.entry.entry_id
                async with await async_connect(self.hass, self._access, run=run, entry=entry_id) as session:
                    await self._serve(session)
            except GatewayRefusedError as error:
                self._failures = max(self._failures, _REFUSED_FAILURES)
                await self._show_refusal(error)
            except GatewayAwayError as error:
                self._restart_unreachable_timer()
                LOGGER.debug("%s: %s", self.entry.title, error)
            except Exception:  # noqa: BLE001 - a bug in one session must not stop reconnecting
                LOGGER.exception("The session with the gateway of %s failed", self.entry.title)
            self._failures += 1
            await asyncio.sleep(next_delay(self._failures, random.random()))  # noqa: S311 - jitter, not a secret

    async def _serve(self, session: Session) -> None:
        """Process one session until it ends; raise a ``GatewayError``."""
        queue: asyncio.Queue[Heartbeat | Committed | Notified | Propose] = asyncio.Queue(_MAX_QUEUED)
        gateway_sync = self._alerts.gateway_sync
        self._session_opened(session)
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
            gateway_sync.async_session_closed()
            self._session_closed()
        if ended:
            raise ended

    async def _reset_backoff_when_ready(self, session: Session) -> None:
        """Reset the backoff once the alerts were sent and a snapshot was applied; a mere connection proves nothing."""
        await self._alerts.gateway_sync.async_session_opened(session.hello, session.send)
        await self._snapshot_applied.wait()
        self._failures = 0

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
        self._refused = False
        self._show_available()
        self._cancel_away_timers()
        clear_issues(self.hass, self.entry, *LINK_ISSUES)
        end_reauth(self.hass, self.entry)
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
        self._show_available()
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

    def _session_opened(self, session: Session) -> None:
        self.session = session
        self._missed.session_opened()
        session.processed_fn = self._missed.confirm
        session.invalid_fn = self._frame_issue.show
        self._frame_issue.session_opened(session.hello)
        self._snapshot_applied.clear()
        register_version(self.hass, self.entry, session.hello.version)
        if session.hello.schema < SCHEMA:
            create_issue(self.hass, self.entry, Issue.APP_OLDER, app=session.hello.version, integration=VERSION)
        else:
            clear_issues(self.hass, self.entry, Issue.APP_OLDER)

    def _session_closed(self) -> None:
        self.session = None
        self._destination_issues.stop()
        self._frame_issue.session_closed()
        self._missed.session_closed()
        if not self._away_timers:
            self._start_away_timers()

    def _show_available(self) -> None:
        """Show entities as available, for as long as a snapshot may take to arrive."""
        if not self.available and self.session:
            LOGGER.info("%s: connected to the gateway, version %s", self.entry.title, self.session.hello.version)
            self.available = True
            self._cancel_away_timers()
            self._start_away_timers()

    def _start_away_timers(self) -> None:
        self._away_timers = [
            async_call_later(self.hass, AVAILABLE_FOR, self._become_unavailable),
            async_call_later(self.hass, UNREACHABLE_AFTER, self._show_unreachable),
        ]

    def _cancel_away_timers(self) -> None:
        while self._away_timers:
            self._away_timers.pop()()

    def _restart_unreachable_timer(self) -> None:
        """Start the timer of the unreachable issue for a gateway that refused before and does not respond now."""
        if self._refused:
            self._refused = False
            self._away_timers.append(async_call_later(self.hass, UNREACHABLE_AFTER, self._show_unreachable))

    @callback
    def _become_unavailable(self, _: datetime) -> None:
        if self.available:
            LOGGER.info("%s: no connection to the gateway, its entities are unavailable", self.entry.title)
            self.available = False
            self._call_all_listeners()

    @callback
    def _show_unreachable(self, _: datetime) -> None:
        # A gateway whose snapshot cannot be read has an issue of its own.
        if not self._refused and not (self.session and self._frame_issue.is_shown):
            create_issue(self.hass, self.entry, Issue.GATEWAY_UNREACHABLE, url=self.entry.data[CONF_URL])

    async def _show_refusal(self, error: GatewayRefusedError) -> None:
        self._refused = True
        is_other = error.code == Code.IDENTITY_MISMATCH or await self._is_app_replaced(error)
        clear_issues(self.hass, self.entry, *LINK_ISSUES)
        if is_other:
            show_other_gateway(self.hass, self.entry)
        elif isinstance(error, FrameInvalidError):
            self._frame_issue.show(str(error), error.gateway)
        elif error.code == Code.UNAUTHORIZED:
            self.entry.async_start_reauth(self.hass)
        else:
            issue = ISSUES_OF_CODES.get(error.code, Issue.REFUSED)
            create_issue(self.hass, self.entry, issue, url=self.entry.data[CONF_URL], code=quoted(error.code))
        LOGGER.debug("%s: %s: %s", self.entry.title, error.code, error)

    async def _is_app_replaced(self, error: GatewayRefusedError) -> bool:
        """Return whether the Supervisor's app now has another identity: it has lost its data and rejects the token."""
        if error.code != Code.UNAUTHORIZED or not is_supervised_app(self.hass, self.entry.data):
            return False
        found = await async_find_app(self.hass, self.entry.data[CONF_URL])
        return found is not None and found.site != self.entry.data[CONF_SITE]

    async def _announce_stop(self, _: Event) -> None:
        self._stop_listening = None
        if self.session:
            with contextlib.suppress(GatewayAwayError):
                await self.session.confirm()  # no automation runs from here on, so later changes count as missed
                await self.session.send(Stopping())


def _timestamp(now: datetime, age: float | None, old: datetime | None) -> datetime | None:
    """Convert an age in seconds to a timestamp; return ``old`` within the jitter, so that no state is written."""
    if age is None:
        return None
    timestamp = now - duration(age)
    return old if old and abs(timestamp - old) < _JITTER else timestamp.replace(microsecond=0)
