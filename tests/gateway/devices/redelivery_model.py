"""A model of one session: a broker, a connection that breaks, and a gateway that can be killed."""

from collections import deque
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field

from process_cosmos_gateway.devices.mqtt.redelivery import ReceivedMessages, RedeliveryStatus


@dataclass(slots=True)
class BrokerMessage:
    """A message at the broker; only the model sees its ``serial``, all parts see its ``text``."""

    serial: int
    text: bytes
    number: int = 0
    dup: bool = False

    @property
    def mark(self) -> bytes:
        return b"%d-%s" % (self.number, self.text)


@dataclass(slots=True)
class BrokerSession:
    """The state of a session at the broker, which a kill resets to the last snapshot."""

    queue: deque[BrokerMessage] = field(default_factory=deque)
    in_flight: list[BrokerMessage] = field(default_factory=list)
    last_number: int = 0


@dataclass(slots=True)
class PendingMessage:
    """A message at the gateway until its PUBACK; with ``status`` REPEAT there is nothing to store."""

    sent: BrokerMessage
    status: RedeliveryStatus
    connection: int
    stored: bool = False


class Model:
    """A model that executes one step at a time and checks the guarantees at each.

    A killed gateway loses everything that is not stored; PUBACKs handed to the socket before its newest commit began
    have arrived. A killed broker goes back to its newest snapshot: it loses messages and reuses their packet ids.
    """

    def __init__(self, numbers: int) -> None:
        """Let the broker use packet ids from 1 to ``numbers``, always the next free one."""
        self._numbers = numbers
        self._serial = 0
        self._broker = BrokerSession()
        self._snapshot = BrokerSession()
        self._confirmed: set[int] = set()
        self._down: deque[BrokerMessage] | None = None
        self._up: deque[tuple[int, int]] = deque()
        self._connection = 0
        self._received = ReceivedMessages()
        self._pending: deque[PendingMessage] = deque()
        self._commits = 0
        self._life = 0
        self._row: list[bytes] = []
        self._late: set[int] = set()
        self.stored: dict[int, int] = {}
        """By serial: the run of the gateway that stored the message first."""
        self.marked = 0
        self.repeats = 0
        self.exempt: set[int] = set()
        """Messages whose repeats cannot be recognised, so that they may be stored twice.

        The broker sent them again as new. Or it sent them to a later run of the gateway than the one that acknowledged
        them, because it had lost the PUBACK, or because the PUBACK was overdue when a connection ended.
        """

    def steps(self) -> dict[str, Callable[[], None]]:
        """Return every step by its name; one that is impossible at the moment does nothing."""
        return {
            "publish": lambda: self._publish(b"true"),
            "publish another": lambda: self._publish(b"false"),
            "send": self._send,
            "receive": self._receive,
            "commit": self._commit,
            "commit one": lambda: self._commit(1),
            "puback": self._take_puback,
            "connect": self._connect,
            "reset": self._reset,
            "kill gateway": self._kill_gateway,
            "save broker": self._save_broker,
            "kill broker": self._kill_broker,
        }

    def settle(self) -> None:
        """Deliver and acknowledge everything, without further faults."""
        self._connect()
        while self._broker.queue or self._broker.in_flight or self._down or self._up:
            for step in (self._send, self._receive, self._commit, self._take_puback):
                step()

    def _publish(self, text: bytes) -> None:
        self._serial += 1
        self._broker.queue.append(BrokerMessage(self._serial, text))

    def _send(self) -> None:
        taken = {each.number for each in self._broker.in_flight}
        if self._down is None or not self._broker.queue or len(taken) == self._numbers:
            return
        number = self._broker.last_number % self._numbers + 1
        while number in taken:
            number = number % self._numbers + 1
        sent = self._broker.queue.popleft()
        sent.number = self._broker.last_number = number
        self._broker.in_flight.append(sent)
        self._down.append(deepcopy(sent))
        sent.dup = True

    def _receive(self) -> None:
        if not self._down:
            return
        sent = self._down.popleft()
        status = self._received.receive(sent.mark, redelivered=sent.dup)
        self.repeats += status is RedeliveryStatus.REPEAT
        self._pending.append(PendingMessage(sent, status, self._connection, stored=status is RedeliveryStatus.REPEAT))
        self._acknowledge()

    def _commit(self, most: int | None = None) -> None:
        batch = [each for each in self._pending if not each.stored][:most]
        if not batch:
            return
        self._row = [*self._received.begin_commit(), *(each.sent.mark for each in batch)]
        self._commits += 1
        for each in batch:
            each.stored = True
            self._store(each)
        self._acknowledge()

    def _store(self, pending: PendingMessage) -> None:
        serial = pending.sent.serial
        if pending.status is RedeliveryStatus.POSSIBLE_REPEAT:
            self.marked += 1
        else:
            assert serial not in self.stored or serial in self.exempt, "stored twice without a mark"
        self.stored.setdefault(serial, self._life)

    def _acknowledge(self) -> None:
        while self._pending and self._pending[0].stored:
            done = self._pending.popleft()
            if self._down is not None and done.connection == self._connection:
                self._up.append((self._commits, done.sent.number))
                self._received.acknowledged(done.sent.mark)
            else:
                self._received.unacknowledged(done.sent.mark)

    def _take_puback(self) -> None:
        if not self._up:
            return
        _, number = self._up.popleft()
        for each in [each for each in self._broker.in_flight if each.number == number]:
            assert each.serial in self.stored, "acknowledged and lost"
            self._broker.in_flight.remove(each)
            self._confirmed.add(each.serial)

    def _connect(self) -> None:
        if self._down is None:
            self._connection += 1
            self._down = deque(deepcopy(self._broker.in_flight))
            for each in self._broker.in_flight:
                each.dup = True

    def _reset(self) -> None:
        if self._down is not None:
            self._down = None
            late = {number for commit, number in self._up if commit < self._commits}
            self._late |= {each.serial for each in self._broker.in_flight if each.number in late}
            self._up.clear()
            self._received.end_connection()

    def _kill_gateway(self) -> None:
        while self._up and self._up[0][0] < self._commits:
            self._take_puback()
        self._reset()
        self._pending.clear()
        self._life += 1
        self._received = ReceivedMessages()
        self._received.begin_session(self._row)
        self.exempt |= (self._confirmed | self._late) & {each.serial for each in self._broker.in_flight}

    def _save_broker(self) -> None:
        self._snapshot = deepcopy(self._broker)

    def _kill_broker(self) -> None:
        self._reset()
        self._broker = deepcopy(self._snapshot)
        self.exempt |= {each.serial for each in (*self._broker.queue, *self._broker.in_flight) if not each.dup}
        restored = {each.serial for each in self._broker.in_flight} & self._confirmed
        self.exempt |= {serial for serial in restored if self.stored[serial] < self._life}
