"""The repair issues of a site: one table, created and cleared here only."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from homeassistant.config_entries import SOURCE_REAUTH, ConfigEntry
from homeassistant.const import CONF_URL
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers import issue_registry as ir

from .const import DOMAIN
from .contract.errors import Code


class Issue(StrEnum):
    """What a person may have to look at; also the translation key."""

    GATEWAY_UNREACHABLE = "gateway_unreachable"
    OTHER_GATEWAY = "other_gateway"
    OTHER_HOME_ASSISTANT = "other_home_assistant"
    SCHEMA_TOO_OLD = "schema_too_old"
    SCHEMA_TOO_NEW = "schema_too_new"
    APP_OLDER = "app_older"
    REFUSED = "refused"
    REJECTED_EVENTS = "rejected_events"
    OUTBOX_FULL_ALARM = "outbox_full_alarm"
    OUTBOX_FULL_CHANGE = "outbox_full_change"
    OUTBOX_FULL_MEASUREMENT = "outbox_full_measurement"
    STORAGE_FULL = "storage_full"
    STORAGE_READ_ONLY = "storage_read_only"
    STORAGE_FAILING = "storage_failing"
    STORE_SALVAGED = "store_salvaged"
    EVENTS_DROPPED = "events_dropped"
    MEASUREMENTS_DROPPED = "measurements_dropped"
    BROKER_DROPS = "broker_drops"
    IDENTITY_CONFLICT = "identity_conflict"
    MEMORY_NOT_WRITTEN = "memory_not_written"
    MEMORY_DAMAGED = "memory_damaged"
    MEMORY_TOO_NEW = "memory_too_new"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Form:
    severity: ir.IssueSeverity = ir.IssueSeverity.ERROR
    fixable: bool = False
    learn_more: str | None = None


_UPDATES = "https://github.com/process-cosmos/process-cosmos/blob/main/docs/install.md#update"

_FORMS: Mapping[Issue, _Form] = {
    Issue.GATEWAY_UNREACHABLE: _Form(),
    Issue.OTHER_GATEWAY: _Form(fixable=True),
    Issue.OTHER_HOME_ASSISTANT: _Form(),
    Issue.SCHEMA_TOO_OLD: _Form(learn_more=_UPDATES),
    Issue.SCHEMA_TOO_NEW: _Form(learn_more=_UPDATES),
    Issue.APP_OLDER: _Form(severity=ir.IssueSeverity.WARNING, learn_more=_UPDATES),
    Issue.REFUSED: _Form(),
    Issue.REJECTED_EVENTS: _Form(severity=ir.IssueSeverity.WARNING, fixable=True),
    Issue.OUTBOX_FULL_ALARM: _Form(),
    Issue.OUTBOX_FULL_CHANGE: _Form(severity=ir.IssueSeverity.WARNING),
    Issue.OUTBOX_FULL_MEASUREMENT: _Form(severity=ir.IssueSeverity.WARNING),
    Issue.STORAGE_FULL: _Form(),
    Issue.STORAGE_READ_ONLY: _Form(),
    Issue.STORAGE_FAILING: _Form(),
    Issue.STORE_SALVAGED: _Form(fixable=True),
    Issue.EVENTS_DROPPED: _Form(fixable=True),
    Issue.MEASUREMENTS_DROPPED: _Form(severity=ir.IssueSeverity.WARNING, fixable=True),
    Issue.BROKER_DROPS: _Form(severity=ir.IssueSeverity.WARNING, fixable=True),
    Issue.IDENTITY_CONFLICT: _Form(),
    Issue.MEMORY_NOT_WRITTEN: _Form(),
    Issue.MEMORY_DAMAGED: _Form(),
    Issue.MEMORY_TOO_NEW: _Form(learn_more=_UPDATES),
}

ISSUES_OF_CODES: Mapping[str, Issue] = {
    Code.OTHER_HOME_ASSISTANT: Issue.OTHER_HOME_ASSISTANT,
    Code.SCHEMA_TOO_OLD: Issue.SCHEMA_TOO_OLD,
    Code.SCHEMA_TOO_NEW: Issue.SCHEMA_TOO_NEW,
}
"""Which refusals have an issue of their own, others are ``REFUSED``; ``unauthorized`` asks for a new pairing line."""

LINK_ISSUES = (
    Issue.GATEWAY_UNREACHABLE,
    Issue.OTHER_GATEWAY,
    Issue.OTHER_HOME_ASSISTANT,
    Issue.SCHEMA_TOO_OLD,
    Issue.SCHEMA_TOO_NEW,
    Issue.REFUSED,
)
"""Issues that are over once the gateway has sent its devices."""


def create_issue(hass: HomeAssistant, entry: ConfigEntry, issue: Issue, **placeholders: str) -> None:
    """Show ``issue`` for this site, or renew it."""
    form = _FORMS[issue]
    ir.async_create_issue(
        hass,
        DOMAIN,
        _id(entry, issue),
        data={"entry_id": entry.entry_id, "issue": issue},
        is_fixable=form.fixable,
        learn_more_url=form.learn_more,
        severity=form.severity,
        translation_key=issue,
        translation_placeholders={"site": entry.title, **placeholders},
    )


@callback
def show_other_gateway(hass: HomeAssistant, entry: ConfigEntry) -> None:
    """Say that another app answers for this site; a new pairing line of the lost one is not asked for any more."""
    create_issue(hass, entry, Issue.OTHER_GATEWAY, url=entry.data[CONF_URL])
    end_reauth(hass, entry)


@callback
def end_reauth(hass: HomeAssistant, entry: ConfigEntry) -> None:
    """Take back the question for a new pairing line."""
    for flow in tuple(entry.async_get_active_flows(hass, {SOURCE_REAUTH})):
        hass.config_entries.flow.async_abort(flow["flow_id"])


def clear_issues(hass: HomeAssistant, entry: ConfigEntry, *issues: Issue) -> None:
    """Take these issues of the site away; without any, all of them."""
    for issue in issues or tuple(Issue):
        ir.async_delete_issue(hass, DOMAIN, _id(entry, issue))


def _id(entry: ConfigEntry, issue: Issue) -> str:
    return f"{issue}_{entry.entry_id}"
