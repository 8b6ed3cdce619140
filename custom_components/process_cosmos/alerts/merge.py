"""Merge of a restored record log with the gateway's alert summaries, as a pure function."""

from collections.abc import Callable, Iterable

from custom_components.process_cosmos.contract.alerts import AlertState, AlertSummary
from custom_components.process_cosmos.contract.identifiers import Ulid

from .model import Alert, State
from .records import Reconciled, Restored


def merge(
    state: State, summaries: Iterable[AlertSummary], new_id: Callable[[], Ulid], *, adopt: bool = True
) -> tuple[tuple[Restored, ...], tuple[Reconciled, ...]]:
    """Return the alerts to restore and to reconcile, without notification requests.

    Unknown here and alive at the gateway: restored in its next revision, without actions; resolved instead if its group
    has an alive alert, or if not ``adopt``: it belongs to another config entry, which was deleted.
    Closed on one side: closed, its answer is not run. Closed on both sides in different ways: the gateway's state, as
    destinations were notified of it. Alive on both sides, or unknown to the gateway: the next revision. Of two
    alerts in one group, the one with the latest change is kept.
    """
    by_id = {summary.alert: summary for summary in summaries}
    reconciled = tuple(
        _reconciled(alert, summary, new_id())
        for alert in state.alerts.values()
        if (summary := by_id.get(alert.id)) or alert.alive
        if alert.alive or (summary and (summary.state, summary.revision) != (alert.state, alert.revision))
    )
    closed = {one.alert for one in reconciled if not one.state.alive}
    taken = {group for group, alive in state.alive.items() if alive not in closed}
    restored = []
    for summary in sorted(by_id.values(), key=lambda summary: (summary.position, summary.alert), reverse=True):
        if summary.alert not in state.alerts and summary.state.alive:
            restored.append(_restored(summary, new_id(), resolved=not adopt or summary.group in taken))
            taken.add(summary.group)
    return tuple(restored), reconciled


def _restored(summary: AlertSummary, event: Ulid, *, resolved: bool) -> Restored:
    return Restored(
        alert=summary.alert,
        event=event,
        group=summary.group,
        revision=summary.revision if resolved else summary.revision + 1,
        severity=summary.severity,
        message=summary.message,
        entities=summary.entities,
        resolved=resolved,
    )


def _reconciled(alert: Alert, summary: AlertSummary | None, event: Ulid) -> Reconciled:
    revision = max(alert.revision, summary.revision if summary else 0)
    state = AlertState.OPEN if alert.alive else alert.state
    if summary and not summary.state.alive:
        state = summary.state
    return Reconciled(
        alert=alert.id,
        event=event,
        state=state,
        revision=revision + 1 if state.alive else revision,
        answers_from=max(alert.answers_from, summary.answers_from if summary else 0),
    )
