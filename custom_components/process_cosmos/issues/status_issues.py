"""Repair issues derived from the gateway's status."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from homeassistant.config_entries import ConfigEntry
from homeassistant.core import HomeAssistant
from homeassistant.util import dt as dt_util

from custom_components.process_cosmos.const import CONF_READ
from custom_components.process_cosmos.contract.destinations import Priority, Status, StorageState
from custom_components.process_cosmos.texts import listed, quoted

from .site_issues import Issue, show_issue

type Placeholders = Mapping[str, str]

_LOSSES = frozenset({"quota", "disk", "damaged"})
"""Drop reasons that mean an unwanted loss; the others are configured."""

_BROKER_REASONS = frozenset({"login_refused", "certificate", "tls", "broker_refused"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Occurrence:
    """An occurrence that cannot be undone, whose issue exists until a person has read it.

    ``mark_fn``: a value that changes with each further occurrence, empty before the first. ``placeholders_fn``: for
    the text of the dialog.
    """

    mark_fn: Callable[[Status], str]
    placeholders_fn: Callable[[Status], Placeholders]


def _full(priority: Priority) -> Callable[[Status], Placeholders | None]:
    return lambda status: {} if priority in status.full else None


def _storage(state: StorageState) -> Callable[[Status], Placeholders | None]:
    return lambda status: {"reason": status.storage_reason or state} if status.storage is state else None


def _broker(*reasons: str) -> Callable[[Status], Placeholders | None]:
    """Match a broker that needs help for one of ``reasons``; without reasons, for any that has no issue of its own."""

    def shown(status: Status) -> Placeholders | None:
        broker = status.broker
        if broker is None or not broker.needs_help:
            return None
        is_one = broker.reason in reasons if reasons else broker.reason not in _BROKER_REASONS
        return {"reason": broker.reason or ""} if is_one else None

    return shown


def _listed(names: tuple[str, ...]) -> Placeholders | None:
    return {"names": listed([quoted(name) for name in names])} if names else None


_CONDITIONS: Mapping[Issue, Callable[[Status], Placeholders | None]] = {
    Issue.REJECTED_EVENTS: lambda status: {} if status.rejected else None,
    Issue.OUTBOX_FULL_URGENT: _full(Priority.URGENT),
    Issue.OUTBOX_FULL_CHANGE: _full(Priority.CHANGE),
    Issue.OUTBOX_FULL_READING: _full(Priority.READING),
    Issue.STORAGE_FULL: _storage(StorageState.FULL),
    Issue.STORAGE_READ_ONLY: _storage(StorageState.READ_ONLY),
    Issue.STORAGE_FAILING: _storage(StorageState.FAILING),
    Issue.BROKER_LOGIN_REFUSED: _broker("login_refused"),
    Issue.BROKER_CERTIFICATE: _broker("certificate", "tls"),
    Issue.BROKER_REFUSED: _broker("broker_refused"),
    Issue.BROKER_AWAY: _broker(),
    Issue.BROKER_DENIED: lambda status: _listed(status.broker.denied) if status.broker else None,
    Issue.DEVICE_LIMITED: lambda status: _listed(status.broker.limited) if status.broker else None,
    # Without QoS 1 the broker sends nothing again, so what arrives while the gateway is away is lost.
    Issue.BROKER_QOS: lambda status: {} if status.broker and status.broker.max_qos < 1 else None,
    Issue.TOO_MANY_DEVICES: lambda status: {} if status.broker and status.broker.turned_away else None,
    Issue.IDENTITY_CONFLICT: lambda status: {} if status.identity_conflict else None,
}
"""The placeholders of each issue that a status can cause; None: the status does not cause it."""


def _lost(status: Status, *priorities: Priority) -> int:
    return sum(drop.count for drop in status.drops if drop.priority in priorities and drop.reason in _LOSSES)


def _count(number: int) -> str:
    return str(number) if number else ""


def _lost_readings_mark(status: Status) -> str:
    """Return no mark while readings are dropped continuously: a full queue has an issue of its own."""
    # Otherwise the issue would come back as soon as somebody has read it.
    return "" if Priority.READING in status.full else _count(_lost(status, Priority.READING))


def _recovery_mark(status: Status, *, lost_unknown: bool) -> str:
    found = status.recovered
    return found.at.isoformat() if found is not None and found.lost_unknown is lost_unknown else ""


def _recovery_placeholders(status: Status) -> Placeholders:
    found = status.recovered
    if found is None:
        return {}
    at = dt_util.as_local(found.at).strftime("%Y-%m-%d %H:%M")
    return {"kept": str(found.kept), "lost": str(found.lost), "at": at}


OCCURRENCES: Mapping[Issue, Occurrence] = {
    Issue.STORE_RECOVERED: Occurrence(
        mark_fn=lambda status: _recovery_mark(status, lost_unknown=False),
        placeholders_fn=_recovery_placeholders,
    ),
    Issue.STORE_LOST: Occurrence(
        mark_fn=lambda status: _recovery_mark(status, lost_unknown=True),
        placeholders_fn=_recovery_placeholders,
    ),
    # Drops are counted since the store was created, so this mark changes only with a new loss or a new store.
    Issue.EVENTS_DROPPED: Occurrence(
        mark_fn=lambda status: _count(_lost(status, Priority.URGENT, Priority.CHANGE)),
        placeholders_fn=lambda status: {
            "urgent": str(_lost(status, Priority.URGENT)),
            "changes": str(_lost(status, Priority.CHANGE)),
        },
    ),
    Issue.READINGS_DROPPED: Occurrence(
        mark_fn=_lost_readings_mark,
        placeholders_fn=lambda status: {"count": str(_lost(status, Priority.READING))},
    ),
    Issue.BROKER_DROPS: Occurrence(
        mark_fn=lambda status: _count(status.broker_dropped),
        placeholders_fn=lambda status: {"count": str(status.broker_dropped)},
    ),
}


def show_status(hass: HomeAssistant, entry: ConfigEntry, status: Status) -> None:
    """Create the issues that ``status`` calls for, and delete the others."""
    # Each status is complete, so whatever it does not call for is over.
    for issue, placeholders_fn in _CONDITIONS.items():
        show_issue(hass, entry, issue, placeholders_fn(status))
    for issue, occurrence in OCCURRENCES.items():
        # An older mark that was read does not count: what happened since has not been read.
        is_over = occurrence.mark_fn(status) in ("", _read(entry).get(issue))
        # Without numbers, which would rewrite the issue every second.
        show_issue(hass, entry, issue, None if is_over else {})


def note_read(hass: HomeAssistant, entry: ConfigEntry, issue: Issue, mark: str) -> None:
    """Remember that a person has read of what has happened so far."""
    read = {**_read(entry), issue: mark}
    hass.config_entries.async_update_entry(entry, data={**entry.data, CONF_READ: read})


def _read(entry: ConfigEntry) -> Mapping[str, str]:
    read: Mapping[str, str] = entry.data.get(CONF_READ, {})
    return read
