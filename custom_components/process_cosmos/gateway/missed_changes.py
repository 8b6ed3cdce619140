"""What was missed while the app or Home Assistant was away, told once afterwards: it is over and fires nothing."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from homeassistant.components import persistent_notification
from homeassistant.config_entries import ConfigEntry
from homeassistant.core import HomeAssistant, callback
from homeassistant.util import dt as dt_util

from custom_components.process_cosmos.alerts.durations import duration
from custom_components.process_cosmos.alerts.notification_sender import NotificationSender
from custom_components.process_cosmos.alerts.policy import PERSISTENT
from custom_components.process_cosmos.alerts.recipient_selection import policy_of
from custom_components.process_cosmos.const import DOMAIN
from custom_components.process_cosmos.contract.devices import Device, Hint, MissedChange, MissedChangesReport, Value
from custom_components.process_cosmos.texts import escaped, shortened

from .devices import DeviceStates

MIN_ABSENCE = timedelta(minutes=1)
"""After an absence no longer than this, a value that changed unheard is shown as a change of state only."""

_MOST_LINES = 20
_MOST_WORDS = 5
_MOST_TEXT = 50
_WORDS: Mapping[Hint, tuple[str, str]] = {Hint.MOISTURE: ("dry", "wet"), Hint.VALVE: ("closed", "open")}


class _Subject(NamedTuple):
    """What a line is about: a property of a device, or one of its events."""

    device: str
    property: str | None
    event: str | None


def silent_changes(before: DeviceStates, devices: Iterable[Device]) -> tuple[tuple[str, str], ...]:
    """Return what a snapshot shows with another value than was held, as device and property; numbers left out."""
    return tuple(
        (device.id, item.name)
        for device in devices
        if (held := before.by_id.get(device.id))
        for item in device.properties
        if isinstance(item.value, bool | str) and held.values.get(item.name) not in (None, item.value)
    )


def summary(
    devices: DeviceStates,
    told: MissedChangesReport,
    silent: Iterable[tuple[str, str]],
    *,
    began: datetime,
    added: datetime,
    now: datetime,
) -> str | None:
    """Return the sentence and lines people read, oldest first; None if there is nothing to say.

    ``began``: since when Home Assistant heard nothing, as far as it knows; a change that was sent and not received may
    be older. What is older than ``added`` is left out. ``silent``: what is known only by how it ended.
    """
    lines: dict[_Subject, list[str]] = {}
    began = max(began, added)
    for missed in sorted(told.changes, key=lambda missed: -missed.age):
        if (moment := now - duration(missed.age)) >= added and missed.device in devices.by_id:
            began = min(began, moment)
            lines.setdefault(_subject_of(missed), []).append(
                f"{_word(devices, missed)} {_format_time(moment, now)}".strip()
            )
    for device, name in silent:
        if device not in devices.by_id:
            continue
        missed = MissedChange(device=device, age=0, property=name, value=devices.by_id[device].values.get(name))
        lines.setdefault(_subject_of(missed), [f"now {_word(devices, missed)}"])
    if not lines:
        return None
    shown = [f"- {_title(devices, place)}: {_join_values(words)}" for place, words in list(lines.items())[:_MOST_LINES]]
    if hidden := told.more + len(lines) - len(shown):
        shown.append(f"- and {hidden} more")
    return "\n".join([f"While away ({_format_time(began, now)} to {_format_time(now, now)}):", *shown])


class MissedChanges:
    """Notifies people once of what was missed, and knows which changes may be confirmed to the gateway."""

    def __init__(
        self, hass: HomeAssistant, entry: ConfigEntry, sender: NotificationSender, devices: DeviceStates
    ) -> None:
        """Take who sends notifications, and the devices as they are held."""
        self._hass = hass
        self._entry = entry
        self._sender = sender
        self._devices = devices
        self._silent: dict[tuple[str, str], None] = {}
        """What is known only by how it ended, until it is reported: device and property, in order."""
        self._closed_at: datetime | None = None
        """Since when nothing was heard; None: never connected, by this run of Home Assistant."""
        self._session = 0
        self._heard = 0
        """The session that has last said what was missed before it."""
        self._reported = 0
        """The same, once people are notified of it."""
        self.confirmed = 0
        """The newest number of which, and of all before it, the gateway need not report anything again."""

    @callback
    def session_opened(self) -> None:
        """Confirm nothing until what was missed before this session has been reported."""
        self._session += 1

    @callback
    def session_closed(self) -> None:
        """Note since when nothing is heard, unless the session ended before it said what was missed."""
        if self._heard == self._session:
            self._closed_at = dt_util.utcnow()

    @callback
    def compare(self, devices: Iterable[Device]) -> None:
        """Note what a snapshot shows with another value than is held, before it is held."""
        self._silent |= dict.fromkeys(silent_changes(self._devices, devices))

    @callback
    def report(self, message: MissedChangesReport) -> None:
        """Notify people of what is over; what was before this site was added is no news."""
        self._heard = self._session
        now = dt_util.utcnow()
        began = self._closed_at or now - duration(message.since)
        silent, self._silent = self._silent if now - began > MIN_ABSENCE else {}, {}
        text = summary(self._devices, message, silent, began=began, added=self._entry.created_at, now=now)
        if text is None:
            self._reported = self._session
        else:
            self._entry.async_create_background_task(
                self._hass, self._async_report(text, self._session), f"{DOMAIN} while away"
            )

    @callback
    def confirm(self) -> int | None:
        """Return the newest number processed; None while something missed before it is still to be reported."""
        if self._reported != self._session:
            return None
        self.confirmed = self._devices.sequence or 0
        return self.confirmed

    async def _async_report(self, text: str, session: int) -> None:
        await async_notify(self._hass, self._entry, self._sender, text)
        self._reported = max(self._reported, session)


async def async_notify(hass: HomeAssistant, entry: ConfigEntry, sender: NotificationSender, text: str) -> None:
    """Show ``text`` in Home Assistant and say it to the site's people; a later one takes its place."""
    persistent_notification.async_create(hass, escaped(text), entry.title, _tag(entry))
    people = [person for person in policy_of(hass, entry.options).people if person != PERSISTENT]
    await sender.async_notice(people, text, _tag(entry))


@callback
def forget(hass: HomeAssistant, entry: ConfigEntry) -> None:
    """Take the notification away: the site goes."""
    persistent_notification.async_dismiss(hass, _tag(entry))


def _tag(entry: ConfigEntry) -> str:
    return f"{DOMAIN}_missed_changes_{entry.entry_id}"


def _subject_of(missed: MissedChange) -> _Subject:
    return _Subject(missed.device, missed.property, missed.event)


def _title(devices: DeviceStates, place: _Subject) -> str:
    device = devices.by_id[place.device].device
    described = device.events if place.property is None else device.properties
    name = place.event if place.property is None else place.property
    title = next((each.title for each in described if each.name == name), name)
    return " ".join(f"{device.title}, {title}".split())  # in one line, whatever it is called


def _word(devices: DeviceStates, missed: MissedChange) -> str:
    hints = {item.name: item.hint for item in devices.by_id[missed.device].device.properties}
    return _shown(missed.value, hints.get(missed.property or "", Hint.NONE))


def _shown(value: Value | None, hint: Hint) -> str:
    if isinstance(value, bool):
        return _WORDS.get(hint, ("off", "on"))[value]
    return "" if value is None else shortened(" ".join(str(value).split()), _MOST_TEXT)


def _format_time(moment: datetime, now: datetime) -> str:
    local, today = dt_util.as_local(moment), dt_util.as_local(now)
    return local.strftime("%H:%M" if local.date() == today.date() else "%Y-%m-%d %H:%M")


def _join_values(words: list[str]) -> str:
    more = len(words) - _MOST_WORDS
    return ", ".join(words) if more <= 0 else f"{', '.join(words[:2])}, {more} more, {', '.join(words[-3:])}"
