"""How the link to the broker stands, as Home Assistant shows it."""

import logging
from collections.abc import Callable, Iterable

from process_cosmos_gateway.contract.destinations import BrokerLink

from .connection import Connection
from .errors import IDENTITY_CONFLICT, NEEDS_USER_ACTION, STARTING

_LOGGER = logging.getLogger(__name__)

LONG_AWAY_SECONDS = 600.0
"""After so long somebody should look at the broker: it is no restart any more."""

_MAX_LISTED = 20
_MAX_DENIED = 1000


class BrokerState:
    """What is known of it; times are monotonic."""

    def __init__(self, now_fn: Callable[[], float]) -> None:
        """Take monotonic time; the broker counts as away from now on."""
        self._now_fn = now_fn
        self._reason = STARTING
        self._away_since: float | None = now_fn()
        self._connection: Connection | None = None
        self._denied: dict[str, None] = {}

    def note_connected(self, connection: Connection) -> None:
        """Note that the broker is there."""
        self._connection = connection
        self._away_since = None

    def note_lost(self, reason: str) -> None:
        """Note that it is away; ``reason``: a code, and perhaps words behind it."""
        self._connection = None
        self._reason = reason.partition(":")[0]
        if self._away_since is None:
            self._away_since = self._now_fn()

    def note_denied(self, topic: str) -> None:
        """Note that the broker does not let us listen or write to ``topic``."""
        if topic not in self._denied and len(self._denied) < _MAX_DENIED:
            self._denied[topic] = None
            _LOGGER.warning("broker_denied: The broker does not let us use %s; see its access rules", topic)

    def note_allowed(self, topic: str) -> None:
        """Remove ``topic`` from those the broker denies: it has accepted a subscription or a message."""
        self._denied.pop(topic, None)

    def forget_topics(self, topics: Iterable[str]) -> None:
        """Forget topics nobody uses any more: their device is gone, or described anew."""
        for topic in topics:
            self._denied.pop(topic, None)

    def to_broker_link(self, limited: tuple[str, ...], *, turned_away: bool) -> BrokerLink:
        """Return how it stands; ``limited``: devices that sent too much, ``turned_away``: there are too many."""
        connection, since = self._connection, self._away_since
        is_long_outage = since is not None and self._now_fn() - since >= LONG_AWAY_SECONDS
        return BrokerLink(
            reason=None if since is None else self._reason,
            needs_help=since is not None
            and self._reason != IDENTITY_CONFLICT
            and (is_long_outage or self._reason in NEEDS_USER_ACTION),
            version=None if connection is None else connection.version,
            max_qos=1 if connection is None else min(1, connection.max_qos),
            denied=tuple(self._denied)[:_MAX_LISTED],
            limited=limited[:_MAX_LISTED],
            turned_away=turned_away,
        )
