"""Repair issues of destinations: for a refusal at once, for an offline destination after an hour."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial

from homeassistant.config_entries import ConfigEntry
from homeassistant.core import CALLBACK_TYPE, HomeAssistant, callback
from homeassistant.helpers.event import async_call_later
from homeassistant.util import dt as dt_util

from custom_components.process_cosmos.alerts.safe_duration import duration
from custom_components.process_cosmos.contract.destinations import Link, LinkState, Status, Waiting
from custom_components.process_cosmos.gateway.destination_texts import label_of, reason_sentence
from custom_components.process_cosmos.texts import quoted

from .site_issues import Issue, clear_other_issues, create_issue

OFFLINE_FOR = timedelta(hours=1)

_UNTRIED = "untried"
"""Reason of a link over which nothing was sent since the app started: it may work."""


class DestinationIssues:
    """Creates and deletes the issues of the destinations of a site."""

    def __init__(self, hass: HomeAssistant, entry: ConfigEntry) -> None:
        """Start without knowledge of the destinations of the site."""
        self._hass = hass
        self._entry = entry
        self._timer: CALLBACK_TYPE | None = None

    @callback
    def show(self, status: Status) -> None:
        """Create the issues for ``status``, delete all others, and check again when the next one is due."""
        # The wire has ages, because the clocks of the two sides may be hours apart.
        received = dt_util.utcnow()
        offline = [link for link in status.links if link.state is LinkState.OFFLINE and link.reason != _UNTRIED]
        self._update(status, [(received - duration(link.state_age) + OFFLINE_FOR, link) for link in offline], received)

    @callback
    def stop(self) -> None:
        """Cancel the pending check: without a session the state of the destinations is unknown."""
        if self._timer:
            self._timer()
            self._timer = None

    @callback
    def _update(self, status: Status, offline: Sequence[tuple[datetime, Link]], now: datetime) -> None:
        """Show refused links, and those ``offline`` (each with the time when it is due) for long enough."""
        self.stop()
        refused = [link for link in status.links if link.state is LinkState.REFUSED]
        due = [link for at, link in offline if at <= now]
        for issue, links in ((Issue.DESTINATION_REFUSED, refused), (Issue.DESTINATION_OFFLINE, due)):
            clear_other_issues(self._hass, self._entry, issue, [link.name for link in links])
            for link in links:
                create_issue(
                    self._hass, self._entry, issue, about=link.name, **self._placeholders(link, status.waiting)
                )
        if later := [at for at, _ in offline if at > now]:
            self._timer = async_call_later(self._hass, min(later) - now, partial(self._update, status, offline))

    def _placeholders(self, link: Link, waiting: Waiting) -> Mapping[str, str]:
        reason = reason_sentence(self._hass, link.reason or link.state)
        return {
            "destination": label_of(link),
            "address": link.address,
            "reason": f"{reason} {quoted(link.detail)}".strip(),
            "waiting": _order_of_magnitude(waiting.urgent + waiting.change + waiting.reading),
        }


def _order_of_magnitude(count: int) -> str:
    """Return a number from ten on as a power of ten: an exact number would rewrite the issue every second."""
    return f"{10 ** (len(str(count)) - 1)}+" if count >= 10 else str(count)  # noqa: PLR2004 - the base
