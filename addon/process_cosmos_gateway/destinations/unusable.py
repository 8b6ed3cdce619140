"""Destinations that cannot be used as stored. Each is reported with a reason until it is set up again or removed."""

from collections.abc import Iterable
from dataclasses import replace

from process_cosmos_gateway.clock import Clock
from process_cosmos_gateway.contract.destinations import DestinationKind, Link, LinkState
from process_cosmos_gateway.errors import RequestRefusedError

from .destination import Refused
from .settings import Settings

UNUSABLE = Refused(reason="store_row_unreadable")
"""The stored settings cannot be read, or the credentials cannot be used."""

_NO_ADDRESS = "-"


class UnusableDestinations:
    """The destinations that are left out; events waiting for them are kept."""

    def __init__(self, clock: Clock) -> None:
        """Start without entries; ``clock`` gives the age of each entry's state."""
        self._clock = clock
        self._entries: dict[str, tuple[Link, float]] = {}
        """The state of each link, and since when (monotonic)."""

    def __contains__(self, name: str) -> bool:
        """Return whether the destination ``name`` is left out."""
        return name in self._entries

    def add(self, name: str, kind: DestinationKind, settings: Settings | None = None) -> None:
        """Leave out a destination; ``settings``: None if they cannot be read."""
        link = Link(
            name=name,
            kind=kind,
            address=_NO_ADDRESS if settings is None else _address(settings),
            kinds=() if settings is None else settings.kinds,
            state=LinkState.REFUSED,
            state_age=0.0,
            reason=UNUSABLE.reason,
            label=None if settings is None else settings.label,
        )
        # An entry that exists is kept: the age of its state must not start again.
        self._entries.setdefault(name, (link, self._clock.monotonic()))

    def discard(self, name: str) -> None:
        """Remove the entry of a destination that was set up again or removed."""
        self._entries.pop(name, None)

    def links(self) -> Iterable[Link]:
        """Return the state of each left-out destination."""
        now = self._clock.monotonic()
        return (replace(link, state_age=now - since) for link, since in self._entries.values())


def _address(settings: Settings) -> str:
    try:
        return settings.address
    except RequestRefusedError:
        return _NO_ADDRESS
