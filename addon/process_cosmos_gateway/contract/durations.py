"""Durations that more than one side relies on, in seconds."""

from typing import Final

_HOUR: Final = 3600.0
_DAY: Final = 24 * _HOUR

DEFAULT_ACKNOWLEDGEMENT: Final = _HOUR
"""Seconds that an acknowledgement without a duration pauses notifications."""

LONGEST_ACKNOWLEDGEMENT: Final = 366 * _DAY
"""Seconds that an acknowledgement may last; a duration in an alert action has the same limit."""

LONGEST_ANSWER_AGE: Final = _DAY
"""Seconds after which an answer or acknowledgement that is under way is no longer accepted, nor its actions run."""

CLOSED_ALERTS_KEPT: Final = 30 * _DAY
"""Seconds for which both sides remember a closed alert."""

HELLO_WITHIN: Final = 10.0
"""Seconds within which both hellos of a session must arrive."""

HEARTBEAT_EVERY: Final = 10.0
"""Seconds between two heartbeats of each side."""

SILENCE_LIMIT: Final = 2.5 * HEARTBEAT_EVERY
"""Seconds without a frame after which either side ends the session, whatever TCP reports."""

REQUEST_WITHIN: Final = 30.0
"""Seconds that Home Assistant waits for the reply to a request; an enrolment includes a round trip to the endpoint."""

LONG_POLL: Final = 25.0
"""Seconds for which a cloud endpoint delays an empty inbox page."""
