"""Which version of MQTT a broker is spoken to in."""

from enum import StrEnum

TRY_5_AGAIN = 24 * 3600.0
"""Seconds after which MQTT 5 is tried first again: a broker may have been replaced by a newer one."""


class Version(StrEnum):
    """A version of MQTT."""

    V5 = "5"
    V311 = "3.1.1"


class VersionOrder:
    """The order in which versions are tried; times are monotonic.

    Some brokers that know only 3.1.1 close the connection at a CONNECT of version 5, or say nothing. A broker that is
    being stopped does the same: so 3.1.1 comes first only once it was answered where 5 had not been.
    """

    def __init__(self) -> None:
        """Begin with MQTT 5."""
        self._v311_until = 0.0

    def in_order(self, now: float) -> tuple[Version, Version]:
        """Return both versions, the one to try first in front."""
        return (Version.V311, Version.V5) if now < self._v311_until else (Version.V5, Version.V311)

    def note_answer(self, version: Version, now: float) -> None:
        """Note that the broker answered a CONNECT in ``version`` with a CONNACK it understood."""
        if version is Version.V5:
            self._v311_until = 0.0
        elif now >= self._v311_until:
            self._v311_until = now + TRY_5_AGAIN
