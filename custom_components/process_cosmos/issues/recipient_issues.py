"""Repair issues of recipients that are not reached, or no longer exist."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

from homeassistant.config_entries import SIGNAL_CONFIG_ENTRY_CHANGED, ConfigEntry, ConfigEntryChange
from homeassistant.const import Platform
from homeassistant.core import CALLBACK_TYPE, Event, HomeAssistant, callback
from homeassistant.helpers import entity_registry as er
from homeassistant.helpers.dispatcher import async_dispatcher_connect
from homeassistant.helpers.event import async_call_later

from custom_components.process_cosmos.alerts.notification_results import GONE, FailureCode, NotificationResult, failed
from custom_components.process_cosmos.alerts.recipients import MOBILE_APP, recipient_name, shown_name
from custom_components.process_cosmos.const import CONF_NAMES, LOGGER
from custom_components.process_cosmos.contract.identifiers import PHONE
from custom_components.process_cosmos.issues.site_issues import Issue, clear_issues, create_issue, show_issue

FAILED_FOR = timedelta(hours=1)
"""How long notifications of a recipient have to fail until an issue is created."""

CHECK_AFTER = 5.0
"""Seconds to wait after a registry change: a phone that registers again is removed first, then added."""


class RecipientIssues:
    """Tracks since when each recipient fails, until Home Assistant stops, and creates and deletes the issues."""

    def __init__(
        self, hass: HomeAssistant, entry: ConfigEntry, recipients: Sequence[str], now: Callable[[], datetime]
    ) -> None:
        """Track the chosen ``recipients``. ``now``: the clock."""
        self._hass = hass
        self._entry = entry
        self._recipients = recipients
        self._now = now
        self._failing_since: dict[str, datetime] = {}
        self._cancels: list[CALLBACK_TYPE] = []
        self._cancel_check: CALLBACK_TYPE | None = None

    @property
    def nobody_left(self) -> bool:
        """Whether no chosen recipient exists, including the case that none is chosen."""
        return not any(recipient_name(self._hass, recipient) for recipient in self._recipients)

    @callback
    def start(self) -> None:
        """Check whether all recipients exist, now and after registry changes."""
        self._cancels = [
            async_dispatcher_connect(self._hass, SIGNAL_CONFIG_ENTRY_CHANGED, self._entry_changed),
            self._hass.bus.async_listen(er.EVENT_ENTITY_REGISTRY_UPDATED, self._entity_changed),
        ]
        self.check()

    @callback
    def stop(self) -> None:
        """Stop checking after registry changes; existing issues stay."""
        while self._cancels:
            self._cancels.pop()()
        if self._cancel_check:
            self._cancel_check()
            self._cancel_check = None

    @callback
    def learn(self, recipient: str, result: NotificationResult) -> None:
        """Record a notification result: log the first of consecutive failures, create an issue after an hour."""
        if result.code is None:
            self._failing_since.pop(recipient, None)
            clear_issues(self._hass, self._entry, Issue.RECIPIENT_FAILS, Issue.RECIPIENT_GONE, about=recipient)
            return
        now = self._now()
        if recipient not in self._failing_since:  # retried every minute, so log once
            self._failing_since[recipient] = now
            LOGGER.warning("%s: %s: %s", result.code, shown_name(self._hass, self._entry, recipient), result.sentence)
        if not self._cancels:
            return  # a notification that finished after the site was unloaded must not create an issue
        if result.code in GONE:
            self.check()
        elif recipient in self._recipients and now - self._failing_since[recipient] >= FAILED_FOR:
            self._show(Issue.RECIPIENT_FAILS, recipient, result)

    @callback
    def check(self) -> None:
        """Create issues for recipients that do not exist, and one if none is left."""
        self._remember_names()
        for recipient in self._recipients:
            if recipient_name(self._hass, recipient):
                clear_issues(self._hass, self._entry, Issue.RECIPIENT_GONE, about=recipient)
            else:
                clear_issues(self._hass, self._entry, Issue.RECIPIENT_FAILS, about=recipient)
                gone = FailureCode.PHONE_GONE if recipient.startswith(PHONE) else FailureCode.ENTITY_GONE
                self._show(Issue.RECIPIENT_GONE, recipient, failed(gone))
        nobody = self._recipients and self.nobody_left
        show_issue(self._hass, self._entry, Issue.NOBODY_LEFT, {} if nobody else None)

    def _show(self, issue: Issue, recipient: str, result: NotificationResult) -> None:
        name = shown_name(self._hass, self._entry, recipient)
        placeholders = {"recipient": name, "code": str(result.code), "reason": result.sentence}
        create_issue(self._hass, self._entry, issue, about=recipient, **placeholders)

    def _remember_names(self) -> None:
        names = {one: name for one in self._recipients if (name := recipient_name(self._hass, one))}
        # Names of recipients that are gone stay, because no registry knows them any more.
        kept = {one: name for one, name in self._names.items() if one in self._recipients} | names
        if kept != self._names:
            self._hass.config_entries.async_update_entry(self._entry, data={**self._entry.data, CONF_NAMES: kept})

    @property
    def _names(self) -> Mapping[str, str]:
        names: Mapping[str, str] = self._entry.data.get(CONF_NAMES, {})
        return names

    @callback
    def _entry_changed(self, _change: ConfigEntryChange, entry: ConfigEntry) -> None:
        if entry.domain == MOBILE_APP:
            self._schedule_check()

    @callback
    def _entity_changed(self, event: Event[er.EventEntityRegistryUpdatedData]) -> None:
        if event.data["entity_id"].startswith(f"{Platform.NOTIFY}."):
            self._schedule_check()

    def _schedule_check(self) -> None:
        # Not postponed by further changes, which would delay the check for as long as they continue.
        if self._cancel_check is None:
            self._cancel_check = async_call_later(self._hass, CHECK_AFTER, self._run_check)

    @callback
    def _run_check(self, _now: datetime) -> None:
        self._cancel_check = None
        self.check()
