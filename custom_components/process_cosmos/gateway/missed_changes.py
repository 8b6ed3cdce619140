"""Reports of device changes that were missed while the app or Home Assistant was not running.

Each is reported once in a notification and triggers no automation, because it is in the past.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from homeassistant.components import persistent_notification
from homeassistant.config_entries import ConfigEntry
from homeassistant.core import HomeAssistant, callback
from homeassistant.util import dt as dt_util

from custom_components.process_cosmos.alerts.notification_sender import NotificationSender
from custom_components.process_cosmos.alerts.policy import PERSISTENT
from custom_components.process_cosmos.alerts.recipient_selection import policy_of
from custom_components.process_cosmos.alerts.safe_duration import duration
from custom_components.process_cosmos.const import DOMAIN
from custom_components.process_cosmos.contract.devices import Device, Hint, MissedChange, MissedChangesReport, Value
from custom_components.process_cosmos.texts import escaped, shortened

from .devices import DeviceStates

MIN_ABSENCE = timedelta(minutes=1)
"""Minimum length of an absence after which values that changed unnoticed are reported."""

_MAX_LINES = 20
_MAX_VALUES = 5
_MAX_TEXT = 50
_WORDS: Mapping[Hint, tuple[str, str]] = {Hint.MOISTURE: ("dry", "wet"), Hint.VALVE: ("closed", "open")}


class _Subject(NamedTuple):
    """The subject of a line: a property or an event of a device."""

    device: str
    property: str | None
    event: str | None


def silent_changes(before: DeviceStates, devices: Iterable[Device]) -> tuple[tuple[str, str], ...]:
    """Return the properties, as device and name, whose value in a snapshot differs from the held one; not numbers."""
    return tuple(
        (device.id, item.name)
        for device in devices
        if (held := before.by_id.get(device.id))
        for item in device.properties
        if isinstance(item.value, bool | str) and held.values.get(item.name) not in (None, item.value)
    )


def summary(
    devices: DeviceStates,
    report: MissedChangesReport,
    silent: Iterable[tuple[str, str]],
    *,
    began: datetime,
    added: datetime,
    now: datetime,
) -> str | None:
    """Return the text of the notification, oldest change first; None if there is nothing to report.

    ``began``: when Home Assistant stopped receiving changes, as far as it knows; a change sent but not received may be
    older. Changes before ``added`` are omitted. ``silent``: properties of which only the final value is known.
    """
    lines: dict[_Subject, list[str]] = {}
    began = max(began, added)
    for missed in sorted(report.changes, key=lambda missed: -missed.age):
        if (moment := now - duration(missed.age)) >= added and missed.device in devices.by_id:
            began = min(began, moment)
            lines.setdefault(_subject_of(missed), []).append(
                f"{_format_change(devices, missed)} {_format_time(moment, now)}".strip()
            )
    for device, name in silent:
        if device not in devices.by_id:
            continue
        missed = MissedChange(device=device, age=0, property=name, value=devices.by_id[device].values.get(name))
        lines.setdefault(_subject_of(missed), [f"now {_format_change(devices, missed)}"])
    if not lines:
        return None
    shown = [
        f"- {_format_subject(devices, subject)}: {_join_values(values)}"
        for subject, values in list(lines.items())[:_MAX_LINES]
    ]
    if hidden := report.more + len(lines) - len(shown):
        shown.append(f"- and {hidden} more")
    return "\n".join([f"Changes while offline ({_format_time(began, now)} to {_format_time(now, now)}):", *shown])


class MissedChanges:
    """Notifies people once of missed changes, and tracks which changes may be confirmed to the gateway."""

    def __init__(
        self, hass: HomeAssistant, entry: ConfigEntry, sender: NotificationSender, devices: DeviceStates
    ) -> None:
        """Create a reporter that sends through ``sender`` and compares with ``devices``."""
        self._hass = hass
        self._entry = entry
        self._sender = sender
        self._devices = devices
        self._silent: dict[tuple[str, str], None] = {}
        """Properties of which only the final value is known, until they are reported: device and name, in order."""
        self._closed_at: datetime | None = None
        """When the last session ended; None: not connected yet since Home Assistant started."""
        self._session = 0
        self._received = 0
        """Number of the newest session whose report of missed changes was received."""
        self._reported = 0
        """Number of the newest session whose report was sent to people."""
        self.confirmed = 0
        """The number up to which the gateway need not report changes again."""

    @callback
    def session_opened(self) -> None:
        """Suspend confirmations until changes missed before this session have been reported."""
        self._session += 1

    @callback
    def session_closed(self) -> None:
        """Store the end of the session, unless it ended before its report was received."""
        if self._received == self._session:
            self._closed_at = dt_util.utcnow()

    @callback
    def compare(self, devices: Iterable[Device]) -> None:
        """Store which values of a snapshot differ from the held ones; call this before applying the snapshot."""
        self._silent |= dict.fromkeys(silent_changes(self._devices, devices))

    @callback
    def report(self, message: MissedChangesReport) -> None:
        """Notify people of missed changes, except those before the site was added."""
        self._received = self._session
        now = dt_util.utcnow()
        began = self._closed_at or now - duration(message.since)
        silent, self._silent = self._silent if now - began > MIN_ABSENCE else {}, {}
        text = summary(self._devices, message, silent, began=began, added=self._entry.created_at, now=now)
        if text is None:
            self._reported = self._session
        else:
            # In the background: the caller reads the session, which must not wait for phones.
            self._entry.async_create_background_task(
                self._hass, self._async_report(text, self._session), f"{DOMAIN} missed changes"
            )

    @callback
    def confirm(self) -> int | None:
        """Return the newest processed number; None while missed changes have not been reported."""
        # If Home Assistant ends before people are notified, the gateway reports the same changes again.
        if self._reported != self._session:
            return None
        self.confirmed = self._devices.sequence or 0
        return self.confirmed

    async def _async_report(self, text: str, session: int) -> None:
        await async_notify(self._hass, self._entry, self._sender, text)
        # A newer session may have reported in the meantime.
        self._reported = max(self._reported, session)


async def async_notify(hass: HomeAssistant, entry: ConfigEntry, sender: NotificationSender, text: str) -> None:
    """Show ``text`` in Home Assistant and send it to the recipients; a later text replaces it."""
    persistent_notification.async_create(hass, escaped(text), entry.title, _tag(entry))
    people = [person for person in policy_of(hass, entry.options).people if person != PERSISTENT]
    await sender.async_send_message(people, text, _tag(entry))


@callback
def forget(hass: HomeAssistant, entry: ConfigEntry) -> None:
    """Dismiss the notification of a site that is removed."""
    persistent_notification.async_dismiss(hass, _tag(entry))


def _tag(entry: ConfigEntry) -> str:
    return f"{DOMAIN}_missed_changes_{entry.entry_id}"


def _subject_of(missed: MissedChange) -> _Subject:
    return _Subject(missed.device, missed.property, missed.event)


def _format_subject(devices: DeviceStates, subject: _Subject) -> str:
    device = devices.by_id[subject.device].device
    described = device.events if subject.property is None else device.properties
    name = subject.event if subject.property is None else subject.property
    title = next((each.title for each in described if each.name == name), name)
    return " ".join(f"{device.title}, {title}".split())  # a name may contain line breaks


def _format_change(devices: DeviceStates, missed: MissedChange) -> str:
    hints = {item.name: item.hint for item in devices.by_id[missed.device].device.properties}
    return _format_value(missed.value, hints.get(missed.property or "", Hint.NONE))


def _format_value(value: Value | None, hint: Hint) -> str:
    if isinstance(value, bool):
        return _WORDS.get(hint, ("off", "on"))[value]
    return "" if value is None else shortened(" ".join(str(value).split()), _MAX_TEXT)


def _format_time(moment: datetime, now: datetime) -> str:
    local, today = dt_util.as_local(moment), dt_util.as_local(now)
    return local.strftime("%H:%M" if local.date() == today.date() else "%Y-%m-%d %H:%M")


def _join_values(values: list[str]) -> str:
    more = len(values) - _MAX_VALUES
    return ", ".join(values) if more <= 0 else f"{', '.join(values[:2])}, {more} more, {', '.join(values[-3:])}"
