"""Service of alerts: sessions with the integration, proposals from destinations, and timing of requests."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Self

from process_cosmos_gateway.clock import Clock
from process_cosmos_gateway.contract.alerts import AlertSummary, Notified, Propose, Transition
from process_cosmos_gateway.contract.cloud import InboxItem
from process_cosmos_gateway.contract.identifiers import Position
from process_cosmos_gateway.contract.session import Result
from process_cosmos_gateway.errors import StoreError
from process_cosmos_gateway.outbox import Outbox
from process_cosmos_gateway.store import Store, Transaction

from . import proposals, replica
from .proposals import Proposal
from .steady_clock import SteadyClock
from .transition_processor import Circumstances, TransitionProcessor

type Send = Callable[[Notified | Propose], None]

AWAY_AFTER = 60.0
"""Seconds without a frame after which Home Assistant counts as away."""

AWAY_AFTER_STOPPING = 300.0
"""Seconds without a frame after an announced stop until Home Assistant counts as away."""

_SHORTEST_WAIT = 0.1
"""Seconds between two checks: one that is due again at once must not keep the disk busy."""

_LONGEST_WAIT = 10.0
"""Seconds after which the steady clock is read again while a request is due later: the wall clock may be adjusted."""

_RETRY_SECONDS = 5.0

_LOGGER = logging.getLogger(__name__)


class Alerts:
    """Gateway side of the alert protocol described in ``docs/alert-protocol.md``; create it with ``Alerts.open``."""

    def __init__(
        self, store: Store, outbox: Outbox, clock: Clock, steady: SteadyClock, state: Mapping[str, Any]
    ) -> None:
        """Continue from ``state``, the rows of ``alert_state``."""
        self._store = store
        self._clock = clock
        self._steady = steady
        self._processor = TransitionProcessor(outbox, clock, steady, self._send_if_caught_up)
        self._send: Send | None = None
        self._caught_up = False
        self.entry: str | None = state.get("entry")
        """The Home Assistant config entry that the replica belongs to; None: unknown."""
        self._session_entry: str | None = None
        # A store restored from a backup must not notify, deliver or poll before the integration has sent its state.
        self._reconciled = "run" not in state or state.get("epoch") == store.epoch
        self._stop_announced = bool(state.get("stop_announced"))
        self._last_contact = clock.monotonic()
        self._may_deliver = asyncio.Event()
        self._wake = asyncio.Event()
        self._update_gate()
        outbox.add_callbacks(self._processor.on_settled, self._processor.on_unreachable, replica.newest_events)

    @classmethod
    async def open(cls, store: Store, outbox: Outbox, clock: Clock) -> Self:
        """Return the service with the state from ``store``; raise ``StoreError``."""
        rows = await store.read(lambda transaction: transaction.rows("SELECT key, value FROM alert_state"))
        state: dict[str, Any] = dict(rows)
        steady = SteadyClock(clock, state.get("offset", 0.0), state.get("newest", 0.0))
        return cls(store, outbox, clock, steady, state)

    # The session with the integration

    async def cursor_and_summaries(self) -> tuple[Position | None, tuple[AlertSummary, ...]]:
        """Return the last applied position and the alert summaries; raise ``StoreError``."""
        return await self._store.read(
            lambda transaction: (replica.read_cursor(transaction), replica.summaries(transaction))
        )

    def session_opened(self, send: Send, entry: str | None = None) -> None:
        """Begin a session of ``entry`` and end an older one; nothing is sent before ``caught_up``."""
        self._send = send
        self._session_entry = entry
        self._caught_up = False
        self._stop_announced = False
        self.heard_from_home_assistant()
        self._update_gate()

    async def apply(self, *transitions: Transition) -> None:
        """Apply transitions and return once they and their positions are committed; ignore repeats.

        Raises ``StoreError``: none of them was applied.
        """

        def change(transaction: Transaction) -> None:
            for transition in transitions:
                self._processor.apply(transaction, transition)
            self._remember_entry(transaction)
            if self._reconciled:  # else a restart before ``caught_up`` would treat this store as restored
                replica.save_state(transaction, epoch=self._store.epoch)

        await self._store.write(change)
        # During catch-up no request may be sent, and checking all alerts for each record of a long log is expensive.
        if self.may_deliver():
            self._wake.set()

    async def caught_up(self) -> None:
        """Permit deliveries and polling; send outcomes and unsettled proposals again; raise ``StoreError``."""
        # If the session ends before the commit, its successor, which has not caught up, must not get these messages.
        session = self._send

        def change(transaction: Transaction) -> None:
            replica.save_state(transaction, epoch=self._store.epoch, stop_announced=0)
            self._remember_entry(transaction)
            if not self._reconciled:
                self._processor.queue_reconciled_events(transaction)
            replica.delete_old_closed(transaction, self._steady.now())
            messages = self._processor.outcomes(transaction)
            unsettled = proposals.unsettled(transaction)
            transaction.after_commit(lambda: self._resume(session, messages, unsettled))

        await self._store.write(change)

    def _remember_entry(self, transaction: Transaction) -> None:
        """Store the session's config entry in the transaction that moves the cursor."""
        entry = self._session_entry
        if entry is not None and entry != self.entry:
            replica.save_state(transaction, entry=entry)
            transaction.after_commit(partial(self._note_entry, entry))

    def _note_entry(self, entry: str) -> None:
        self.entry = entry

    def _resume(self, session: Send | None, outcomes: Sequence[Notified], unsettled: Sequence[Proposal]) -> None:
        if session is None or session is not self._send:
            return
        self._caught_up = self._reconciled = True
        self._update_gate()
        for outcome in outcomes:
            session(outcome)
        for proposal in unsettled:
            session(proposal.to_message(self._steady.now()))

    def session_closed(self, *, announced: bool) -> None:
        """End the session; ``announced``: Home Assistant had announced its stop."""
        self._send = None
        self._caught_up = False
        if announced:
            self._stop_announced = True
            self._last_contact = self._clock.monotonic()
        self._update_gate()

    def heard_from_home_assistant(self) -> None:
        """Record that a frame arrived from Home Assistant."""
        if self._is_away():
            self._wake.set()
        self._last_contact = self._clock.monotonic()

    async def settle(self, result: Result) -> None:
        """Mark a proposal as settled that the integration accepted or refused without a record."""
        await self._store.write(lambda transaction: proposals.settle(transaction, result.id))
        self._wake.set()

    # Destinations

    def add_proposals(self, transaction: Transaction, items: Sequence[InboxItem], destination: str) -> None:
        """Store inbox items as proposals, in the transaction of the poller's cursor; ignore repeats."""
        now = self._steady.now()
        for item in items:
            proposal = proposals.add(transaction, item, destination, now)
            if proposal is not None:
                transaction.after_commit(partial(self._send_proposal, proposal))

    def has_room(self, transaction: Transaction) -> bool:
        """Return whether more proposals may be stored for Home Assistant."""
        return proposals.count_unsettled(transaction) < proposals.MOST_UNSETTLED

    def may_deliver(self) -> bool:
        """Return whether delivery to destinations and polling are permitted, which they are not during catch-up."""
        return self._may_deliver.is_set()

    async def until_may_deliver(self) -> None:
        """Wait until delivery to destinations and polling are permitted."""
        await self._may_deliver.wait()

    # Time

    async def run(self) -> None:
        """Process notification requests when they are due, until cancelled."""
        known: Circumstances | None = None
        next_check: float | None = None
        while True:
            circumstances = self._circumstances()
            is_due = next_check is not None and self._steady.now() >= next_check
            if is_due or circumstances != known or self._wake.is_set():
                self._wake.clear()
                known = circumstances
                try:
                    next_check = await self.process_due_requests()
                except StoreError:
                    _LOGGER.exception(
                        "Notification requests could not be saved and are not sent; retrying in %s s", _RETRY_SECONDS
                    )
                    next_check = self._steady.now() + _RETRY_SECONDS
            with suppress(TimeoutError):
                async with asyncio.timeout(self._seconds_to_next(next_check)):
                    await self._wake.wait()

    def _seconds_to_next(self, next_check: float | None) -> float | None:
        """Return the seconds until ``next_check`` or until Home Assistant counts as away; None: neither will come."""
        waits = [] if next_check is None else [min(next_check - self._steady.now(), _LONGEST_WAIT)]
        if not self._is_away():
            waits.append(self._away_at - self._clock.monotonic())
        return max(_SHORTEST_WAIT, min(waits)) if waits else None

    async def process_due_requests(self) -> float | None:
        """Process due requests; return the steady time of the next check (None: after the next change)."""
        circumstances, announced = self._circumstances(), self._stop_announced

        def change(transaction: Transaction) -> float | None:
            # A restart of the gateway must not shorten the wait after an announced stop.
            if announced:
                replica.save_state(transaction, stop_announced=1)
            return self._processor.process_due_requests(transaction, circumstances)

        return await self._store.write(change)

    def _circumstances(self) -> Circumstances:
        return Circumstances(home_assistant_away=self._is_away(), may_request=self.may_deliver())

    @property
    def _away_at(self) -> float:
        return self._last_contact + (AWAY_AFTER_STOPPING if self._stop_announced else AWAY_AFTER)

    def _is_away(self) -> bool:
        return self._clock.monotonic() >= self._away_at

    def _update_gate(self) -> None:
        # Without a session the gateway continues by itself, unless its store is a restored one.
        if self._reconciled and (self._send is None or self._caught_up):
            self._may_deliver.set()
        else:
            self._may_deliver.clear()
        self._wake.set()

    def _send_proposal(self, proposal: Proposal) -> None:
        # Converted only now: its age counts until it is sent, and the commit may have taken long.
        self._send_if_caught_up(proposal.to_message(self._steady.now()))

    def _send_if_caught_up(self, message: Notified | Propose) -> None:
        if self._send is not None and self._caught_up:
            self._send(message)
        self._wake.set()
