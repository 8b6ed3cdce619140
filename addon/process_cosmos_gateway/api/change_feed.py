"""The feed: numbers device changes, and keeps the last minute of them for a Home Assistant that was briefly away."""

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
"""Older edges must not fire automations as if they happened now."""

MOST_KEPT = 10_000
"""Changes kept for a replay."""

type Listener = Callable[[DeviceChange | Snapshot | MissedChangesReport], None]


class ChangeFeed:
    """Hands device changes to whoever follows, each with the next number."""

    def __init__(self, clock: Clock, devices: Callable[[], tuple[Device, ...]]) -> None:
        """Take where snapshots come from.

        Numbers begin at the wall time in milliseconds: after a restart they go on above those given before it.
        """
        self._clock = clock
        self._devices = devices
        self._sequence = int(clock.now().timestamp() * 1000)
        self._kept: deque[tuple[float, DeviceChange]] = deque(maxlen=MOST_KEPT)
        self._run: Ulid | None = None
        self._listener: Listener | None = None
        self._missed_changes = MissedChanges(devices(), clock.monotonic())

    def publish(self, change: DeviceChange) -> None:
        """Number ``change``, keep it for a minute, and hand it to the follower."""
        self._sequence += 1
        numbered = replace(change, sequence=self._sequence)
        now = self._clock.monotonic()
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

    def follow(self, request: Subscribe, listener: Listener) -> None:
        """Replay to ``listener`` what this run missed, then give one snapshot, then each change as it happens.

        Between the two, if asked for, what was never confirmed and is not replayed either.
        """
        replayed = list(self._missed(request))
        for change in replayed:
            listener(change)
        listener(Snapshot(sequence=self._sequence, devices=self._devices()))
        missed = self._missed_changes.follow(
            self._clock.monotonic(),
            {change.sequence for change in replayed},
            confirmed=self._given(request.confirmed),
        )
        if request.report_missed:
            listener(missed)
        self._run = request.run
        self._listener = listener

    def unfollow(self) -> None:
        """Hand changes to nobody; they are kept for the next to follow."""
        self._listener = None

    def confirm(self, number: int) -> None:
        """Note that the follower has processed everything up to ``number``."""
        self._missed_changes.confirm(number, self._clock.monotonic())

    def _given(self, number: int) -> int:
        """Return ``number``, or 0 if it was given before the wall clock went back: then all that is kept is news."""
        return number if number <= self._sequence else 0

    def _missed(self, request: Subscribe) -> Iterable[DeviceChange]:
        """Return the changes after ``request.after``, with the age they have by now.

        A fresh feed knows no run: whoever brings a number was there before the gateway restarted.
        """
        if request.after is None or self._run not in (None, request.run):
            return
        after = self._given(request.after)
        now = self._clock.monotonic()
        for at, change in self._kept:
            if change.sequence > after and now - at <= REPLAY_SECONDS:
                yield _aged(change, now - at)


def _aged(change: DeviceChange, seconds: float) -> DeviceChange:
    if isinstance(change, ValueChanged | EventHappened):
        return replace(change, age=change.age + seconds)
    return change
