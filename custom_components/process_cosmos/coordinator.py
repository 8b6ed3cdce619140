"""Keeps a session with the gateway open; holds devices and status, and hands alerts over."""

import asyncio
import contextlib
import random
import time
import uuid
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from homeassistant.const import CONF_TOKEN, CONF_URL, EVENT_HOMEASSISTANT_STOP
from homeassistant.core import CALLBACK_TYPE, Event, HomeAssistant, callback
from homeassistant.helpers import instance_id
from homeassistant.helpers.aiohttp_client import async_get_clientsession
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
from .contract.session import MIN_SCHEMA, SCHEMA, HomeAssistantHello, Receipt, Stopping
from .data import CosmosConfigEntry
from .errors import refusal
from .flows.app_installation import async_find_app, is_supervised_app
from .gateway.backoff import next_delay
from .gateway.client import (
    GATEWAY_AWAY,
    GatewayAwayError,
    GatewayClient,
    GatewayError,
    GatewayRefusedError,
    Reply,
    Session,
)
from .gateway.devices import DeviceStates, DeviceUpdate
from .gateway.missed_changes import MissedChanges
from .gateway.registry import register_device, register_version, remove_device
from .issues.destination_issues import DestinationIssues
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
"""A refusal needs a person: wait as long as after this many failures."""

_MOST_WAITING = 1000
"""Messages about alerts waiting for the memory; beyond, the gateway is read more slowly."""

_DEVICES_AT_ONCE = 10
"""Devices shown before the rest of the event loop has its turn."""

type Subject = str | tuple[str]
"""What is watched: a device, by its id, which may be any text; or ``DEVICES`` or ``STATUS``, which are no text."""

DEVICES: Subject = ("devices",)
STATUS: Subject = ("status",)

_STEADY = timedelta(seconds=30)
"""Moments computed from ages move by less than this without anything having happened."""

type Listener = Callable[[DeviceUpdate | None], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteStatus:
    """The gateway's status with moments instead of ages."""

    status: Status
    oldest_waiting: datetime | None
    last_contact: datetime | None


class CosmosCoordinator:
    """One site's link to its gateway."""

    def __init__(self, hass: HomeAssistant, entry: CosmosConfigEntry, alerts: Alerts) -> None:
        """Take what the entry knows of the gateway; connects when started."""
        self.entry = entry
        self.devices = DeviceStates()
        self.status: SiteStatus | None = None
        self.available = False
        """Whether what is held still counts: the link is open, or dropped less than 10 s ago."""
        self.session: Session | None = None
        self.hass = hass
        self._alerts = alerts
        data = entry.data
        self._client = GatewayClient(async_get_clientsession(hass), data[CONF_URL], data[CONF_TOKEN], data[CONF_SHA256])
        self._listeners: dict[Subject, list[Listener]] = defaultdict(list)
        self._failures = 0
        self._refused = False
        self._shown = asyncio.Event()
        self._missed = MissedChanges(hass, entry, alerts.sender, self.devices)
        self._away_timers: list[CALLBACK_TYPE] = []
        self._destination_issues = DestinationIssues(hass, entry)
        self._polarity_issue = PolarityIssue(hass, entry)
        self._stop_listening: CALLBACK_TYPE | None = None
        self._task: asyncio.Task[None]

    @callback
    def async_start(self) -> None:
        """Connect in the background, and again whenever the session ends."""
        self._start_away_timers()
        self._stop_listening = self.hass.bus.async_listen_once(EVENT_HOMEASSISTANT_STOP, self._announce_stop)
        self._task = self.entry.async_create_background_task(
            self.hass, self._keep_connected(), f"{DOMAIN} {self.entry.title} link"
        )

    async def async_stop(self) -> None:
        """Close the session and forget the timers."""
        if self._stop_listening:
            self._stop_listening()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._destination_issues.stop()
        self._cancel_away_timers()

    @callback
    def async_watch(self, subject: Subject, listener: Listener) -> CALLBACK_TYPE:
        """Call ``listener`` when ``subject`` (a device's id, ``STATUS`` or ``DEVICES``) changes; return how to stop."""
        self._listeners[subject].append(listener)
        return lambda: self._listeners[subject].remove(listener)

    async def async_request(self, message: Request) -> Reply:
        """Ask the gateway; raise ``HomeAssistantError`` with its code, at once when it is away."""
        try:
            return await self.async_send_request(message)
        except GatewayError as error:
            raise refusal(error) from error

    async def async_send_request(self, message: Request) -> Reply:
        """Ask the gateway; raise ``GatewayError``, at once when it is away."""
        if not self.session:
            raise GatewayAwayError(GATEWAY_AWAY, "The gateway is away")
        return await self.session.request(message)

    async def _keep_connected(self) -> None:
        while True:
            try:
                async with await self._client.connect(await self._hello()) as session:
                    await self._serve(session)
            except GatewayRefusedError as error:
                self._failures = max(self._failures, _REFUSED_FAILURES)
                await self._show_refusal(error)
            except GatewayAwayError as error:
                self._note_silence()
                LOGGER.debug("%s: %s", self.entry.title, error)
            except Exception:  # noqa: BLE001 - a bug met in one session must not end the link for good
                LOGGER.exception("The session with the gateway of %s failed", self.entry.title)
            self._failures += 1
            await asyncio.sleep(next_delay(self._failures, random.random()))  # noqa: S311 - spreads load, no secret

    async def _hello(self) -> HomeAssistantHello:
        return HomeAssistantHello(
            schema=SCHEMA,
            min_schema=MIN_SCHEMA,
            version=VERSION,
            instance=await instance_id.async_get(self.hass),
            run=self._alerts.run,
            entry=self.entry.entry_id,
        )

    async def _serve(self, session: Session) -> None:
        """Serve one session until it ends; raises a ``GatewayError``."""
        if session.hello.site != self.entry.data[CONF_SITE]:
            raise GatewayRefusedError(Code.IDENTITY_MISMATCH, "The gateway of another site answers there")
        waiting: asyncio.Queue[Receipt | Notified | Propose] = asyncio.Queue(_MOST_WAITING)
        gateway_sync = self._alerts.gateway_sync
        self._opened(session)
        ended: GatewayError | None = None
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._read(session, waiting), name="process_cosmos reader")
                # The edges of devices do not wait until the memory has put a message about an alert on disk.
                group.create_task(self._process_alert_messages(waiting), name="process_cosmos handover")
                group.create_task(self._reset_backoff_when_ready(session), name="process_cosmos opening")
        except* GatewayError as errors:
            ended = next(error for error in errors.exceptions if isinstance(error, GatewayError))
        finally:
            gateway_sync.async_session_closed()
            self._closed()
        if ended:
            raise ended

    async def _reset_backoff_when_ready(self, session: Session) -> None:
        """Begin the backoff anew on proof of work, not of a connection: the log is sent, the devices are here."""
        await self._alerts.gateway_sync.async_session_opened(session.hello, session.send)
        await self._shown.wait()
        self._failures = 0

    async def _read(self, session: Session, waiting: asyncio.Queue[Receipt | Notified | Propose]) -> None:
        await session.send(
            Subscribe(
                id=uuid.uuid4().hex,
                run=self._alerts.run,
                after=self.devices.sequence,
                report_missed=True,
                confirmed=self._missed.confirmed,
            ),
        )
        async for message in session.messages():
            if isinstance(message, Receipt | Notified | Propose):
                self._alerts.gateway_sync.async_heard()
                await waiting.put(message)
            elif isinstance(message, Snapshot):
                await self._apply_snapshot(message)
            else:
                self._receive(message)

    async def _process_alert_messages(self, waiting: asyncio.Queue[Receipt | Notified | Propose]) -> None:
        while True:
            await self._alerts.gateway_sync.async_receive(await waiting.get())

    @callback
    def _receive(self, message: FromGateway) -> None:
        match message:
            case Status():
                self._apply_status(message)
            case MissedChangesReport():
                self._missed.report(message)
            case DeviceChanged() | DeviceRemoved() | ValueChanged() | AvailabilityChanged() | EventHappened():
                self._apply_change(message)

    async def _apply_snapshot(self, snapshot: Snapshot) -> None:
        """Show all devices as they are: the proof that the link works."""
        # What is gone keeps its entry in the registry: a gateway with an empty store must not cost people their
        # names and areas. A person can delete it.
        self._missed.compare(snapshot.devices)
        gone = self.devices.apply_snapshot(snapshot)
        self._shown.set()
        self._refused = False
        self._show_available()
        self._cancel_away_timers()
        clear_issues(self.hass, self.entry, *LINK_ISSUES)
        end_reauth(self.hass, self.entry)
        self._polarity_issue.update_all(snapshot.devices)
        # Before the loop gives way to others: the next snapshot does not know what was there before this one.
        for device_id in gone:
            self._call_listeners(device_id)
        for number, device in enumerate(snapshot.devices):
            register_device(self.hass, self.entry, device)
            self._call_listeners(DEVICES, DeviceUpdate(device=device.id))
            self._call_listeners(device.id)
            if number % _DEVICES_AT_ONCE == 0:
                await asyncio.sleep(0)  # a thousand devices must not hold up everything else

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

    def _opened(self, session: Session) -> None:
        self.session = session
        self._missed.session_opened()
        session.processed_fn = self._missed.confirm
        self._shown.clear()
        register_version(self.hass, self.entry, session.hello.version)
        if session.hello.schema < SCHEMA:
            create_issue(self.hass, self.entry, Issue.APP_OLDER, app=session.hello.version, integration=VERSION)
        else:
            clear_issues(self.hass, self.entry, Issue.APP_OLDER)

    def _closed(self) -> None:
        self.session = None
        self._destination_issues.stop()
        self._missed.session_closed()
        if not self._away_timers:
            self._start_away_timers()

    def _show_available(self) -> None:
        """Let what is held count, edges that were missed included; only for as long as a snapshot may take."""
        if not self.available and self.session:
            LOGGER.info("%s: the gateway is there, version %s", self.entry.title, self.session.hello.version)
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

    def _note_silence(self) -> None:
        """What has refused us may go away for good: that is another issue."""
        if self._refused:
            self._refused = False
            self._away_timers.append(async_call_later(self.hass, UNREACHABLE_AFTER, self._show_unreachable))

    @callback
    def _become_unavailable(self, _: datetime) -> None:
        if self.available:
            LOGGER.info("%s: the gateway is away, its entities are unavailable", self.entry.title)
            self.available = False
            self._call_all_listeners()

    @callback
    def _show_unreachable(self, _: datetime) -> None:
        if not self._refused:
            create_issue(self.hass, self.entry, Issue.GATEWAY_UNREACHABLE, url=self.entry.data[CONF_URL])

    async def _show_refusal(self, error: GatewayRefusedError) -> None:
        self._refused = True
        is_other = error.code == Code.IDENTITY_MISMATCH or await self._is_another_beside(error)
        clear_issues(self.hass, self.entry, *LINK_ISSUES)
        if is_other:
            show_other_gateway(self.hass, self.entry)
        elif error.code == Code.UNAUTHORIZED:
            self.entry.async_start_reauth(self.hass)
        else:
            issue = ISSUES_OF_CODES.get(error.code, Issue.REFUSED)
            create_issue(self.hass, self.entry, issue, url=self.entry.data[CONF_URL], code=quoted(error.code))
        LOGGER.debug("%s: %s: %s", self.entry.title, error.code, error)

    async def _is_another_beside(self, error: GatewayRefusedError) -> bool:
        """Whether what does not know us is another app than before: the Supervisor's app has lost its data."""
        if error.code != Code.UNAUTHORIZED or not is_supervised_app(self.hass, self.entry.data):
            return False
        found = await async_find_app(self.hass, self.entry.data[CONF_URL])
        return found is not None and found.site != self.entry.data[CONF_SITE]

    async def _announce_stop(self, _: Event) -> None:
        self._stop_listening = None
        if self.session:
            with contextlib.suppress(GatewayAwayError):
                await self.session.confirm()  # from here on no automation is started: what comes counts as missed
                await self.session.send(Stopping())


def _timestamp(now: datetime, age: float | None, old: datetime | None) -> datetime | None:
    """Return when it was, the same as before unless something happened: a state is written only for news."""
    if age is None:
        return None
    moment = now - duration(age)
    return old if old and abs(moment - old) < _STEADY else moment.replace(microsecond=0)
