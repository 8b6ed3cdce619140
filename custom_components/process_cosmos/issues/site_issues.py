"""Table of the repair issues of a site, and the functions that create and delete them."""

from collections.abc import Collection, Mapping
from enum import StrEnum

from homeassistant.config_entries import SOURCE_REAUTH, ConfigEntry
from homeassistant.const import CONF_URL
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers import issue_registry as ir

from custom_components.process_cosmos.const import DOMAIN
from custom_components.process_cosmos.contract.errors import Code


class Issue(StrEnum):
    """The repair issues of a site; the value is the translation key."""

    GATEWAY_UNREACHABLE = "gateway_unreachable"
    OTHER_GATEWAY = "other_gateway"
    OTHER_HOME_ASSISTANT = "other_home_assistant"
    SCHEMA_TOO_OLD = "schema_too_old"
    SCHEMA_TOO_NEW = "schema_too_new"
    APP_OLDER = "app_older"
    FRAME_INVALID = "frame_invalid"
    FRAME_APP_OLDER = "frame_app_older"
    FRAME_APP_NEWER = "frame_app_newer"
    REFUSED = "refused"
    DESTINATION_REFUSED = "destination_refused"
    DESTINATION_OFFLINE = "destination_offline"
    REJECTED_EVENTS = "rejected_events"
    OUTBOX_FULL_URGENT = "outbox_full_urgent"
    OUTBOX_FULL_CHANGE = "outbox_full_change"
    OUTBOX_FULL_READING = "outbox_full_reading"
    STORAGE_FULL = "storage_full"
    STORAGE_READ_ONLY = "storage_read_only"
    STORAGE_FAILING = "storage_failing"
    STORE_RECOVERED = "store_recovered"
    STORE_LOST = "store_lost"
    EVENTS_DROPPED = "events_dropped"
    READINGS_DROPPED = "readings_dropped"
    BROKER_DROPS = "broker_drops"
    BROKER_AWAY = "broker_away"
    BROKER_LOGIN_REFUSED = "broker_login_refused"
    BROKER_CERTIFICATE = "broker_certificate"
    BROKER_REFUSED = "broker_refused"
    BROKER_DENIED = "broker_denied"
    BROKER_QOS = "broker_qos"
    DEVICE_LIMITED = "device_limited"
    TOO_MANY_DEVICES = "too_many_devices"
    IDENTITY_CONFLICT = "identity_conflict"
    MEMORY_NOT_WRITTEN = "memory_not_written"
    MEMORY_DAMAGED = "memory_damaged"
    MEMORY_LOST = "memory_lost"
    MEMORY_TOO_NEW = "memory_too_new"
    POLARITY_UNKNOWN = "polarity_unknown"
    RECIPIENT_FAILS = "recipient_fails"
    RECIPIENT_GONE = "recipient_gone"
    NOBODY_LEFT = "nobody_left"
    REACTIONS_SLOW = "reactions_slow"


_UPDATES = "https://github.com/process-cosmos/process-cosmos/blob/main/docs/install.md#update"
_POLARITY = "https://github.com/process-cosmos/process-cosmos/blob/main/wire/devices.md#what-true-means"

_ISSUES = "https://github.com/process-cosmos/process-cosmos/issues"

_LINKS = "https://github.com/process-cosmos/process-cosmos/blob/main/docs/errors.md#why-a-link-is-offline-or-refused"

_REACTIONS = "https://github.com/process-cosmos/process-cosmos/blob/main/docs/reactions.md#how-long-reactions-take"

_LEARN_MORE: Mapping[Issue, str] = {
    Issue.SCHEMA_TOO_OLD: _UPDATES,
    Issue.SCHEMA_TOO_NEW: _UPDATES,
    Issue.APP_OLDER: _UPDATES,
    Issue.FRAME_INVALID: _ISSUES,
    Issue.FRAME_APP_OLDER: _UPDATES,
    Issue.FRAME_APP_NEWER: _UPDATES,
    Issue.MEMORY_TOO_NEW: _UPDATES,
    Issue.DESTINATION_REFUSED: _LINKS,
    Issue.DESTINATION_OFFLINE: _LINKS,
    Issue.POLARITY_UNKNOWN: _POLARITY,
    Issue.REACTIONS_SLOW: _REACTIONS,
}

_FIXABLE = frozenset(
    {
        Issue.OTHER_GATEWAY,
        Issue.REJECTED_EVENTS,
        Issue.STORE_RECOVERED,
        Issue.STORE_LOST,
        Issue.EVENTS_DROPPED,
        Issue.READINGS_DROPPED,
        Issue.BROKER_DROPS,
    }
)

_WARNINGS = frozenset(
    {
        Issue.APP_OLDER,
        Issue.DESTINATION_OFFLINE,
        Issue.REJECTED_EVENTS,
        Issue.OUTBOX_FULL_CHANGE,
        Issue.OUTBOX_FULL_READING,
        Issue.READINGS_DROPPED,
        Issue.BROKER_DROPS,
        Issue.BROKER_DENIED,
        Issue.BROKER_QOS,
        Issue.DEVICE_LIMITED,
        Issue.TOO_MANY_DEVICES,
        Issue.POLARITY_UNKNOWN,
        Issue.REACTIONS_SLOW,
    }
)
"""Issues that are warnings; all others are errors."""

ISSUES_OF_CODES: Mapping[str, Issue] = {
    Code.OTHER_HOME_ASSISTANT: Issue.OTHER_HOME_ASSISTANT,
    Code.SCHEMA_TOO_OLD: Issue.SCHEMA_TOO_OLD,
    Code.SCHEMA_TOO_NEW: Issue.SCHEMA_TOO_NEW,
}
"""Refusal codes with an issue of their own; others use ``REFUSED``, and ``unauthorized`` starts a reauth flow."""

LINK_ISSUES = (
    Issue.GATEWAY_UNREACHABLE,
    Issue.OTHER_GATEWAY,
    Issue.OTHER_HOME_ASSISTANT,
    Issue.SCHEMA_TOO_OLD,
    Issue.SCHEMA_TOO_NEW,
    Issue.REFUSED,
)
"""Issues that are deleted once the gateway has sent its devices."""


FRAME_ISSUES = (Issue.FRAME_INVALID, Issue.FRAME_APP_OLDER, Issue.FRAME_APP_NEWER)
"""Issues about a frame that one side cannot read; at most one of them exists."""


def create_issue(
    hass: HomeAssistant, entry: ConfigEntry, issue: Issue, *, about: str | None = None, **placeholders: str
) -> None:
    """Create or update ``issue`` for a site. ``about``: the subject, for an issue that can exist several times."""
    ir.async_create_issue(
        hass,
        DOMAIN,
        _id(entry, issue, about),
        data={"entry_id": entry.entry_id, "issue": issue},
        is_fixable=issue in _FIXABLE,
        learn_more_url=_LEARN_MORE.get(issue),
        severity=ir.IssueSeverity.WARNING if issue in _WARNINGS else ir.IssueSeverity.ERROR,
        translation_key=issue,
        translation_placeholders={"site": entry.title, **placeholders},
    )


@callback
def show_other_gateway(hass: HomeAssistant, entry: ConfigEntry) -> None:
    """Create the issue that another app responds for this site, and end a reauth flow for the lost one."""
    create_issue(hass, entry, Issue.OTHER_GATEWAY, url=entry.data[CONF_URL])
    end_reauth(hass, entry)


@callback
def end_reauth(hass: HomeAssistant, entry: ConfigEntry) -> None:
    """Abort active reauth flows of the entry."""
    for flow in tuple(entry.async_get_active_flows(hass, {SOURCE_REAUTH})):
        hass.config_entries.flow.async_abort(flow["flow_id"])


def clear_issues(hass: HomeAssistant, entry: ConfigEntry, *issues: Issue, about: str | None = None) -> None:
    """Delete these issues of the site: those with the subject ``about``, or those without a subject."""
    for issue in issues:
        ir.async_delete_issue(hass, DOMAIN, _id(entry, issue, about))


def show_issue(hass: HomeAssistant, entry: ConfigEntry, issue: Issue, placeholders: Mapping[str, str] | None) -> None:
    """Create or update ``issue``, or delete it if ``placeholders`` is None."""
    if placeholders is None:
        clear_issues(hass, entry, issue)
    else:
        create_issue(hass, entry, issue, **placeholders)


def clear_all_issues(hass: HomeAssistant, entry: ConfigEntry) -> None:
    """Delete all issues of the site, with and without a subject."""
    for issue in Issue:
        clear_issues(hass, entry, issue)
        clear_other_issues(hass, entry, issue, ())


def clear_other_issues(hass: HomeAssistant, entry: ConfigEntry, issue: Issue, about: Collection[str]) -> None:
    """Delete this issue of the site for all subjects other than those in ``about``."""
    kept = {_id(entry, issue, each) for each in about}
    for shown in issues_with_prefix(hass, f"{_id(entry, issue)}/"):
        if shown.issue_id not in kept:
            ir.async_delete_issue(hass, DOMAIN, shown.issue_id)


def issues_with_prefix(hass: HomeAssistant, *prefixes: str) -> list[ir.IssueEntry]:
    """Return the issues of the integration whose ids begin with one of ``prefixes``."""
    # A list, because callers delete issues while they iterate.
    issues = ir.async_get(hass).issues.values()
    return [issue for issue in issues if issue.domain == DOMAIN and issue.issue_id.startswith(prefixes)]


def _id(entry: ConfigEntry, issue: Issue, about: str | None = None) -> str:
    # The slash separates subjects, which may be any text, from the prefix by which the others are found and deleted.
    return f"{issue}_{entry.entry_id}" if about is None else f"{issue}_{entry.entry_id}/{about}"
