"""Presence of the gateway: since when destinations cannot be reached through it."""

from collections.abc import Callable
from datetime import datetime

from homeassistant.core import CALLBACK_TYPE, HassJob, HomeAssistant, callback
from homeassistant.helpers.event import async_call_later

AWAY_AFTER_SESSION = 2.0
"""Seconds after the end of a session after which destinations count as not reached: a gateway restarts sooner."""

AWAY_WITHOUT_ANSWER = 5.0
"""The same after a transition that the gateway does not confirm: long before its silence ends the session."""


class GatewayPresence:
    """The gateway counts as present in a session, unless it owes an answer, and shortly after it."""

    def __init__(self, hass: HomeAssistant, now_fn: Callable[[], datetime]) -> None:
        """Begin with the gateway away, or not configured, since now."""
        self._hass = hass
        self._now_fn = now_fn
        self.away_since: datetime | None = now_fn()
        """Time since which the gateway is away or not configured; None while it is present."""
        self._on_change: Callable[[], None] = lambda: None
        self._timer: CALLBACK_TYPE | None = None

    def listen(self, on_change: Callable[[], None]) -> None:
        """Call ``on_change`` whenever the gateway comes or goes."""
        self._on_change = on_change

    @callback
    def async_mark_active(self) -> None:
        """Mark the gateway as present.

        Called as soon as a message arrives, because processing it may wait for a slow disk.
        """
        self.async_stop()
        if self.away_since is not None:
            self.away_since = None
            self._on_change()

    @callback
    def async_expect_answer(self) -> None:
        """Count the gateway as away if no message arrives in time."""
        if not self._timer:
            self._start_timer(AWAY_WITHOUT_ANSWER)

    @callback
    def async_session_closed(self) -> None:
        """Count the gateway as away unless a message of a new session arrives in time."""
        self.async_stop()
        self._start_timer(AWAY_AFTER_SESSION)

    @callback
    def async_stop(self) -> None:
        """Cancel the timeout; ``away_since`` keeps its value."""
        if self._timer:
            self._timer()
            self._timer = None

    def _start_timer(self, seconds: float) -> None:
        if self.away_since is None:
            job = HassJob(self._mark_away, "process_cosmos gateway away", cancel_on_shutdown=True)
            self._timer = async_call_later(self._hass, seconds, job)

    @callback
    def _mark_away(self, _now: datetime) -> None:
        self._timer = None
        self.away_since = self._now_fn()
        self._on_change()
