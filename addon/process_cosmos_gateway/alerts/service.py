"""Alerts: talks to the integration, keeps time, and leaves decisions to ``requests`` and records to ``work``."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
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
"""Seconds without a receipt after which Home Assistant is away."""

AWAY_AFTER_STOPPING = 300.0
"""The same, after a stop that was announced."""

_LOOK_EVERY = 0.5
"""Seconds: the clock may be shifted or sped up while nobody looks."""

_AFTER_STORE_ERROR = 5.0

_LOGGER = logging.getLogger(__name__)


class Alerts:
    """The gateway's side of the protocol of ``docs/alert-protocol.md``. Made by ``Alerts.open``."""

    def __init__(
        self, store: Store, outbox: Outbox, clock: Clock, steady: SteadyClock, memory: Mapping[str, Any]
    ) -> None:
        """Go on from ``memory``."""
        self._store = store
        self._clock = clock
        self._steady = steady
        self._work = TransitionProcessor(outbox, clock, steady, self._tell)
        self._send: Send | None = None
        self._caught_up = False
        self.entry: str | None = memory.get("entry")
        """The config entry of Home Assistant the replica was made from; None: not known."""
        self._session_entry: str | None = None
        # A store that came out of a backup must not ask, drain or poll before the integration has said what is true.
        self._reconciled = "run" not in memory or memory.get("epoch") == store.epoch
        self._stop_announced = bool(memory.get("stop_announced"))
        self._heard_at = clock.monotonic()
        self._may_deliver = asyncio.Event()
        self._news = asyncio.Event()
        self._open_gate()
        outbox.watch(self._work.on_settled, self._work.on_link_down, replica.newest_events)

    @classmethod
    async def open(cls, store: Store, outbox: Outbox, clock: Clock) -> Self:
        """Go on from what the store has; raise ``StoreError``."""
        rows = await store.read(lambda transaction: transaction.rows("SELECT key, value FROM alert_state"))
        memory: dict[str, Any] = dict(rows)
        steady = SteadyClock(clock, memory.get("offset", 0.0), memory.get("newest", 0.0))
        return cls(store, outbox, clock, steady, memory)

    # The session with the integration

    async def greeting(self) -> tuple[Position | None, tuple[AlertSummary, ...]]:
        """Return the position applied, and what the replica says; raise ``StoreError``."""
        return await self._store.read(lambda transaction: (replica.cursor(transaction), replica.summaries(transaction)))

    def session_opened(self, send: Send, entry: str | None = None) -> None:
        """Begin a session of ``entry``; discard what is left of an older one. Nothing is sent before ``caught_up``."""
        self._send = send
        self._session_entry = entry
        self._caught_up = False
        self._stop_announced = False
        self.heard_from_home_assistant()
        self._open_gate()

    async def apply(self, *transitions: Transition) -> None:
        """Return once all of them are on disk, positions included; a repeat changes nothing.

        Raises ``StoreError``: none of them is.
        """

        def change(transaction: Transaction) -> None:
            for transition in transitions:
                self._work.apply(transaction, transition)
            self._remember_entry(transaction)
            if self._reconciled:  # else a restart before ``caught_up`` would take this store for a restored one
                replica.remember(transaction, epoch=self._store.epoch)

        await self._store.write(change)
        if self.may_deliver():  # else nothing may be asked yet, and a look at all for each record of a long log is dear
            self._news.set()

    async def caught_up(self) -> None:
        """Ask, drain and poll from now on; send outcomes and open proposals again; raise ``StoreError``."""
        session = self._send

        def change(transaction: Transaction) -> None:
            replica.remember(transaction, epoch=self._store.epoch, stop_announced=0)
            self._remember_entry(transaction)
            if not self._reconciled:
                self._work.announce(transaction)
            replica.forget_old(transaction, self._steady.now())
            messages = self._work.outcomes(transaction)
            unsettled = proposals.unsettled(transaction)
            transaction.after_commit(lambda: self._resume(session, messages, unsettled))

        await self._store.write(change)

    def _remember_entry(self, transaction: Transaction) -> None:
        """Keep whose the cursor is, in the transaction that moves it."""
        entry = self._session_entry
        if entry is not None and entry != self.entry:
            replica.remember(transaction, entry=entry)
            transaction.after_commit(partial(self._note_entry, entry))

    def _note_entry(self, entry: str) -> None:
        self.entry = entry

    def _resume(self, session: Send | None, outcomes: Sequence[Notified], unsettled: Sequence[Proposal]) -> None:
        if session is None or session is not self._send:
            return
        self._caught_up = self._reconciled = True
        self._open_gate()
        for told in outcomes:
            session(told)
        for proposal in unsettled:
            session(proposal.message(self._steady.now()))

    def session_closed(self, *, announced: bool) -> None:
        """End the session; ``announced``: Home Assistant said it was going to stop."""
        self._send = None
        self._caught_up = False
        if announced:
            self._stop_announced = True
            self._heard_at = self._clock.monotonic()
        self._open_gate()

    def heard_from_home_assistant(self) -> None:
        """Note that something was heard of Home Assistant."""
        self._heard_at = self._clock.monotonic()

    async def settle(self, result: Result) -> None:
        """Note that the integration refused, or took, a proposal without a record of its own."""
        await self._store.write(lambda transaction: proposals.settle(transaction, result.id))
        self._news.set()

    # Destinations

    def take(self, transaction: Transaction, items: Sequence[InboxItem], destination: str) -> None:
        """Keep inbox items as proposals, together with the poller's cursor; a repeat is passed over."""
        now = self._steady.now()
        for item in items:
            proposal = proposals.take(transaction, item, destination, now)
            if proposal is not None:
                transaction.after_commit(partial(self._propose, proposal))

    def has_room(self, transaction: Transaction) -> bool:
        """Return whether more answers can wait for Home Assistant."""
        return proposals.count_unsettled(transaction) < proposals.MOST_UNSETTLED

    def may_deliver(self) -> bool:
        """Say whether destinations may be sent to and polled: not while a session is catching up."""
        return self._may_deliver.is_set()

    async def until_may_deliver(self) -> None:
        """Return once destinations may be sent to and polled."""
        await self._may_deliver.wait()

    # Time

    async def run(self) -> None:
        """Ask when asks are due, until cancelled."""
        known: Circumstances | None = None
        look_again: float | None = None
        while True:
            circumstances = self._circumstances()
            is_due = look_again is not None and self._steady.now() >= look_again
            if is_due or circumstances != known or self._news.is_set():
                self._news.clear()
                known = circumstances
                try:
                    look_again = await self.look()
                except StoreError:
                    _LOGGER.exception("Asks could not be written; they are tried again in %s s", _AFTER_STORE_ERROR)
                    look_again = self._steady.now() + _AFTER_STORE_ERROR
            try:
                async with asyncio.timeout(_LOOK_EVERY):
                    await self._news.wait()
            except TimeoutError:
                pass

    async def look(self) -> float | None:
        """Do what is due now; return when to look again (steady time, None: when something happens)."""
        circumstances, announced = self._circumstances(), self._stop_announced

        def change(transaction: Transaction) -> float | None:
            if announced:
                replica.remember(transaction, stop_announced=1)
            return self._work.look(transaction, circumstances)

        return await self._store.write(change)

    def _circumstances(self) -> Circumstances:
        return Circumstances(home_assistant_away=self._is_away(), may_request=self.may_deliver())

    def _is_away(self) -> bool:
        limit = AWAY_AFTER_STOPPING if self._stop_announced else AWAY_AFTER
        return self._clock.monotonic() - self._heard_at >= limit

    def _open_gate(self) -> None:
        if self._reconciled and (self._send is None or self._caught_up):
            self._may_deliver.set()
        else:
            self._may_deliver.clear()
        self._news.set()

    def _tell(self, told: Notified) -> None:
        if self._send is not None and self._caught_up:
            self._send(told)
        self._news.set()

    def _propose(self, proposal: Proposal) -> None:
        if self._send is not None and self._caught_up:
            self._send(proposal.message(self._steady.now()))
        self._news.set()
