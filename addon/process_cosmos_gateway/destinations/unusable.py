"""Destinations that cannot be used as stored: each is listed with the reason until it is set again or removed."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from process_cosmos_gateway.clock import Clock
from process_cosmos_gateway.contract.destinations import DestinationKind, Link, LinkState
from process_cosmos_gateway.errors import RequestRefusedError

from .destination import Refused
from .settings import CloudSettings, Settings, address_of

UNUSABLE = Refused(reason="store_row_unreadable")
"""What is stored of a destination cannot be read, or its credentials cannot be used."""

_NO_ADDRESS = "-"


@dataclass(frozen=True, slots=True)
class _Entry:
    link: Link
    since: float


class UnusableDestinations:
    """Which destinations are left out; what waits for them is kept."""

    def __init__(self, clock: Clock) -> None:
        """Begin without a destination left out; ``clock`` says since when each one is."""
        self._clock = clock
        self._entries: dict[str, _Entry] = {}

    def __contains__(self, name: str) -> bool:
        """Return whether the destination ``name`` is left out."""
        return name in self._entries

    def add(self, name: str, kind: DestinationKind, settings: Settings | None = None) -> None:
        """Leave a destination out; ``settings``: None if they cannot be read."""
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
        self._entries.setdefault(name, _Entry(link, self._clock.monotonic()))

    def discard(self, name: str) -> None:
        """Leave a destination out no longer: it was set again, or removed."""
        self._entries.pop(name, None)

    def links(self) -> Iterable[Link]:
        """Return how each of them stands."""
        now = self._clock.monotonic()
        return (replace(entry.link, state_age=now - entry.since) for entry in self._entries.values())


def _address(settings: Settings) -> str:
    if isinstance(settings, CloudSettings):
        return settings.url
    try:
        return address_of(settings.url)
    except RequestRefusedError:
        return _NO_ADDRESS
