"""The outbox: an accepted event is on disk until every destination that wants it has confirmed it."""

import asyncio
import contextlib
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import chain, islice

import orjson

from process_cosmos_gateway.clock import Clock
from process_cosmos_gateway.contract.destinations import EventKind, Priority, RejectedEvent, Waiting
from process_cosmos_gateway.contract.identifiers import Ulid
from process_cosmos_gateway.errors import StoreError
from process_cosmos_gateway.store import Store, Transaction

from . import intake, membership, settlement
from .model import Added, Depths, Event, Failed, Limits, Parcel, Verdict
from .order import Candidate, rest, sendable
from .statements import STATEMENTS, Statements

type OnSettled = Callable[[Transaction, str, Parcel, Verdict], None]
type OnLinkDown = Callable[[Transaction, str], None]
type OnJoined = Callable[[Transaction, str], Iterable[Event]]

_LISTED = 500
_LONGEST_LOOK_AWAY = 1.0
"""Seconds: the clock may be shifted or sped up while nobody looks."""


class Outbox:
    """Accepts events, hands them to destinations in order, and forgets them when all have confirmed."""

    def __init__(self, store: Store, clock: Clock, limits: Limits | None = None) -> None:
        """Keep events in ``store``."""
        self._store = store
        self._clock = clock
        self._limits = limits or Limits()
        self._watchers: list[tuple[OnSettled, OnLinkDown, OnJoined]] = []
        self._news: dict[str, asyncio.Event] = {}
        self._resting: dict[str, dict[tuple[Priority, int], float]] = {}
        self._down: set[str] = set()

    def watch(
        self,
        on_settled: OnSettled = lambda *_: None,
        on_link_down: OnLinkDown = lambda *_: None,
        on_joined: OnJoined = lambda *_: (),
    ) -> None:
        """Call these in the transaction of what they hear of.

        ``on_settled``: a destination has answered. ``on_link_down``: what waits for a destination has to go on waiting.
        ``on_joined``: a destination that wants escalations is new; what is returned goes to it alone, ids known or not.
        """
        self._watchers.append((on_settled, on_link_down, on_joined))

    # Accepting

    def add(self, transaction: Transaction, event: Event) -> Added:
        """Accept ``event`` together with whatever else ``transaction`` changes."""
        body = event.encode(self._store.site)
        added = intake.add(transaction, event, body, self._clock.now().timestamp(), self._limits)
        transaction.after_commit(self._wake_all)
        return added

    async def accept(self, event: Event) -> Added:
        """Return once ``event`` survives a power cut; raise ``StoreError`` if nothing of it is on disk."""
        return await self._store.write(lambda transaction: self.add(transaction, event))

    def withdraw(self, transaction: Transaction, event: Ulid, destination: str) -> None:
        """Take back an alarm that was for ``destination`` only; one that is on its way may still arrive."""
        intake.withdraw(transaction, event, destination)
        transaction.after_commit(self._wake_all)

    def reaches(self, transaction: Transaction, destination: str) -> bool:
        """Say whether ``destination`` is known and its link not known to be down."""
        known = transaction.rows("SELECT 1 FROM outbox_destination WHERE name = ?", destination)
        return bool(known) and destination not in self._down

    # Destinations

    async def register(self, name: str, kinds: Collection[EventKind]) -> None:
        """Let ``name`` have events of ``kinds`` from now on; a new one also hears of the escalations that are alive."""

        def change(transaction: Transaction) -> None:
            if membership.join(transaction, name, kinds) and EventKind.ESCALATION in kinds:
                for event in chain.from_iterable(joined(transaction, name) for _, _, joined in self._watchers):
                    intake.enqueue(transaction, event, event.encode(self._store.site), self._clock.now().timestamp())

        await self._store.write(change)
        self._wake_all()

    async def forget(self, name: str) -> None:
        """Forget ``name``, with what only it was waiting for."""

        def change(transaction: Transaction) -> None:
            self._tell_link_down(transaction, name)
            membership.leave(transaction, name)

        await self._store.write(change)
        self._news.pop(name, None)
        self._resting.pop(name, None)
        self._down.discard(name)

    async def link_down(self, name: str) -> None:
        """Let watchers know, once until something is delivered, that what waits for ``name`` will not go soon."""
        if name in self._down:
            return
        self._down.add(name)
        try:
            await self._store.write(lambda transaction: self._tell_link_down(transaction, name))
        except StoreError:
            self._down.discard(name)
            raise

    def _tell_link_down(self, transaction: Transaction, name: str) -> None:
        for _, link_down, _ in self._watchers:
            link_down(transaction, name)

    # Draining

    async def wait(self, destination: str) -> None:
        """Return when there may be something to send."""
        news = self._news_of(destination)
        while not news.is_set():
            resting = self._resting.get(destination, {})
            if not resting:
                await news.wait()
                return
            left = min(resting.values()) - self._clock.monotonic()
            if left <= 0:
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(news.wait(), min(left, _LONGEST_LOOK_AWAY))

    async def parcels(self, destination: str, limit: int) -> Sequence[Parcel]:
        """Return at most ``limit`` events to send now: alarms first, in order per key, without what is held back.

        The same come again until they are settled.
        """
        news = self._news_of(destination)
        news.clear()
        now = self._clock.monotonic()
        resting = {key: ready for key, ready in self._resting.get(destination, {}).items() if ready > now}
        self._resting[destination] = resting

        def question(transaction: Transaction) -> list[Parcel]:
            found: list[Parcel] = []
            for priority, statements in STATEMENTS.items():
                room = limit - len(found)
                if room > 0:
                    tired = {sequence for of_priority, sequence in resting if of_priority is priority}
                    candidates = self._candidates(transaction, destination, statements, room)
                    chosen = list(islice(sendable(candidates, tired), room))
                    found += _parcels(transaction, priority, chosen)
            return found

        parcels = await self._store.read(question)
        if parcels:
            news.set()
        return parcels

    def _candidates(
        self, transaction: Transaction, destination: str, statements: Statements, room: int
    ) -> list[Candidate]:
        cursor = transaction.rows(statements.cursor, destination)
        if not cursor:
            return []
        behind = [Candidate(*row) for row in transaction.rows(statements.behind, destination)]
        if len(behind) >= self._limits.unsettled:
            return behind
        ahead = transaction.rows(
            statements.ahead, destination=destination, cursor=cursor[0][0], limit=room + self._limits.unsettled
        )
        return behind + [Candidate(*row) for row in ahead]

    async def settle(
        self,
        destination: str,
        verdicts: Sequence[tuple[Parcel, Verdict]],
        *,
        also: Callable[[Transaction], None] | None = None,
    ) -> None:
        """Write down what became of parcels that ``parcels`` gave, with ``also``.

        Watchers hear of it in the same transaction.
        """

        def change(transaction: Transaction) -> Sequence[tuple[Parcel, Verdict]]:
            judged = settlement.settle(transaction, destination, verdicts, self._limits)
            for parcel, verdict in judged:
                for settled, _, _ in self._watchers:
                    settled(transaction, destination, parcel, verdict)
            if also is not None:
                also(transaction)
            return judged

        if not verdicts:
            return
        judged = await self._store.write(change)
        resting = self._resting.setdefault(destination, {})
        for parcel, verdict in judged:
            if isinstance(verdict, Failed):
                pause = rest(parcel.attempts + 1, self._limits.longest_rest)
                resting[parcel.priority, parcel.sequence] = self._clock.monotonic() + pause
            else:
                resting.pop((parcel.priority, parcel.sequence), None)
                self._down.discard(destination)
        self._news_of(destination).set()

    # Looking

    async def depths(self) -> Depths:
        """Return what waits, from counters."""

        def question(transaction: Transaction) -> tuple[dict[str, int], list[float]]:
            counters: dict[str, int] = dict(transaction.rows("SELECT name, value FROM outbox_counter"))
            oldest = [row[0] for each in STATEMENTS.values() for row in transaction.rows(each.oldest)]
            return counters, oldest

        counters, oldest = await self._store.read(question)
        return Depths(
            waiting=Waiting(**{priority.value: counters[priority] for priority in Priority}),
            oldest=max(0.0, self._clock.now().timestamp() - min(oldest)) if oldest else None,
            rejected=counters["rejected"],
            dropped=counters["dropped"],
            conflicts=counters["conflict"],
            forgotten=counters["forgotten"],
        )

    async def newest_id(self) -> Ulid | None:
        """Return the greatest id among those accepted, so that ids made after a restart go on above it."""
        return await self._store.read(lambda transaction: transaction.rows("SELECT max(id) FROM outbox_id")[0][0])

    async def rejected(self) -> tuple[RejectedEvent, ...]:
        """Return the oldest 500 events that destinations refused for good."""
        rows = await self._store.read(
            lambda transaction: transaction.rows(
                "SELECT id, destination, type, subject, code, message FROM outbox_rejected ORDER BY number LIMIT ?",
                _LISTED,
            )
        )
        names = ("event", "destination", "type", "subject", "code", "message")
        return tuple(RejectedEvent(**dict(zip(names, row, strict=True))) for row in rows)

    async def send_again(self) -> int:
        """Queue all rejected events anew, marked as replayed; return how many."""
        now = self._clock.now().timestamp()
        count = await self._store.write(lambda transaction: membership.send_again(transaction, now))
        self._wake_all()
        return count

    async def discard_rejected(self) -> int:
        """Forget all rejected events; return how many."""
        return await self._store.write(lambda transaction: transaction.run("DELETE FROM outbox_rejected"))

    def _news_of(self, destination: str) -> asyncio.Event:
        if destination not in self._news:
            self._news[destination] = asyncio.Event()
            self._news[destination].set()  # something may have waited since before this start
        return self._news[destination]

    def _wake_all(self) -> None:
        for news in self._news.values():
            news.set()


def _parcels(transaction: Transaction, priority: Priority, chosen: Sequence[Candidate]) -> list[Parcel]:
    wanted = orjson.dumps([candidate.sequence for candidate in chosen]).decode()
    contents = {row[0]: row[1:] for row in transaction.rows(STATEMENTS[priority].contents, wanted)}
    found = []
    for candidate in chosen:
        event, event_type, subject, body, replayed = contents[candidate.sequence]
        found.append(
            Parcel(
                priority=priority,
                sequence=candidate.sequence,
                id=event,
                type=event_type,
                subject=subject,
                key=candidate.key,
                body=body,
                attempts=candidate.failures,
                replayed=bool(replayed),
            )
        )
    return found
