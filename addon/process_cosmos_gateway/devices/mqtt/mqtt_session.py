"""Our session at the broker: its name, whether it was lost, and what the broker says it dropped."""

import logging
from collections.abc import Callable
from datetime import UTC, datetime

from process_cosmos_gateway.clock import Clock
from process_cosmos_gateway.contract.destinations import EventKind, Priority
from process_cosmos_gateway.contract.events import event_type
from process_cosmos_gateway.contract.identifiers import Ulid
from process_cosmos_gateway.devices import repository
from process_cosmos_gateway.devices.counters import counted, set_counter
from process_cosmos_gateway.devices.message_writer import Change
from process_cosmos_gateway.outbox import GAP_KEY, Event, Outbox
from process_cosmos_gateway.store import Store, Transaction

from .redelivery import ReceivedMessages

_LOGGER = logging.getLogger(__name__)

DROPPED_TOPIC = "$SYS/broker/publish/messages/dropped"
"""Where Mosquitto says, retained, how many messages to any of its clients it has dropped since it started."""

_MOST_DIGITS = 15
_NEVER_HEARD = -1

GAP = event_type("gap")


class Session:
    """What outlives connections and starts; ``load`` it first.

    ``name``: ours for the session, as message ids mean something within one only. ``gaps``: sessions lost, for ever.
    ``broker_dropped``: messages the broker dropped since this gateway first heard of any, also while it was away.
    """

    def __init__(
        self, store: Store, outbox: Outbox, clock: Clock, ulid_fn: Callable[[], Ulid], received: ReceivedMessages
    ) -> None:
        """Take where it is kept, where a gap is told, and what was received in it."""
        self._received = received
        self._store = store
        self._outbox = outbox
        self._clock = clock
        self._ulid_fn = ulid_fn
        self._broker_count = _NEVER_HEARD
        self._is_untold = False
        self.name = ""
        self.gaps = 0
        self.broker_dropped = 0

    async def load(self) -> None:
        """Know again what is on disk, or begin; raise ``StoreError``."""
        name, numbers = await self._store.read(
            lambda transaction: (
                repository.session_name(transaction),
                [counted(transaction, each) for each in ("gaps", "broker_dropped", "broker_count")],
            )
        )
        self.gaps, self.broker_dropped, self._broker_count = map(int, numbers)
        self.name = name or await self._begin()
        self._received.begin_session(
            await self._store.read(lambda transaction: repository.known_messages(transaction, self.name))
        )

    async def _begin(self) -> Ulid:
        name = self._ulid_fn()
        await self._store.write(lambda transaction: repository.begin_session(transaction, name))
        return name

    async def opened(self, *, present: bool, heard_at: float | None) -> None:
        """Take note of a connection, before its first message; without the session that was expected tell of a gap.

        ``present``: the broker had kept the session. ``heard_at``: when devices were last heard. Raises ``StoreError``.
        """
        # The broker has kept the session it began when the disk failed, not the one before.
        present = present and not self._is_untold
        self._is_untold = not present
        name = self.name if present else self._ulid_fn()
        if not present:
            self._received.begin_session()
        now, gap = self._clock.now(), self._ulid_fn()

        def change(transaction: Transaction) -> int:
            gaps, expected = counted(transaction, "gaps"), counted(transaction, "sessions") > 0
            if expected and not present:
                gaps += 1
                set_counter(transaction, "gaps", gaps)
                self._outbox.add(transaction, _gap(gap, now, heard_at))
            if not (present and expected):
                set_counter(transaction, "sessions", counted(transaction, "sessions") + 1)
                repository.begin_session(transaction, name)
            return int(gaps)

        gaps = await self._store.write(change)
        self._is_untold = False
        if gaps > self.gaps:
            _LOGGER.warning("The broker has lost our session: what devices said meanwhile may be missing")
        self.name, self.gaps = name, gaps

    def take_dropped(self, payload: bytes) -> Change | None:
        """Take what came at ``DROPPED_TOPIC``; return what is to be written if the broker has dropped more."""
        if not payload.isdigit() or len(payload) > _MOST_DIGITS:
            return None
        said, before = int(payload), self._broker_count
        if said == before:
            return None
        self._broker_count = said
        if before != _NEVER_HEARD:
            # A broker that was started anew counts from nothing again.
            self.broker_dropped += said - before if said > before else said
        dropped = self.broker_dropped

        def change(transaction: Transaction) -> None:
            set_counter(transaction, "broker_count", said)
            set_counter(transaction, "broker_dropped", dropped)

        return change


def _gap(name: Ulid, now: datetime, heard_at: float | None) -> Event:
    since = None if heard_at is None else datetime.fromtimestamp(heard_at, UTC)
    return Event(
        id=name,
        type=GAP,
        kind=EventKind.DEVICE,
        priority=Priority.CHANGE,
        subject="broker",
        key=GAP_KEY,
        time=now,
        data={"reason": "session_lost", "since": since, "until": now},
        is_own=True,
    )
