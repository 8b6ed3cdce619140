"""Seconds that came over the wire, as durations moments can be moved by."""

from datetime import timedelta

_LONGEST = timedelta(days=3650)


def duration(seconds: float) -> timedelta:
    """Return ``seconds``, from 0 to ten years: a clock that was wrong must not make a moment nobody can have."""
    return timedelta(seconds=min(max(0.0, seconds), _LONGEST.total_seconds()))
