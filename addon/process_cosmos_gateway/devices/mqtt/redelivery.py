"""Decides whether a message from the broker was received before: functions of values, no I/O."""

from collections.abc import Collection
from enum import Enum, auto

MAX_DOUBTFUL = 2000
"""Marks remembered after their PUBACK: twice as many messages as the broker may have in flight (ReceiveMaximum)."""


class RedeliveryStatus(Enum):
    """What a received message is. In doubt it is ``POSSIBLE_REPEAT``: an event twice is better than an event lost."""

    NEW = auto()
    REPEAT = auto()
    POSSIBLE_REPEAT = auto()


class ReceivedMessages:
    """The messages of one session at the broker that it may send again.

    A *mark* is a message's packet id with a hash of its topic and payload. A broker may reuse an id once it has the
    PUBACK, and one that was killed goes back to an older state of the session. So only a message with DUP that was
    received on the connection before, and for which no PUBACK was handed to the socket since, is a ``REPEAT``: until
    the PUBACK its id cannot mean another message, and in between no other message can have been sent with it.
    """

    def __init__(self) -> None:
        """Take every message for new until a session begins, or a connection ends."""
        self._current: dict[bytes, None] = {}
        self._previous: dict[bytes, None] = {}
        self._doubtful: dict[bytes, None] = {}
        self._unconfirmed: dict[bytes, None] = {}
        self._recently_sent = 0
        """How many of the newest ``_doubtful`` are not taken to have reached the broker."""

    def begin_session(self, marks: Collection[bytes] = ()) -> None:
        """Forget another session; ``marks``: what may have been received in this one before the start."""
        self._current, self._previous, self._recently_sent = {}, {}, 0
        self._doubtful = dict.fromkeys(marks)
        self._unconfirmed = dict.fromkeys(marks)

    def end_connection(self) -> None:
        """Note that a connection, or an attempt that may have reached the broker, has ended."""
        if self._recently_sent:
            self._unconfirmed |= dict.fromkeys(list(self._doubtful)[-self._recently_sent :])
            self._recently_sent = 0
        self._doubtful |= self._previous
        self._previous, self._current = self._current, {}
        self._trim()

    def receive(self, mark: bytes, *, redelivered: bool) -> RedeliveryStatus:
        """Note a message with QoS 1 of the open connection and return what it is; ``redelivered``: it has DUP."""
        status = RedeliveryStatus.NEW
        if redelivered and mark in self._previous:
            status = RedeliveryStatus.REPEAT
        elif redelivered and (mark in self._current or mark in self._doubtful):
            status = RedeliveryStatus.POSSIBLE_REPEAT
        elif not redelivered and self._unconfirmed:
            # MQTT 5, 4.6: a broker sends what it sends again before anything new, so it no longer has the rest.
            self._unconfirmed = {each: None for each in self._unconfirmed if each in self._current}
        self._previous.pop(mark, None)
        self._current[mark] = None
        return status

    def acknowledged(self, mark: bytes) -> None:
        """Note that the PUBACK was handed to the socket; whether it arrives nobody knows."""
        self._current.pop(mark, None)
        self._unconfirmed.pop(mark, None)
        self._recently_sent += 1
        self._doubtful.pop(mark, None)
        self._doubtful[mark] = None
        self._trim()

    def unacknowledged(self, mark: bytes) -> None:
        """Note that the PUBACK was due and could not be sent, because the connection had ended."""
        self._unconfirmed[mark] = None

    def begin_commit(self) -> list[bytes]:
        """Return the marks of earlier commits that must be stored with the next one.

        PUBACKs handed to the socket before now are taken to arrive, unless the connection had ended by then.
        """
        self._recently_sent = 0
        return list(self._unconfirmed)

    def _trim(self) -> None:
        while len(self._doubtful) > MAX_DOUBTFUL:
            del self._doubtful[next(iter(self._doubtful))]
