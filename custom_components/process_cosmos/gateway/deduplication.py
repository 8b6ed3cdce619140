"""The keys of the newest device events, so that one the broker sends again is marked as a possible repeat."""

KEPT_FOR = 600.0
"""Seconds a key is remembered; MQTT's message ids may come round again after that."""

MOST = 65_535
"""Keys remembered at most: as many as MQTT has message ids."""


class RecentEvents:
    """Remembers keys for ten minutes."""

    def __init__(self) -> None:
        """Remember no key yet."""
        self._seen: dict[str, float] = {}

    def remember(self, key: str, now: float) -> bool:
        """Keep ``key`` as seen at ``now`` (monotonic seconds); say whether it was already there."""
        while self._seen:
            oldest = next(iter(self._seen))
            if len(self._seen) <= MOST and self._seen[oldest] > now - KEPT_FOR:
                break
            del self._seen[oldest]
        known = self._seen.pop(key, None) is not None
        self._seen[key] = now
        return known
