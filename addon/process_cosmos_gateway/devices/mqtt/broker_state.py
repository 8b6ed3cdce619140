"""The state of the connection to the broker, as Home Assistant shows it."""

import logging
from collections.abc import Callable, Iterable

from process_cosmos_gateway.contract.destinations import BrokerLink

from .connection import Connection
from .errors import IDENTITY_CONFLICT, NEEDS_USER_ACTION, STARTING

_LOGGER = logging.getLogger(__name__)

LONG_AWAY_SECONDS = 600.0
"""Seconds without a broker after which the user should look at it: a restart is shorter."""

_MAX_LISTED = 20
_MAX_DENIED = 1000


class BrokerState:
    """The state of the connection, and the topics that the broker denies; times are monotonic."""

    def __init__(self, now_fn: Callable[[], float], on_change: Callable[[], None]) -> None:
        """Begin without a connection, as of now; ``now_fn`` returns monotonic seconds."""
        self._now_fn = now_fn
        self._on_change = on_change
        self._reason = STARTING
        self._away_since: float | None = now_fn()
        self._connection: Connection | None = None
        self._denied: dict[str, None] = {}

    def note_connected(self, connection: Connection) -> None:
        """Record the open connection."""
        self._connection = connection
        self._away_since = None
        self._on_change()

    def note_lost(self, reason: str) -> None:
        """Record the end of the connection; ``reason``: a code, optionally followed by ``:`` and details."""
        self._connection = None
        self._reason = reason.partition(":")[0]
        if self._away_since is None:
            self._away_since = self._now_fn()
        self._on_change()

    def note_denied(self, topic: str) -> None:
        """Record that the broker refuses subscriptions or messages for ``topic``."""
        if topic not in self._denied and len(self._denied) < _MAX_DENIED:
            self._denied[topic] = None
            self._on_change()
            _LOGGER.warning(
                "broker_denied: The MQTT broker does not allow us to use %s. Check its access rules (ACL)",
                topic,
            )

    def note_allowed(self, topic: str) -> None:
        """Record that the broker has accepted a subscription or a message for ``topic``."""
        self.forget_topics([topic])

    def forget_topics(self, topics: Iterable[str]) -> None:
        """Remove topics of a device that was removed or has a new description."""
        for topic in topics:
            if topic in self._denied:
                del self._denied[topic]
                self._on_change()

    def to_broker_link(self, limited: tuple[str, ...], *, turned_away: bool) -> BrokerLink:
        """Return the state for the status message.

        ``limited``: devices above their message rate. ``turned_away``: devices were refused because there are too many.
        """
        connection, since = self._connection, self._away_since
        is_long_outage = since is not None and self._now_fn() - since >= LONG_AWAY_SECONDS
        return BrokerLink(
            reason=None if since is None else self._reason,
            # An identity conflict has a field of its own in the status, and a repair issue of its own.
            needs_help=since is not None
            and self._reason != IDENTITY_CONFLICT
            and (is_long_outage or self._reason in NEEDS_USER_ACTION),
            version=None if connection is None else connection.version,
            max_qos=1 if connection is None else min(1, connection.max_qos),
            denied=tuple(self._denied)[:_MAX_LISTED],
            limited=limited[:_MAX_LISTED],
            turned_away=turned_away,
        )
