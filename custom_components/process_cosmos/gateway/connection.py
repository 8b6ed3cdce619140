"""The life of the connection to a gateway: connect, reconnect, report refusals and long absence."""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime

from homeassistant.config_entries import ConfigEntry
from homeassistant.const import EVENT_HOMEASSISTANT_STOP
from homeassistant.core import CALLBACK_TYPE, Event, HomeAssistant, callback
from homeassistant.helpers.event import async_call_later

from custom_components.process_cosmos.const import AVAILABLE_FOR, DOMAIN, LOGGER, UNREACHABLE_AFTER, VERSION
from custom_components.process_cosmos.contract.errors import Code
from custom_components.process_cosmos.contract.identifiers import Ulid
from custom_components.process_cosmos.contract.messages import Request
from custom_components.process_cosmos.contract.session import Stopping
from custom_components.process_cosmos.contract.versions import SCHEMA
from custom_components.process_cosmos.flows.app_installation import async_find_app, is_supervised_app
from custom_components.process_cosmos.flows.gateway_requests import GatewayAccess, async_connect
from custom_components.process_cosmos.issues.frame_issue import FrameIssue
from custom_components.process_cosmos.issues.site_issues import (
    ISSUES_OF_CODES,
    LINK_ISSUES,
    Issue,
    clear_issues,
    create_issue,
    end_reauth,
    show_issue,
    show_other_gateway,
)
from custom_components.process_cosmos.texts import quoted

from .backoff import next_delay
from .client import (
    GATEWAY_AWAY,
    FrameInvalidError,
    GatewayAwayError,
    GatewayError,
    GatewayRefusedError,
    Reply,
    Session,
)
from .refusal import refusal
from .registry import register_version

_REFUSED_FAILURES = 8
"""A refusal needs a person, so wait as long as after this many failures."""


@dataclass(eq=False, repr=False)
class GatewayConnection:
    """Keeps a session with the gateway of one site open, once ``async_start`` is called.

    ``process_fn`` processes a session until it ends, and raises the ``GatewayError`` that ended it.
    ``on_unavailable`` is called when ``available`` becomes false.
    """

    hass: HomeAssistant
    entry: ConfigEntry
    access: GatewayAccess
    run: Ulid
    process_fn: Callable[[Session], Awaitable[None]]
    on_unavailable: Callable[[], None]
    session: Session | None = field(init=False, default=None)
    available: bool = field(init=False, default=False)
    """Whether the received state is valid: the session is open, or was lost less than 10 s ago."""
    _failures: int = field(init=False, default=0)
    _refused: bool = field(init=False, default=False)
    _away_timers: list[CALLBACK_TYPE] = field(init=False, default_factory=list)
    _stop_listening: CALLBACK_TYPE | None = field(init=False, default=None)
    _task: asyncio.Task[None] = field(init=False)

    def __post_init__(self) -> None:
        """Begin without an unreadable frame."""
        self._frame_issue = FrameIssue(self.hass, self.entry)

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
        self._cancel_away_timers()

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

    @callback
    def mark_available(self) -> None:
        """Show entities as available, for as long as a snapshot may take to arrive."""
        if not self.available and self.session:
            LOGGER.info("%s: connected to the gateway, version %s", self.entry.title, self.session.hello.version)
            self.available = True
            self._cancel_away_timers()
            self._start_away_timers()

    @callback
    def mark_working(self) -> None:
        """Show entities as available until the session ends, and delete the issues of the connection."""
        self._refused = False
        self.mark_available()
        self._cancel_away_timers()
        clear_issues(self.hass, self.entry, *LINK_ISSUES)
        end_reauth(self.hass, self.entry)

    @callback
    def reset_backoff(self) -> None:
        """Reconnect without delay after the session ends."""
        self._failures = 0

    async def _keep_connected(self) -> None:
        while True:
            try:
                async with await async_connect(
                    self.hass, self.access, run=self.run, entry=self.entry.entry_id
                ) as session:
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

    def _show_version(self, session: Session) -> None:
        register_version(self.hass, self.entry, session.hello.version)
        versions = {"app": session.hello.version, "integration": VERSION}
        show_issue(self.hass, self.entry, Issue.APP_OLDER, versions if session.hello.schema < SCHEMA else None)

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
            self.on_unavailable()

    @callback
    def _show_unreachable(self, _: datetime) -> None:
        # A gateway whose snapshot cannot be read has an issue of its own.
        if not self._refused and not (self.session and self._frame_issue.is_shown):
            create_issue(self.hass, self.entry, Issue.GATEWAY_UNREACHABLE, url=self.access.url)

    async def _serve(self, session: Session) -> None:
        """Process one session until it ends; raise a ``GatewayError``."""
        self.session = session
        session.invalid_fn = self._frame_issue.show
        self._frame_issue.session_opened(session.hello)
        self._show_version(session)
        try:
            await self.process_fn(session)
        finally:
            self.session = None
            self._frame_issue.session_closed()
            if not self._away_timers:
                self._start_away_timers()

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
            create_issue(self.hass, self.entry, issue, url=self.access.url, code=quoted(error.code))
        LOGGER.debug("%s: %s: %s", self.entry.title, error.code, error)

    async def _is_app_replaced(self, error: GatewayRefusedError) -> bool:
        """Return whether the Supervisor's app now has another identity: it has lost its data and rejects the token."""
        if error.code != Code.UNAUTHORIZED or not is_supervised_app(self.hass, self.entry.data):
            return False
        found = await async_find_app(self.hass, self.access.url)
        return found is not None and found.site != self.access.site

    async def _announce_stop(self, _: Event) -> None:
        self._stop_listening = None
        if self.session:
            with contextlib.suppress(GatewayAwayError):
                await self.session.confirm()  # no automation runs from here on, so later changes count as missed
                await self.session.send(Stopping())
