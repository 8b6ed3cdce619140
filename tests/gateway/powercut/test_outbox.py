"""Power cuts under the real outbox and store, compared with a model of the states that may remain."""

import asyncio
import tempfile
from collections import Counter
from collections.abc import Awaitable, Coroutine, Mapping, Sequence
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from random import Random
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from process_cosmos_gateway.contract.destinations import Priority
from process_cosmos_gateway.contract.events import event_type
from process_cosmos_gateway.contract.identifiers import Ulid
from process_cosmos_gateway.outbox import (
    Added,
    Delivered,
    Delivery,
    DeliveryResult,
    Event,
    Failed,
    Outbox,
    OutgoingReading,
    Rejected,
)
from process_cosmos_gateway.store import Store
from tests.gateway.outbox.parts import KINDS
from tests.gateway.store.parts import HandClock, new_ulids

from .disk import Disk, Image, Kept
from .model import Group, History, PendingEvent, State
from .parts import DESTINATIONS, LIMITS, counted_ulids, frequent_checkpoints, read_content, readings, site
from .recorder import lay_out, recorded

RESULTS: Mapping[str, DeliveryResult] = {
    "delivered": Delivered(),
    "failed": Failed("timeout"),
    "rejected": Rejected("invalid", "no"),
}

CUTS_AT_END = 12
"""Cuts at the end of each run of the state machine, in addition to those that it draws."""

RARE_STATES = ("beyond_share", "rejected", "readings", "prefetched")
MANY_RUNS = 100
"""Runs after which every rare state must have occurred by chance."""

READING_DESTINATION = "cloud"
"""The only destination that subscribes to readings."""

drafts = st.tuples(
    st.sampled_from(list(KINDS)),
    st.sampled_from("ab"),
    st.sampled_from([None, None, "cloud"]),
)
"""Priority, key, single destination."""
points = st.tuples(st.booleans(), st.floats(0, 1))
"""Position of a cut: whether only at a request or an acknowledgement, and the fraction of the recording."""
randoms = st.integers(0, 2**32 - 1).map(Random)
results = st.lists(st.sampled_from([*RESULTS, "delivered", "failed"]), min_size=1, max_size=8)


type Draft = tuple[Priority, str, str | None]


def as_accepted(body: bytes) -> bytes:
    """Return an encoded event without the ``replayed`` attribute, which is its only part that may change."""
    return body.replace(b',"replayed":true}', b"}")


def group_of(delivery: Delivery) -> Group:
    """Return the group within which the order of the event is guaranteed."""
    return delivery.priority, delivery.key, delivery.replayed


class PowerCuts(RuleBasedStateMachine):
    """A state machine of one site with random operations and power cuts."""

    cuts: ClassVar[Counter[Kept]] = Counter()
    met: ClassVar[Counter[str]] = Counter()
    """Cuts at which a rare state was present, by name."""

    def __init__(self) -> None:
        super().__init__()
        self._folders = tempfile.TemporaryDirectory(prefix="power-cuts-")
        self._numbers = count()
        self._runner = asyncio.Runner()
        self._recording = ExitStack()
        self._checkpoints = ExitStack()
        self._checkpoints.enter_context(frequent_checkpoints())
        self._ids = counted_ulids()
        self._events: list[Event] = []
        self._bodies: dict[Ulid, bytes] = {}
        self._rows = count()

    @initialize()
    def create_site(self) -> None:
        folder = self._new_folder()
        self._clock = HandClock()
        self._runner.run(_create_site(folder, self._clock))
        image = {file.name: file.read_bytes() for file in folder.iterdir()}
        self._begin(image, State(dict.fromkeys(DESTINATIONS, ()), dict.fromkeys(DESTINATIONS, ())))
        self.accept([(priority, "a", None) for priority in KINDS], [])

    @rule(news=st.lists(drafts, min_size=1, max_size=6), repeats=st.lists(st.integers(0), max_size=2))
    def accept(self, news: Sequence[Draft], repeats: Sequence[int]) -> None:
        """Accept events concurrently, some of which were accepted before."""
        fresh = [self._event(*draft) for draft in news]
        self._events += fresh
        events = fresh + [self._events[number % len(self._events)] for number in repeats]
        self._run(*(self._accept(event) for event in events))

    def _accept(self, event: Event) -> Coroutine[None, None, None]:
        added = Added.DUPLICATE if event.id in self._history.now.known else Added.ADDED
        state = self._history.now.with_accepted(event, _receivers(event), next(self._rows))
        return self._requested(state, self._outbox.accept(event), added)

    @rule(destination=st.sampled_from(list(DESTINATIONS)), limit=st.integers(1, 8), results=results)
    def drain(self, destination: str, limit: int, results: Sequence[str]) -> None:
        """Settle some of the deliveries of a destination with ``results``; the others are returned again."""
        deliveries = self._runner.run(self._outbox.deliveries(destination, limit))
        for delivery in deliveries:
            body = as_accepted(delivery.body)
            assert self._bodies.setdefault(delivery.id, body) == body, "a repeated delivery differs"
        events = [delivery for delivery in deliveries if delivery.priority is not Priority.READING]
        groups = self._history.now.groups(destination)
        for group in {group_of(delivery) for delivery in events}:
            delivered = [(each.id, each.attempts, each.replayed) for each in events if group_of(each) == group]
            assert delivered == groups.get(group, [])[: len(delivered)], "deliveries are out of order or not pending"
        settled = list(zip(events, (RESULTS[name] for name in results), strict=False))
        if settled:
            state = self._history.now.with_settled(destination, {delivery.id: result for delivery, result in settled})
            self._run(self._requested(state, self._outbox.settle(destination, settled), None))
        for batch in set(deliveries) - set(events):
            values = readings(batch)
            assert tuple(values) == self._history.now.readings[destination][: len(values)], "readings out of order"
            state = self._history.now
            if results[0] == "delivered":
                state = state.with_readings_delivered(destination, len(values))
            elif results[0] == "rejected":
                rejected = PendingEvent(event=batch.id, priority=batch.priority, key=batch.key, row=-1)
                state = state.with_batch_rejected(destination, len(values), rejected)
            self._run(self._requested(state, self._outbox.settle(destination, [(batch, RESULTS[results[0]])]), None))

    @rule(destination=st.sampled_from(list(DESTINATIONS)), limit=st.integers(1, 4), news=st.lists(drafts, max_size=3))
    def drain_with_prefetch(self, destination: str, limit: int, news: Sequence[Draft]) -> None:
        """Prefetch a batch while the one before is in flight, accept other events meanwhile, then deliver both."""
        first = self._runner.run(self._outbox.deliveries(destination, limit))
        second = self._runner.run(self._outbox.prefetch(destination, limit, first)) if first else ()
        type(self).met["prefetched"] += bool(second)
        assert not {delivery.id for delivery in first} & {delivery.id for delivery in second}, "sent twice at once"
        groups = self._history.now.groups(destination)
        events = [delivery for delivery in (*first, *second) if delivery.priority is not Priority.READING]
        for group in {group_of(delivery) for delivery in events}:
            delivered = [(each.id, each.attempts, each.replayed) for each in events if group_of(each) == group]
            assert delivered == groups.get(group, [])[: len(delivered)], "deliveries are out of order or not pending"
        if news:
            self.accept(news, [])
        for batch in filter(None, (first, second)):
            state = self._history.now.with_settled(
                destination,
                {delivery.id: Delivered() for delivery in batch if delivery.priority is not Priority.READING},
            )
            for event in (delivery for delivery in batch if delivery.priority is Priority.READING):
                state = state.with_readings_delivered(destination, len(readings(event)))
            settled = [(delivery, Delivered()) for delivery in batch]
            self._run(self._requested(state, self._outbox.settle(destination, settled), None))

    @rule(number=st.integers(1, 5))
    def add_readings(self, number: int) -> None:
        """Enqueue readings of some values."""
        values = [float(next(self._rows)) for _ in range(number)]
        readings = [
            OutgoingReading(device=f"tank {value % 2}", property="level", unit="m", time=value, value=value)
            for value in values
        ]
        state = self._history.now.with_readings(READING_DESTINATION, values)
        write = self._store.write(lambda transaction: self._outbox.add_readings(transaction, readings))
        self._run(self._requested(state, write, None))

    @rule()
    def send_again(self) -> None:
        rejected = self._history.now.rejected
        state = self._history.now.with_rejected_requeued(next(self._rows))
        for _ in rejected:
            next(self._rows)
        self._run(self._requested(state, self._outbox.send_again(), len(rejected)))

    @rule()
    def discard(self) -> None:
        count = len(self._history.now.rejected)
        state = self._history.now.with_rejected_discarded()
        self._run(self._requested(state, self._outbox.discard_rejected(), count))

    @rule(seconds=st.floats(0, 100))
    def advance_clock(self, seconds: float) -> None:
        self._clock.advance(seconds)

    @rule()
    def give_back(self) -> None:
        """Return unused pages of the database to the disk."""
        self._runner.run(self._store.return_free_pages())

    @rule()
    def restart(self) -> None:
        """Close and open the store, which checkpoints the WAL."""
        self._runner.run(self._store.close())
        self._open()

    @rule(point=points, kept=st.sampled_from(Kept), random=randoms)
    def cut(self, point: tuple[bool, float], kept: Kept, random: Random) -> None:
        """Cut the power at a point since the last cut, check what is left and continue from there."""
        image, state = self._cut(point, kept, random)
        self._end()
        self._begin(image, state)

    @rule(point=points, kept=st.sampled_from(Kept), random=randoms)
    def simulate_cut(self, point: tuple[bool, float], kept: Kept, random: Random) -> None:
        """Check what a power cut would leave, and continue without it."""
        self._cut(point, kept, random)

    def teardown(self) -> None:
        try:
            random = Random(len(self._disk.steps))  # noqa: S311 - no secret
            for number in range(CUTS_AT_END):
                self._cut((number % 2 == 0, random.random()), list(Kept)[number % len(Kept)], random)
        finally:
            self._end()
            self._checkpoints.close()
            self._runner.close()
            self._folders.cleanup()

    def _cut(self, point: tuple[bool, float], kept: Kept, random: Random) -> tuple[Image, State]:
        steps = self._history.edges() if point[0] else range(len(self._disk.steps) + 1)
        step = steps[min(int(point[1] * len(steps)), len(steps) - 1)]
        image = self._disk.cut(step, kept, random)
        folder = self._new_folder()
        lay_out(image, folder)
        identity = self._store.site, self._store.epoch
        found = self._runner.run(read_content(folder, self._events, identity, self._clock))
        bodies = {event: as_accepted(body) for event, body in found.bodies.items()}
        assert all(self._bodies.get(event, body) == body for event, body in bodies.items()), (
            "the bytes of an event differ"
        )
        type(self).cuts[kept] += 1
        present = {
            "beyond_share": found.is_beyond_share,
            "rejected": found.rejected,
            "readings": any(found.readings.values()),
        }
        type(self).met.update(name for name, number in present.items() if number)
        possible = self._history.possible(step)
        states = [state for state in possible if state.matches(found)]
        assert states, f"cut after {step} of {len(self._disk.steps)} steps left {found}, possible: {possible}"
        return image, states[0]

    def _begin(self, image: Image, state: State) -> None:
        self._disk = Disk(image)
        self._history = History()
        self._history.request(state, 0).acknowledged_at = 0
        self._folder = self._new_folder()
        lay_out(image, self._folder)
        self._vfs = self._recording.enter_context(recorded(self._folder, self._disk))
        self._open()

    def _open(self) -> None:
        self._store = self._runner.run(Store.open(self._folder, new_ulids(), vfs=self._vfs))
        self._outbox = Outbox(self._store, self._clock, LIMITS)

    def _end(self) -> None:
        if hasattr(self, "_store"):
            self._runner.run(self._store.close())
        self._recording.close()

    def _new_folder(self) -> Path:
        return Path(self._folders.name) / str(next(self._numbers))

    def _event(self, priority: Priority, key: str, only: str | None) -> Event:
        event = self._ids()
        return Event(
            id=event,
            type=event_type("test", "happened"),
            kind=KINDS[priority],
            priority=priority,
            subject=key,
            key=key,
            time=HandClock().now(),
            data={"text": f"{event} " * 20},
            only=only,
        )

    def _requested[T](self, state: State, action: Awaitable[T], result: T) -> Coroutine[None, None, None]:
        """Record that ``state`` is requested; return a coroutine that checks the result of ``action``."""
        requested_state = self._history.request(state, len(self._disk.steps))

        async def acknowledge() -> None:
            assert await action == result
            requested_state.acknowledged_at = len(self._disk.steps)

        return acknowledge()

    def _run(self, *waiting: Coroutine[None, None, None]) -> None:
        async def together() -> None:
            await asyncio.gather(*waiting)

        self._runner.run(together())


def _receivers(event: Event) -> Sequence[str]:
    if event.only is not None:
        return (event.only,)
    return [name for name, kinds in DESTINATIONS.items() if event.kind in kinds]


async def _create_site(folder: Path, clock: HandClock) -> None:
    """Create a site with two destinations."""
    async with site(folder, clock) as (_, outbox):
        for name, kinds in DESTINATIONS.items():
            await outbox.register(name, kinds)


def _run_rare_states() -> None:
    """Reach the rare states without chance: a share exceeded, rejected events, readings, a prefetched batch."""
    machine = PowerCuts()
    machine.create_site()
    machine.add_readings(5)
    for _ in range(3):
        machine.accept([(priority, key, None) for priority in KINDS for key in "aabb"], [])
    machine.drain(READING_DESTINATION, 1, ["rejected"])
    machine.drain_with_prefetch(READING_DESTINATION, 1, [])
    machine.accept([(Priority.URGENT, key, None) for key in "aabbaabb"], [])
    machine.teardown()


def _run_machine(runs: int, steps: int) -> Counter[Kept]:
    """Run the state machine ``runs`` times with at most ``steps`` steps; return the number of cuts by kind."""
    PowerCuts.cuts, PowerCuts.met = Counter(), Counter()
    _run_rare_states()
    scripted = min(PowerCuts.met[name] for name in RARE_STATES)
    assert scripted > 0, f"missed states: {PowerCuts.met}"
    run_state_machine_as_test(
        PowerCuts,
        settings=settings(
            max_examples=runs,
            stateful_step_count=steps,
            deadline=None,
            phases=[Phase.generate],  # shrinking takes minutes: add Phase.shrink to investigate a failure
            print_blob=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert runs < MANY_RUNS or min(PowerCuts.met[name] for name in RARE_STATES) > scripted + runs / 10
    return PowerCuts.cuts


def test_500_power_cuts_lose_no_acknowledged_event_and_restore_no_settled_one() -> None:
    cuts = _run_machine(runs=42, steps=25)
    assert cuts.total() >= 500
    assert len(cuts) == len(Kept)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_10_000_power_cuts_lose_no_acknowledged_event_and_restore_no_settled_one() -> None:
    cuts = _run_machine(runs=834, steps=40)
    assert cuts.total() >= 10_000
    assert len(cuts) == len(Kept)
