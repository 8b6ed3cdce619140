"""What a memory that does not know the gateway's position makes of the gateway's word (pure)."""

from collections.abc import Callable, Iterable

from custom_components.process_cosmos.contract.alerts import AlertState, Head
from custom_components.process_cosmos.contract.identifiers import Ulid

from .model import Alert, State
from .records import Reconciled, Restored


def merge(
    state: State, heads: Iterable[Head], new_id: Callable[[], Ulid], *, adopt: bool = True
) -> tuple[tuple[Restored, ...], tuple[Reconciled, ...]]:
    """Return what to restore and what to reconcile, without asks.

    Unknown here and alive there: restored in the next ring, without actions; resolved if its group has an alive one, or
    without ``adopt``: it was another config entry's, which was deleted.
    Closed on one side: closed, its answer not run. Closed on both, but not alike: as there, where destinations have
    heard of it. Alive on both, or unknown there: the next ring. Of two in one group the one that changed last is newer.
    """
    by_id = {head.alert: head for head in heads}
    reconciled = tuple(
        _reconciled(alert, head, new_id())
        for alert in state.alerts.values()
        if (head := by_id.get(alert.id)) or alert.alive
        if alert.alive or (head and (head.state, head.ring) != (alert.state, alert.ring))
    )
    closed = {one.alert for one in reconciled if not one.state.alive}
    taken = {group for group, alive in state.alive.items() if alive not in closed}
    restored = []
    for head in sorted(by_id.values(), key=lambda head: (head.position, head.alert), reverse=True):
        if head.alert not in state.alerts and head.state.alive:
            restored.append(_restored(head, new_id(), resolved=not adopt or head.group in taken))
            taken.add(head.group)
    return tuple(restored), reconciled


def _restored(head: Head, event: Ulid, *, resolved: bool) -> Restored:
    return Restored(
        alert=head.alert,
        event=event,
        group=head.group,
        ring=head.ring if resolved else head.ring + 1,
        severity=head.severity,
        message=head.message,
        entities=head.entities,
        resolved=resolved,
    )


def _reconciled(alert: Alert, head: Head | None, event: Ulid) -> Reconciled:
    ring = max(alert.ring, head.ring if head else 0)
    state = AlertState.OPEN if alert.alive else alert.state
    if head and not head.state.alive:
        state = head.state
    return Reconciled(
        alert=alert.id,
        event=event,
        state=state,
        ring=ring + 1 if state.alive else ring,
        answers_from=max(alert.answers_from, head.answers_from if head else 0),
    )
