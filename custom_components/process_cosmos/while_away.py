"""What was missed while the app or Home Assistant was away, told once afterwards: it is over and fires nothing."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from homeassistant.components import persistent_notification
from homeassistant.config_entries import ConfigEntry
from homeassistant.core import HomeAssistant, callback
from homeassistant.util import dt as dt_util

from .const import DOMAIN
from .contract.devices import Device, Hint, Missed, Value, WhileAway
from .durations import duration
from .escalations.choices import policy_of
from .escalations.policy import PERSISTENT
from .escalations.telling import Telling
from .texts import shortened
from .things import Things

WORTH_TELLING = timedelta(minutes=1)
"""An absence no longer than this is replayed, or a restart."""

_MOST_LINES = 20
_MOST_WORDS = 5
_MOST_TEXT = 50
_WORDS: Mapping[Hint, tuple[str, str]] = {Hint.MOISTURE: ("dry", "wet"), Hint.VALVE: ("closed", "open")}


def silent_changes(before: Things, devices: Iterable[Device]) -> tuple[tuple[str, str], ...]:
    """Return what a snapshot shows with another value than was held, as device and property; numbers left out."""
    return tuple(
        (device.id, item.name)
        for device in devices
        if (held := before.by_id.get(device.id))
        for item in device.properties
        if isinstance(item.value, bool | str) and held.values.get(item.name) not in (None, item.value)
    )


def summary(
    things: Things, told: WhileAway, silent: Iterable[tuple[str, str]], *, began: datetime, now: datetime
) -> str | None:
    """Return the sentence and lines people read, oldest first; None if there is nothing to say.

    ``began``: since when Home Assistant heard nothing. ``silent``: what is known only by how it ended.
    """
    lines: dict[tuple[str, str], list[str]] = {}
    for missed in sorted(told.changes, key=lambda missed: -missed.age):
        if (moment := now - duration(missed.age)) >= began and missed.device in things.by_id:
            lines.setdefault(_place(missed), []).append(f"{_word(things, missed)} {_clock(moment, now)}".strip())
    for device, name in silent:
        missed = Missed(device=device, age=0, property=name, value=things.by_id[device].values.get(name))
        lines.setdefault(_place(missed), [f"now {_word(things, missed)}"])
    if not lines:
        return None
    shown = [f"- {_title(things, place)}: {_joined(words)}" for place, words in list(lines.items())[:_MOST_LINES]]
    if hidden := told.more + len(lines) - len(shown):
        shown.append(f"- and {hidden} more")
    return "\n".join([f"While away ({_clock(began, now)} to {_clock(now, now)}):", *shown])


async def async_tell(hass: HomeAssistant, entry: ConfigEntry, telling: Telling, text: str) -> None:
    """Show ``text`` in Home Assistant and say it to the site's people; a later one takes its place."""
    persistent_notification.async_create(hass, text, entry.title, _tag(entry))
    people = [person for person in policy_of(hass, entry.options).people if person != PERSISTENT]
    await telling.async_notice(people, text, _tag(entry))


@callback
def forget(hass: HomeAssistant, entry: ConfigEntry) -> None:
    """Take the notification away: the site goes."""
    persistent_notification.async_dismiss(hass, _tag(entry))


def _tag(entry: ConfigEntry) -> str:
    return f"{DOMAIN}_while_away_{entry.entry_id}"


def _place(missed: Missed) -> tuple[str, str]:
    return missed.device, missed.property or f"!{missed.event}"


def _title(things: Things, place: tuple[str, str]) -> str:
    device = things.by_id[place[0]].device
    names = {item.name: item.title for item in device.properties} | {
        f"!{each.name}": each.title for each in device.events
    }
    return f"{device.title}, {names.get(place[1], place[1].removeprefix('!'))}"


def _word(things: Things, missed: Missed) -> str:
    hints = {item.name: item.hint for item in things.by_id[missed.device].device.properties}
    return _shown(missed.value, hints.get(missed.property or "", Hint.NONE))


def _shown(value: Value | None, hint: Hint) -> str:
    if isinstance(value, bool):
        return _WORDS.get(hint, ("off", "on"))[value]
    return "" if value is None else shortened(str(value), _MOST_TEXT)


def _clock(moment: datetime, now: datetime) -> str:
    local, today = dt_util.as_local(moment), dt_util.as_local(now)
    return local.strftime("%H:%M" if local.date() == today.date() else "%Y-%m-%d %H:%M")


def _joined(words: list[str]) -> str:
    more = len(words) - _MOST_WORDS
    return ", ".join(words) if more <= 0 else f"{', '.join(words[:2])}, {more} more, {', '.join(words[-3:])}"
