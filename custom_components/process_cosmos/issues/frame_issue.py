"""Repair issue about frames that the integration or the app cannot read."""

from datetime import datetime

from awesomeversion import AwesomeVersion, AwesomeVersionException
from homeassistant.config_entries import ConfigEntry
from homeassistant.core import CALLBACK_TYPE, HomeAssistant, callback
from homeassistant.helpers.event import async_call_later

from custom_components.process_cosmos.const import VERSION
from custom_components.process_cosmos.contract.session import GatewayHello, Versions
from custom_components.process_cosmos.contract.versions import SCHEMA
from custom_components.process_cosmos.texts import quoted

from .site_issues import FRAME_ISSUES, Issue, clear_issues, create_issue

CLEARED_AFTER = 60.0
"""Seconds of a session without such a frame after which the issue is deleted."""


class FrameIssue:
    """Creates the issue when a frame cannot be read, and deletes it in a session in which all frames can be."""

    def __init__(self, hass: HomeAssistant, entry: ConfigEntry) -> None:
        """Start without a session."""
        self.is_shown = False
        """Whether a frame of this session, or of the last attempt to open one, could not be read."""
        self._hass = hass
        self._entry = entry
        self._gateway: GatewayHello | Versions | None = None
        self._timer: CALLBACK_TYPE | None = None

    @callback
    def session_opened(self, hello: GatewayHello) -> None:
        """Note the gateway's versions, and delete the issue unless a frame cannot be read within a minute."""
        self.session_closed()
        self.is_shown = False
        self._gateway = hello
        self._timer = async_call_later(self._hass, CLEARED_AFTER, self._clear)

    @callback
    def session_closed(self) -> None:
        """Keep the issue as it is until a session proves otherwise."""
        if self._timer:
            self._timer()
            self._timer = None

    @callback
    def show(self, frame: str, gateway: Versions | None = None) -> None:
        """Create the issue about a ``frame``: path and reason. ``gateway``: its versions, if they are newly known."""
        self.session_closed()
        self.is_shown = True
        self._gateway = gateway or self._gateway
        issue = _issue_of(self._gateway)
        clear_issues(self._hass, self._entry, *(each for each in FRAME_ISSUES if each is not issue))
        app = self._gateway.version if self._gateway else "?"
        create_issue(self._hass, self._entry, issue, frame=quoted(frame), app=quoted(app), integration=VERSION)

    @callback
    def _clear(self, _: datetime) -> None:
        self._timer = None
        clear_issues(self._hass, self._entry, *FRAME_ISSUES)


def _issue_of(gateway: GatewayHello | Versions | None) -> Issue:
    """Return the issue for a gateway that is older, newer, or neither, by its schema and then by its version."""
    if gateway is None:
        return Issue.FRAME_INVALID
    try:
        here, there = (SCHEMA, AwesomeVersion(VERSION)), (gateway.schema, AwesomeVersion(gateway.version))
        is_older = there < here
    except AwesomeVersionException:  # a development build
        return Issue.FRAME_INVALID
    if is_older:
        return Issue.FRAME_APP_OLDER
    return Issue.FRAME_INVALID if here == there else Issue.FRAME_APP_NEWER
