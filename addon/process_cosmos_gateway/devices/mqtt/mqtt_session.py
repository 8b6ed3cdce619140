"""The gateway's session at the broker: its name, gaps after a lost session, and messages the broker dropped."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
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
"""Topic where Mosquitto publishes, retained, its count of messages dropped since its start, for any client."""

# The counters are stored as REAL, which represents whole numbers of up to 15 digits exactly.
_MOST_DIGITS = 15
_UNKNOWN = -1

GAP = event_type("gap")


@dataclass(eq=False, repr=False)
class MqttSession:
    """State that outlives connections and restarts; call ``load`` first.

    ``name``: ours for the broker's session; packet ids are only unique within one. ``gaps``: sessions lost in the
    gateway's lifetime. ``broker_dropped``: messages the broker dropped since this gateway first read its counter,
    including those while the gateway was not running. ``outbox`` gets gap events, ``received`` the session's marks.
    """

    store: Store
    outbox: Outbox
    clock: Clock
    ulid_fn: Callable[[], Ulid]
    received: ReceivedMessages
    _broker_count: int = field(init=False, default=_UNKNOWN)
    _is_gap_unrecorded: bool = field(init=False, default=False)
    name: str = field(init=False, default="")
    gaps: int = field(init=False, default=0)
    broker_dropped: int = field(init=False, default=0)

    async def load(self) -> None:
        """Load the session from the store, or store a new one; raise ``StoreError``."""
        name, numbers = await self.store.read(
            lambda transaction: (
                repository.load_session_name(transaction),
                [read_counter(transaction, each) for each in ("gaps", "broker_dropped", "broker_count")],
            )
        )
        self.gaps, self.broker_dropped, self._broker_count = map(int, numbers)
        self.name = name or await self._create_name()
        self.received.begin_session(
            await self.store.read(lambda transaction: repository.load_message_marks(transaction, self.name))
        )

    async def _create_name(self) -> Ulid:
        name = self.ulid_fn()
        await self.store.write(lambda transaction: repository.store_session_name(transaction, name))
        return name

    async def begin_connection(self, *, present: bool, last_reading_at: float | None) -> None:
        """Record a new connection, before its first message; add a gap event if the session was lost.

        ``present``: the broker had kept the session. ``last_reading_at``: seconds since 1970 of the newest reading of
        any device, None without one. Raises ``StoreError``.
        """
        # If storing failed last time, the session the broker has kept is the new one, whose gap is not recorded yet.
        present = present and not self._is_gap_unrecorded
        self._is_gap_unrecorded = not present
        name = self.name if present else self.ulid_fn()
        if not present:
            self.received.begin_session()
        now, gap_id = self.clock.now(), self.ulid_fn()

        # One transaction: a crash must leave neither a new session without its gap nor a counted gap without its event.
        def change(transaction: Transaction) -> int:
            gaps, expected = read_counter(transaction, "gaps"), read_counter(transaction, "sessions") > 0
            if expected and not present:
                gaps += 1
                set_counter(transaction, "gaps", gaps)
                self.outbox.add(transaction, _gap_event(gap_id, now, last_reading_at))
            if not (present and expected):
                set_counter(transaction, "sessions", read_counter(transaction, "sessions") + 1)
                repository.store_session_name(transaction, name)
            return int(gaps)

        gaps = await self.store.write(change)
        self._is_gap_unrecorded = False
        if gaps > self.gaps:
            _LOGGER.warning(
                "The MQTT broker has lost our session: messages that devices sent in the meantime may be missing"
            )
        self.name, self.gaps = name, gaps

    def note_dropped_count(self, payload: bytes) -> Change | None:
        """Record a payload of ``DROPPED_TOPIC``; return what to store if the count has changed."""
        if not payload.isdigit() or len(payload) > _MOST_DIGITS:
            return None
        count, before = int(payload), self._broker_count
        if count == before:
            return None
        self._broker_count = count
        if before != _UNKNOWN:
            # After a restart the broker counts from 0 again.
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
