"""Our session at the broker: its name, whether it was lost, and what the broker says it dropped."""

import logging
from collections.abc import Callable
from datetime import UTC, datetime

from process_cosmos_gateway.clock import Clock
from process_cosmos_gateway.contract.destinations import EventKind, Priority
from process_cosmos_gateway.contract.events import event_type
from process_cosmos_gateway.contract.identifiers import Ulid
from process_cosmos_gateway.devices import repository
from process_cosmos_gateway.devices.counters import read_counter, set_counter
from process_cosmos_gateway.devices.message_writer import Change
from process_cosmos_gateway.outbox import GAP_KEY, Event, Outbox
from process_cosmos_gateway.store import Store, Transaction

from .redelivery import ReceivedMessages

_LOGGER = logging.getLogger(__name__)

DROPPED_TOPIC = "$SYS/broker/publish/messages/dropped"
"""Where Mosquitto says, retained, how many messages to any of its clients it has dropped since it started."""

_MOST_DIGITS = 15
_UNKNOWN = -1

GAP = event_type("gap")


class MqttSession:
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
        self._broker_count = _UNKNOWN
        self._is_gap_unrecorded = False
        self.name = ""
        self.gaps = 0
        self.broker_dropped = 0

    async def load(self) -> None:
        """Know again what is on disk, or begin; raise ``StoreError``."""
        name, numbers = await self._store.read(
            lambda transaction: (
                repository.load_session_name(transaction),
                [read_counter(transaction, each) for each in ("gaps", "broker_dropped", "broker_count")],
            )
        )
        self.gaps, self.broker_dropped, self._broker_count = map(int, numbers)
        self.name = name or await self._create_name()
        self._received.begin_session(
            await self._store.read(lambda transaction: repository.load_message_marks(transaction, self.name))
        )

    async def _create_name(self) -> Ulid:
        name = self._ulid_fn()
        await self._store.write(lambda transaction: repository.store_session_name(transaction, name))
        return name

    async def begin_connection(self, *, present: bool, last_reading_at: float | None) -> None:
        """Take note of a connection, before its first message; without the session that was expected tell of a gap.

        ``present``: the broker had kept the session. ``last_reading_at``: when devices were last heard. Raises ``StoreError``.
        """
        # The broker has kept the session it began when the disk failed, not the one before.
        present = present and not self._is_gap_unrecorded
        self._is_gap_unrecorded = not present
        name = self.name if present else self._ulid_fn()
        if not present:
            self._received.begin_session()
        now, gap_id = self._clock.now(), self._ulid_fn()

        def change(transaction: Transaction) -> int:
            gaps, expected = read_counter(transaction, "gaps"), read_counter(transaction, "sessions") > 0
            if expected and not present:
                gaps += 1
                set_counter(transaction, "gaps", gaps)
                self._outbox.add(transaction, _gap_event(gap_id, now, last_reading_at))
            if not (present and expected):
                set_counter(transaction, "sessions", read_counter(transaction, "sessions") + 1)
                repository.store_session_name(transaction, name)
            return int(gaps)

        gaps = await self._store.write(change)
        self._is_gap_unrecorded = False
        if gaps > self.gaps:
            _LOGGER.warning("The broker has lost our session: what devices count meanwhile may be missing")
        self.name, self.gaps = name, gaps

    def note_dropped_count(self, payload: bytes) -> Change | None:
        """Take what came at ``DROPPED_TOPIC``; return what is to be written if the broker has dropped more."""
        if not payload.isdigit() or len(payload) > _MOST_DIGITS:
            return None
        count, before = int(payload), self._broker_count
        if count == before:
            return None
        self._broker_count = count
        if before != _UNKNOWN:
            # A broker that was started anew counts from nothing again.
            self.broker_dropped += count - before if count > before else count
        dropped = self.broker_dropped

        def change(transaction: Transaction) -> None:
            set_counter(transaction, "broker_count", count)
            set_counter(transaction, "broker_dropped", dropped)

        return change


def _gap_event(event_id: Ulid, now: datetime, last_reading_at: float | None) -> Event:
    since = None if last_reading_at is None else datetime.fromtimestamp(last_reading_at, UTC)
    return Event(
        id=event_id,
        type=GAP,
        kind=EventKind.DEVICE,
        priority=Priority.CHANGE,
        subject="broker",
        key=GAP_KEY,
        time=now,
        data={"reason": "session_lost", "since": since, "until": now},
        is_own=True,
    )
