"""What the gateway does about alerts within one transaction."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from secrets import token_bytes

from process_cosmos_gateway.clock import Clock
from process_cosmos_gateway.contract.alerts import Change, Notified, Replica, Transition, TransitionKind
from process_cosmos_gateway.contract.identifiers import DESTINATION, Ulid, UlidFactory
from process_cosmos_gateway.outbox import Delivered, Delivery, DeliveryResult, Outbox
from process_cosmos_gateway.store import Transaction

from . import proposals, replica
from .events import NOTIFICATION_REQUESTED, request_event, request_event_id, standing_event, transition_event
from .notification_requests import Decision, RequestState, Situation, TrackedRequest, decide, replace_requests, settled
from .steady_clock import SteadyClock

_LONGEST_SILENCE = 60.0
"""Seconds between two notes of the steady time while somebody may have to be asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What the service knows and the store does not."""

    home_assistant_away: bool
    may_request: bool


_MERGED = frozenset({TransitionKind.RESTORED, TransitionKind.RECONCILED})
_CLOSINGS = frozenset({TransitionKind.ANSWERED, TransitionKind.RESOLVED, TransitionKind.UNANSWERED})


def _closes_again(change: Change, closed: Replica) -> bool:
    """Say whether an integration out of a backup closes what is ``closed``, in just the way destinations heard."""
    again = change.alert
    alike = (again.state, again.revision, again.answer) == (closed.state, closed.revision, closed.answer)
    return change.kind in _CLOSINGS and alike


class TransitionProcessor:
    """Every change to replica, asks and proposals; each method runs inside somebody's transaction."""

    def __init__(self, outbox: Outbox, clock: Clock, steady: SteadyClock, tell: Callable[[Notified], None]) -> None:
        """``tell``: called in the event loop with outcomes that are on disk."""
        self._outbox = outbox
        self._clock = clock
        self._steady = steady
        self._tell = tell
        self._merged: set[Ulid] = set()
        """Alerts of which the integration itself has said, in this process, how they stand after a restore."""

    def note_time(self, transaction: Transaction) -> None:
        """Keep what timers need after a restart."""
        replica.remember(transaction, offset=self._steady.offset, newest=self._steady.now())

    def apply(self, transaction: Transaction, transition: Transition) -> None:
        """Apply one record of the integration's memory, unless it was applied before."""
        cursor = replica.cursor(transaction)
        if cursor is not None and transition.position <= cursor:
            return
        for change in transition.changes:
            self._apply_change(transaction, change, transition)
        if transition.proposal is not None:
            proposals.settle(transaction, transition.proposal)
        replica.remember(transaction, run=transition.position.run, n=transition.position.n)
        self.note_time(transaction)

    def _apply_change(self, transaction: Transaction, change: Change, transition: Transition) -> None:
        alert = change.alert
        closed = replica.closed(transaction, alert.id)
        if closed and alert.state.alive:
            return  # closed stays closed: an integration out of a backup hears so, destinations know, nobody is asked
        if closed is None or not _closes_again(change, closed):
            self._outbox.add(transaction, transition_event(change))
        if change.kind in _MERGED:
            self._merged.add(alert.id)
        replica.save(transaction, change, transition.position, self._steady.now())
        if not alert.state.alive:
            replica.forget_old(transaction, self._steady.now())
        requests = change.requests if alert.state.alive else ()
        if requests is None:
            return
        now = self._steady.now()
        newer = [
            TrackedRequest(
                key=request.key, due=now + request.due_in, due_away=now + request.due_if_home_assistant_away_in
            )
            for request in requests
        ]
        replacement = replace_requests(replica.requests_of(transaction, alert.id), newer)
        for request in replacement.kept:
            replica.save_request(transaction, request)
        self._end(transaction, gone=replacement.gone, withdraw=replacement.withdraw)
        replica.delete_older_revisions(transaction, alert.id, alert.revision)

    def announce(self, transaction: Transaction) -> None:
        """Let destinations hear how each living alert stands: some heard since the backup that it is over.

        Not of those the integration has merged: destinations hear of them by its own event.
        """
        now = self._clock.now()
        ulid_fn = UlidFactory(lambda: int(now.timestamp() * 1000), token_bytes)
        for alive in replica.alive(transaction):
            if alive.replica.id not in self._merged:
                self._outbox.add(transaction, standing_event(ulid_fn(), alive.replica, now))
        self._merged.clear()

    def process_due_requests(self, transaction: Transaction, circumstances: Circumstances) -> float | None:
        """Do what is due; return the steady time to look again, None: not before something happens."""
        times: list[float] = []
        unsettled = proposals.unsettled(transaction)
        living = replica.alive(transaction)
        for alive in living:
            pauses = [each.pauses_until(alive.replica) for each in unsettled if each.alert == alive.replica.id]
            silent_until = max([alive.silent_until, *pauses])
            while (decision := self._decide(transaction, alive, silent_until, circumstances)).queue:
                self._carry_out(transaction, decision, alive)
            self._carry_out(transaction, decision, alive)
            if decision.look_again is not None:
                times.append(decision.look_again)
        if times:
            self.note_time(transaction)
            return min(*times, self._steady.now() + _LONGEST_SILENCE)
        return None

    def _decide(
        self, transaction: Transaction, alive: replica.Alive, silent_until: float, circumstances: Circumstances
    ) -> Decision:
        situation = Situation(
            now=self._steady.now(),
            until=alive.until,
            silent_until=silent_until,
            home_assistant_away=circumstances.home_assistant_away,
            may_request=circumstances.may_request,
        )
        return decide(replica.requests_of(transaction, alive.replica.id).values(), situation)

    def _carry_out(self, transaction: Transaction, decision: Decision, alive: replica.Alive) -> None:
        self._end(transaction, gone=decision.gone, withdraw=decision.withdraw)
        for request in decision.queue:
            self._outbox.add(transaction, request_event(request.key, alive.replica, self._clock.now()))
            replica.save_request(transaction, replace(request, state=RequestState.QUEUED))
            if not self._outbox.reaches(transaction, request.key.recipient.removeprefix(DESTINATION)):
                self._settle(transaction, replace(request, state=RequestState.QUEUED), reached=False)

    def _end(
        self, transaction: Transaction, *, gone: Iterable[TrackedRequest], withdraw: Iterable[TrackedRequest]
    ) -> None:
        for request in gone:
            replica.delete_request(transaction, request.key)
        for request in withdraw:
            self._outbox.withdraw(
                transaction, request_event_id(request.key), request.key.recipient.removeprefix(DESTINATION)
            )
            replica.save_request(transaction, replace(request, state=RequestState.WITHDRAWN))

    def on_settled(
        self, transaction: Transaction, destination: str, delivery: Delivery, result: DeliveryResult
    ) -> None:
        """Note how an ask ended."""
        if delivery.type == NOTIFICATION_REQUESTED:
            for request in replica.requests_of_event(transaction, delivery.id):
                if request.key.recipient == DESTINATION + destination:
                    self._settle(transaction, request, reached=isinstance(result, Delivered))

    def on_link_down(self, transaction: Transaction, destination: str) -> None:
        """Note that what is on its way to ``destination`` has not reached it; it may later."""
        for request in replica.queued_for(transaction, DESTINATION + destination):
            self._settle(transaction, request, reached=False)

    def _settle(self, transaction: Transaction, request: TrackedRequest, *, reached: bool) -> None:
        state = settled(request.state, reached=reached)
        if state is not None:
            after = replace(request, state=state, settled_at=self._steady.now())
            replica.save_request(transaction, after)
            transaction.after_commit(lambda: self._tell(self.told(after)))

    def outcomes(self, transaction: Transaction) -> Sequence[Notified]:
        """Return how the asks of living alerts have ended."""
        return [self.told(request) for request in replica.outcomes(transaction)]

    def told(self, request: TrackedRequest) -> Notified:
        """Return what the integration is told of an ask that has ended."""
        age = 0.0 if request.settled_at is None else max(0.0, self._steady.now() - request.settled_at)
        return Notified(key=request.key, reached=request.state is RequestState.DELIVERED, age=age)
