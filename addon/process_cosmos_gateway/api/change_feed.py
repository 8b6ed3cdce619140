"""Feed of numbered device changes that can replay the last minute after a short disconnection."""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace

from process_cosmos_gateway.clock import Clock
from process_cosmos_gateway.contract.devices import (
    Device,
    DeviceChanged,
    DeviceRemoved,
    EventHappened,
    MissedChangesReport,
    Snapshot,
    Subscribe,
    ValueChanged,
)
from process_cosmos_gateway.contract.identifiers import Ulid
from process_cosmos_gateway.contract.messages import DeviceChange

from .missed_changes import MissedChanges

REPLAY_SECONDS = 60
"""Age limit of a replay in seconds: older changes must not trigger automations as if they happened now."""

MOST_KEPT = 10_000
"""Number of newest changes kept for a replay."""

type Listener = Callable[[DeviceChange | Snapshot | MissedChangesReport], None]


class ChangeFeed:
    """Feed that numbers device changes and passes them to one subscriber."""

    def __init__(self, clock: Clock, devices: Callable[[], tuple[Device, ...]]) -> None:
        """Set the clock and the source of snapshots.

        Numbers begin at the wall time in milliseconds, so that after a restart they are greater than those before it.
        """
        self._clock = clock
        self._devices = devices
        self._sequence = int(clock.now().timestamp() * 1000)
        self._kept: deque[tuple[float, DeviceChange]] = deque(maxlen=MOST_KEPT)
        self._run: Ulid | None = None
        self._listener: Listener | None = None
        self._missed_changes = MissedChanges(devices(), clock.monotonic())

    def publish(self, change: DeviceChange) -> None:
        """Number ``change``, keep it for a replay, and pass it to the subscriber."""
        self._sequence += 1
        now = self._clock.monotonic()
        if isinstance(change, ValueChanged | EventHappened):
            numbered: DeviceChange = replace(change, sequence=self._sequence, received=now)
        else:
            numbered = replace(change, sequence=self._sequence)
        self._kept.append((now, numbered))
        while self._kept[0][0] < now - REPLAY_SECONDS:
            self._kept.popleft()
        if isinstance(numbered, ValueChanged | EventHappened):
            self._missed_changes.note(numbered, now)
        elif isinstance(numbered, DeviceChanged):
            self._missed_changes.forget(numbered.device.id, but={each.name for each in numbered.device.properties})
        elif isinstance(numbered, DeviceRemoved):
            self._missed_changes.forget(numbered.device)
        if self._listener is not None:
            self._listener(numbered)

    def subscribe(self, request: Subscribe, listener: Listener) -> None:
        """Send to ``listener`` the changes this run missed, then one snapshot, then each change as it happens.

        If requested, a report of changes that were never confirmed and are not replayed follows the snapshot.
        """
        # No await until the listener is set: a change in between would be neither in the snapshot nor sent.
        replayed = list(self._missed(request))
        for change in replayed:
            listener(change)
        listener(Snapshot(sequence=self._sequence, devices=self._devices()))
        missed = self._missed_changes.start_session(
            self._clock.monotonic(),
            {change.sequence for change in replayed},
            confirmed=self._number_or_zero(request.confirmed),
        )
        if request.report_missed:
            listener(missed)
        self._run = request.run
        self._listener = listener

    def unsubscribe(self) -> None:
        """Remove the subscriber; changes are kept for the next one."""
        self._listener = None

    def confirm(self, number: int) -> None:
        """Record that the subscriber has processed all changes up to ``number``."""
        self._missed_changes.confirm(number, self._clock.monotonic())

    def _number_or_zero(self, number: int) -> int:
        """Return ``number``, or 0 if it is from before the wall clock was set back: all kept changes are new then."""
        return number if number <= self._sequence else 0

    def _missed(self, request: Subscribe) -> Iterable[DeviceChange]:
        """Yield the changes after ``request.after`` with their current age, for the same run only.

        A new feed has no run yet: a request with a number is then from a session before the gateway's restart.
        """
        if request.after is None or self._run not in (None, request.run):
            return
        after = self._number_or_zero(request.after)
        now = self._clock.monotonic()
        for at, change in self._kept:
            if change.sequence > after and now - at <= REPLAY_SECONDS:
                yield _aged(change, now - at)


def _aged(change: DeviceChange, seconds: float) -> DeviceChange:
    if isinstance(change, ValueChanged | EventHappened):
        return replace(change, age=change.age + seconds)
    return change
