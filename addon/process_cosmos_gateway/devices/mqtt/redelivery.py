"""Detection of messages that the broker sends again: pure functions and state, no I/O."""

from collections.abc import Collection
from enum import Enum, auto

MAX_DOUBTFUL = 2000
"""Marks remembered after their PUBACK: twice as many messages as the broker may have in flight (Receive Maximum)."""


class RedeliveryStatus(Enum):
    """Whether a received message is new. In doubt it is a ``POSSIBLE_REPEAT``: better twice than lost."""

    NEW = auto()
    REPEAT = auto()
    POSSIBLE_REPEAT = auto()


class ReceivedMessages:
    """The messages of one session that the broker may send again.

    A *mark* is a message's packet id with a hash of its topic and payload. A broker may reuse an id once it has the
    PUBACK, and one that was killed goes back to an older state of the session. So only a message with DUP that was
    received on the previous connection, and whose PUBACK was not handed to the socket since, is a ``REPEAT``: until the
    PUBACK its id cannot mean another message.
    """

    def __init__(self) -> None:
        """Begin without marks: every message counts as new."""
        self._current: dict[bytes, None] = {}
        self._previous: dict[bytes, None] = {}
        self._doubtful: dict[bytes, None] = {}
        self._unconfirmed: dict[bytes, None] = {}
        self._recently_sent = 0
        """How many of the newest ``_doubtful`` have a PUBACK that may not have reached the broker."""

    def begin_session(self, marks: Collection[bytes] = ()) -> None:
        """Discard the previous session; ``marks``: of messages that may have been received in this one."""
        self._current, self._previous, self._recently_sent = {}, {}, 0
        self._doubtful = dict.fromkeys(marks)
        self._unconfirmed = dict.fromkeys(marks)

    def end_connection(self) -> None:
        """Record the end of a connection, or of an attempt that may have reached the broker."""
        if self._recently_sent:
            # These PUBACKs may have been lost with the connection, so their marks are stored again with later commits.
            self._unconfirmed |= dict.fromkeys(list(self._doubtful)[-self._recently_sent :])
            self._recently_sent = 0
        self._doubtful |= self._previous
        self._previous, self._current = self._current, {}
        self._trim()

    def receive(self, mark: bytes, *, redelivered: bool) -> RedeliveryStatus:
        """Record a QoS 1 message of the open connection; return its status. ``redelivered``: it has DUP."""
        status = RedeliveryStatus.NEW
        if redelivered and mark in self._previous:
            status = RedeliveryStatus.REPEAT
        elif redelivered and (mark in self._current or mark in self._doubtful):
            status = RedeliveryStatus.POSSIBLE_REPEAT
        elif not redelivered and self._unconfirmed:
            # MQTT 5, section 4.6: a broker sends all repeats before anything new, so it no longer has the others.
            self._unconfirmed = {each: None for each in self._unconfirmed if each in self._current}
        self._previous.pop(mark, None)
        self._current[mark] = None
        return status

    def acknowledged(self, mark: bytes) -> None:
        """Record that the PUBACK was handed to the socket; it may still be lost on the way."""
        self._current.pop(mark, None)
        self._unconfirmed.pop(mark, None)
        self._recently_sent += 1
        # Move it to the end, because `_recently_sent` counts from there. Assigning alone would keep its old place.
        self._doubtful.pop(mark, None)
        self._doubtful[mark] = None
        self._trim()

    def unacknowledged(self, mark: bytes) -> None:
        """Record that a PUBACK was due and could not be sent, because the connection had ended."""
        self._unconfirmed[mark] = None

    def begin_commit(self) -> list[bytes]:
        """Return the marks of earlier commits that must be stored again with the next one.

        PUBACKs handed to the socket so far count as received from now on, unless their connection has already ended.
        """
        self._recently_sent = 0
        return list(self._unconfirmed)

    def _trim(self) -> None:
        while len(self._doubtful) > MAX_DOUBTFUL:
            del self._doubtful[next(iter(self._doubtful))]
