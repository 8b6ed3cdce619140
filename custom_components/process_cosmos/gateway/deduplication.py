"""Recently seen keys of device events, used to mark a redelivered event as a possible repeat."""

KEEP_FOR = 600.0
"""Seconds that a key is remembered; MQTT message ids may be reused after that."""

MAX_KEYS = 65_535
"""Maximum number of keys: the number of MQTT message ids."""


class RecentEvents:
    """A set of keys that expire after ten minutes."""

    def __init__(self) -> None:
        """Create an empty set."""
        self._seen: dict[str, float] = {}

    def remember(self, key: str, now: float) -> bool:
        """Store ``key`` as seen at ``now`` (monotonic seconds); return whether it was already known."""
        while self._seen:
            oldest = next(iter(self._seen))
            if len(self._seen) <= MAX_KEYS and self._seen[oldest] > now - KEEP_FOR:
                break
            del self._seen[oldest]
        # Removed and inserted again, which keeps the dictionary in order of time, as the loop above requires.
        known = self._seen.pop(key, None) is not None
        self._seen[key] = now
        return known
