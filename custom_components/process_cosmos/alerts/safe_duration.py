"""Conversion of seconds from the wire into durations that are safe in date arithmetic."""

from datetime import timedelta

_LONGEST = timedelta(days=3650)


def duration(seconds: float) -> timedelta:
    """Return ``seconds`` as a duration, limited to 0 to ten years, so that a wrong clock cannot overflow a datetime."""
    return timedelta(seconds=min(max(0.0, seconds), _LONGEST.total_seconds()))
