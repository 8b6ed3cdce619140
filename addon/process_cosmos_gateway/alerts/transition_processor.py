"""Processing of alert transitions, proposals and delivery results within one transaction."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from secrets import token_bytes

from process_cosmos_gateway.clock import Clock
from process_cosmos_gateway.contract.alerts import Change, Notified, Replica, Transition, TransitionKind
from process_cosmos_gateway.contract.identifiers import DESTINATION, Ulid, UlidFactory
from process_cosmos_gateway.outbox import Delivered, Delivery, DeliveryResult, Outbox
from process_cosmos_gateway.store import Transaction

from . import proposals, replica
from .events import NOTIFICATION_REQUESTED, reconciled_event, request_event, request_event_id, transition_event
from .notification_requests import (
    Decision,
    RequestState,
    Situation,
    TrackedRequest,
    decide,
    replace_requests,
    state_after,
)
from .steady_clock import SteadyClock

_LONGEST_SILENCE = 60.0
"""Seconds between two saves of the steady time while notification requests are pending."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """Runtime conditions that are not in the store."""

    home_assistant_away: bool
    may_request: bool


_MERGED = frozenset({TransitionKind.RESTORED, TransitionKind.RECONCILED})
_CLOSINGS = frozenset({TransitionKind.ANSWERED, TransitionKind.RESOLVED, TransitionKind.UNANSWERED})


def _closes_again(change: Change, closed: Replica) -> bool:
    """Return whether a restored integration repeats the closing that destinations have already received."""
    again = change.alert
    alike = (again.state, again.revision, again.answer) == (closed.state, closed.revision, closed.answer)
    return change.kind in _CLOSINGS and alike


@dataclass(eq=False, repr=False)
class TransitionProcessor:
    """Processor of all changes to replica, notification requests and proposals, within the caller's transaction.

    ``on_outcome`` is called in the event loop with each committed outcome.
    """

    outbox: Outbox
    clock: Clock
    steady: SteadyClock
    on_outcome: Callable[[Notified], None]
    _merged: set[Ulid] = field(init=False, default_factory=set)
    """Alerts whose state after a restore the integration itself has reported to this process."""

    def save_time(self, transaction: Transaction) -> None:
        """Store the steady time, which timers need after a restart."""
        replica.save_state(transaction, offset=self.steady.offset, newest=self.steady.now())

    def apply(self, transaction: Transaction, transition: Transition) -> None:
        """Apply one record of the integration's log, unless it was applied before."""
        cursor = replica.read_cursor(transaction)
        if cursor is not None and transition.position <= cursor:
            return
        for change in transition.changes:
            self._apply_change(transaction, change, transition)
        if transition.proposal is not None:
            proposals.settle(transaction, transition.proposal)
        # In the transaction of the changes: a crash leaves either both or a record that the integration sends again.
        replica.save_state(transaction, run=transition.position.run, n=transition.position.n)
        self.save_time(transaction)

    def _apply_change(self, transaction: Transaction, change: Change, transition: Transition) -> None:
        alert = change.alert
        closed = replica.find_closed(transaction, alert.id)
        if closed and alert.state.alive:
            # Closed stays closed: a restored integration learns it from the summaries, and no one is notified again.
            return
        if closed is None or not _closes_again(change, closed):
            self.outbox.add(transaction, transition_event(change))
        if change.kind in _MERGED:
            self._merged.add(alert.id)
        replica.save_alert(transaction, change, transition.position, self.steady.now())
        if not alert.state.alive:
            replica.delete_old_closed(transaction, self.steady.now())
        requests = change.requests if alert.state.alive else ()
        if requests is None:
            return
        now = self.steady.now()
        newer = [
            TrackedRequest(
                key=request.key, due=now + request.due_in, due_away=now + request.due_if_home_assistant_away_in
            )
            for request in requests
        ]
        replacement = replace_requests(replica.requests_of(transaction, alert.id), newer)
        for request in replacement.saved:
            replica.save_request(transaction, request)
        self._cancel(transaction, dropped=replacement.dropped, withdraw=replacement.withdraw)
        replica.delete_older_revisions(transaction, alert.id, alert.revision)

    def queue_reconciled_events(self, transaction: Transaction) -> None:
        """Queue an event with the state of each alive alert.

        After the backup was made, destinations may have received the closing of some of them. Alerts merged by the
        integration are excluded, as its own events report them.
        """
        now = self.clock.now()
        ulid_fn = UlidFactory(lambda: int(now.timestamp() * 1000), token_bytes)
        for alive in replica.alive_alerts(transaction):
            if alive.replica.id not in self._merged:
                self.outbox.add(transaction, reconciled_event(ulid_fn(), alive.replica, now))
        self._merged.clear()

    def process_due_requests(self, transaction: Transaction, circumstances: Circumstances) -> float | None:
        """Queue and cancel notification requests that are due; return the steady time of the next check.

        None: no check is needed before the next change.
        """
        times: list[float] = []
        unsettled = proposals.unsettled(transaction)
        alive_alerts = replica.alive_alerts(transaction)
        for alive in alive_alerts:
            pauses = [each.pauses_until(alive.replica) for each in unsettled if each.alert == alive.replica.id]
            silent_until = max([alive.silent_until, *pauses])
            # A request to an unreachable destination fails at once, which may make the next level due: decide again.
            while (decision := self._decide(transaction, alive, silent_until, circumstances)).queue:
                self._apply_decision(transaction, decision, alive)
            self._apply_decision(transaction, decision, alive)
            if decision.next_check is not None:
                times.append(decision.next_check)
        if times:
            self.save_time(transaction)
            return min(*times, self.steady.now() + _LONGEST_SILENCE)
        return None

    def _decide(
        self, transaction: Transaction, alive: replica.AliveAlert, silent_until: float, circumstances: Circumstances
    ) -> Decision:
        situation = Situation(
            now=self.steady.now(),
            until=alive.until,
            silent_until=silent_until,
            home_assistant_away=circumstances.home_assistant_away,
            may_request=circumstances.may_request,
        )
        return decide(replica.requests_of(transaction, alive.replica.id).values(), situation)

    def _apply_decision(self, transaction: Transaction, decision: Decision, alive: replica.AliveAlert) -> None:
        self._cancel(transaction, dropped=decision.dropped, withdraw=decision.withdraw)
        for request in decision.queue:
            self.outbox.add(transaction, request_event(request.key, alive.replica, self.clock.now()))
            replica.save_request(transaction, replace(request, state=RequestState.QUEUED))
            if not self.outbox.is_reachable(transaction, request.key.recipient.removeprefix(DESTINATION)):
                self._settle(transaction, replace(request, state=RequestState.QUEUED), reached=False)

    def _cancel(
        self, transaction: Transaction, *, dropped: Iterable[TrackedRequest], withdraw: Iterable[TrackedRequest]
    ) -> None:
        for request in dropped:
            replica.delete_request(transaction, request.key)
        for request in withdraw:
            self.outbox.withdraw(
                transaction, request_event_id(request.key), request.key.recipient.removeprefix(DESTINATION)
            )
            replica.save_request(transaction, replace(request, state=RequestState.WITHDRAWN))

    def on_settled(
        self, transaction: Transaction, destination: str, delivery: Delivery, result: DeliveryResult
    ) -> None:
        """Store the outcome if ``delivery`` was a notification request."""
        if delivery.type == NOTIFICATION_REQUESTED:
            for request in replica.requests_of_event(transaction, delivery.id):
                if request.key.recipient == DESTINATION + destination:
                    self._settle(transaction, request, reached=isinstance(result, Delivered))

    def on_unreachable(self, transaction: Transaction, destination: str) -> None:
        """Mark requests queued for ``destination`` as failed; a later delivery overrides this."""
        for request in replica.queued_for(transaction, DESTINATION + destination):
            self._settle(transaction, request, reached=False)

    def _settle(self, transaction: Transaction, request: TrackedRequest, *, reached: bool) -> None:
        state = state_after(request.state, reached=reached)
        if state is not None:
            after = replace(request, state=state, settled_at=self.steady.now())
            replica.save_request(transaction, after)
            # Not earlier: a crash must not undo an outcome that the integration has recorded.
            transaction.after_commit(lambda: self.on_outcome(self._notified(after)))

    def outcomes(self, transaction: Transaction) -> Sequence[Notified]:
        """Return the outcomes of the notification requests of alive alerts."""
        return [self._notified(request) for request in replica.outcomes(transaction)]

    def _notified(self, request: TrackedRequest) -> Notified:
        """Return the message that reports the outcome of a request to the integration."""
        age = 0.0 if request.settled_at is None else max(0.0, self.steady.now() - request.settled_at)
        return Notified(key=request.key, reached=request.state is RequestState.DELIVERED, age=age)
