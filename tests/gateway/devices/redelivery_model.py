"""A model of one session: a broker, a connection that breaks, and a gateway that can be killed."""

from collections import deque
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field

from process_cosmos_gateway.devices.mqtt.redelivery import ReceivedMessages, RedeliveryStatus


@dataclass(slots=True)
class Sent:
    """A message at the broker: ``serial`` is known to nobody else, ``text`` is what all can see."""

    serial: int
    text: bytes
    number: int = 0
    dup: bool = False

    @property
    def mark(self) -> bytes:
        return b"%d-%s" % (self.number, self.text)


@dataclass(slots=True)
class BrokerState:
    """What a broker has of a session, and may receive_and_drop when it is killed."""

    queue: deque[Sent] = field(default_factory=deque)
    in_flight: list[Sent] = field(default_factory=list)
    last_number: int = 0


@dataclass(slots=True)
class Waiting:
    """A message at the gateway until its PUBACK; ``status`` REPEAT: there is nothing to store."""

    sent: Sent
    status: RedeliveryStatus
    connection: int
    stored: bool = False


class Model:
    """Plays one step at a time and checks the promises at each.

    A killed gateway loses what is not stored; PUBACKs handed to the socket before its newest commit began have arrived.
    A killed broker goes back to its newest snapshot: it loses messages and gives their ids out again.
    """

    def __init__(self, numbers: int) -> None:
        """Let the broker use ids from 1 to ``numbers``, the next free one."""
        self._numbers = numbers
        self._serial = 0
        self._broker = BrokerState()
        self._snapshot = BrokerState()
        self._confirmed: set[int] = set()
        self._down: deque[Sent] | None = None
        self._up: deque[tuple[int, int]] = deque()
        self._connection = 0
        self._received = ReceivedMessages()
        self._waiting: deque[Waiting] = deque()
        self._commits = 0
        self._life = 0
        self._row: list[bytes] = []
        self._late: set[int] = set()
        self.stored: dict[int, int] = {}
        """By serial, the gateway's life that stored it first."""
        self.marked = 0
        self.repeats = 0
        self.exempt: set[int] = set()
        """What nobody can know: what a broker sent again as new, or sent again to another life of the gateway than that
        which acknowledged it, although it had forgotten the PUBACK, or it was overdue when a connection ended.
        """

    def steps(self) -> dict[str, Callable[[], None]]:
        """Return every step by its name; one that is not possible now does nothing."""
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
        """Let everything go its way without another fault."""
        self._connect()
        while self._broker.queue or self._broker.in_flight or self._down or self._up:
            for step in (self._send, self._receive, self._commit, self._take_puback):
                step()

    def _publish(self, text: bytes) -> None:
        self._serial += 1
        self._broker.queue.append(Sent(self._serial, text))

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
        self._waiting.append(Waiting(sent, status, self._connection, stored=status is RedeliveryStatus.REPEAT))
        self._acknowledge()

    def _commit(self, most: int | None = None) -> None:
        batch = [each for each in self._waiting if not each.stored][:most]
        if not batch:
            return
        self._row = [*self._received.begin_commit(), *(each.sent.mark for each in batch)]
        self._commits += 1
        for each in batch:
            each.stored = True
            self._store(each)
        self._acknowledge()

    def _store(self, waiting: Waiting) -> None:
        serial = waiting.sent.serial
        if waiting.status is RedeliveryStatus.POSSIBLE_REPEAT:
            self.marked += 1
        else:
            assert serial not in self.stored or serial in self.exempt, "stored twice without a mark"
        self.stored.setdefault(serial, self._life)

    def _acknowledge(self) -> None:
        while self._waiting and self._waiting[0].stored:
            done = self._waiting.popleft()
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
        self._waiting.clear()
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
