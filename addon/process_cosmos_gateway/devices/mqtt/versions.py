"""The choice of the MQTT version for a broker."""

from enum import StrEnum

TRY_5_AGAIN = 24 * 3600.0
"""Seconds after which MQTT 5 is tried first again: the broker may have been replaced by a newer one."""


class Version(StrEnum):
    """A supported MQTT version."""

    V5 = "5"
    V311 = "3.1.1"


class VersionOrder:
    """The order in which MQTT versions are tried; times are monotonic.

    Some brokers that support only 3.1.1 close the connection after a CONNECT of version 5, or do not answer it. A
    broker that is shutting down does the same: so 3.1.1 comes first only after it was answered where 5 was not.
    """

    def __init__(self) -> None:
        """Try MQTT 5 first."""
        self._v311_until = 0.0

    def in_order(self, now: float) -> tuple[Version, Version]:
        """Return both versions, the one to try first in front."""
        return (Version.V311, Version.V5) if now < self._v311_until else (Version.V5, Version.V311)

    def note_answer(self, version: Version, now: float) -> None:
        """Record that the broker answered a CONNECT of ``version`` with a valid CONNACK."""
        if version is Version.V5:
            self._v311_until = 0.0
        elif now >= self._v311_until:
            # Reconnects within the 24 hours do not extend them, or MQTT 5 might never be tried again.
            self._v311_until = now + TRY_5_AGAIN
