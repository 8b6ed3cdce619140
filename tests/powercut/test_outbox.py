"""The outbox and the store that ship, on a disk whose power is cut; a model says what must be left."""

import asyncio
import tempfile
from collections import Counter
from collections.abc import Awaitable, Coroutine, Mapping, Sequence
from contextlib import ExitStack
from datetime import timedelta
from itertools import count
from pathlib import Path
from random import Random
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from process_cosmos_gateway.contract.destinations import EventKind, Priority
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
from tests.gateway.store.parts import HandClock, new_ulids

from .disk import Disk, Image, Kept
from .model import Group, History, State, Waiting
from .parts import DESTINATIONS, LIMITS, counted_ulids, frequent_checkpoints, look, readings, site
from .recorder import lay_out, recorded

RESULTS: Mapping[str, DeliveryResult] = {
    "delivered": Delivered(),
    "failed": Failed("timeout"),
    "rejected": Rejected("invalid", "no"),
}
KINDS = {Priority.URGENT: EventKind.ALERT, Priority.CHANGE: EventKind.DEVICE}

CUTS_AT_THE_END = 12
"""Of each game, beside those it plays itself."""

WORTH_MEETING = ("parked", "rejected", "readings", "following")
MANY = 100
"""Games, after which chance has passed nothing by."""

MEASURED = "cloud"
"""Who wants readings."""

drafts = st.tuples(
    st.sampled_from(list(KINDS)),
    st.sampled_from("ab"),
    st.sampled_from([None, None, "cloud"]),
    st.sampled_from([None, None, None, 50.0]),
)
"""Priority, key, the one destination, seconds until it expires."""
points = st.tuples(st.booleans(), st.floats(0, 1))
"""Where the power goes: at a moment somebody asked or was answered, or anywhere; and how far into the recording."""
randoms = st.integers(0, 2**32 - 1).map(Random)
results = st.lists(st.sampled_from([*RESULTS, "delivered", "failed"]), min_size=1, max_size=8)


type Draft = tuple[Priority, str, str | None, float | None]


def as_accepted(body: bytes) -> bytes:
    """Return an event without the mark that says it was sent again: all else is the same."""
    return body.replace(b',"replayed":true}', b"}")


def group_of(delivery: Delivery) -> Group:
    """Return that within which the order of an event is kept."""
    return delivery.priority, delivery.key, delivery.replayed


class PowerCuts(RuleBasedStateMachine):
    """One site, and all the power cuts it lives through."""

    cuts: ClassVar[Counter[Kept]] = Counter()
    met: ClassVar[Counter[str]] = Counter()
    """Cuts at which something was there, by what."""

    def __init__(self) -> None:
        super().__init__()
        self._folders = tempfile.TemporaryDirectory(prefix="power-cuts-")
        self._numbers = count()
        self._runner = asyncio.Runner()
        self._recording = ExitStack()
        self._always = ExitStack()
        self._always.enter_context(frequent_checkpoints())
        self._ids = counted_ulids()
        self._events: list[Event] = []
        self._bodies: dict[Ulid, bytes] = {}
        self._rows = count()

    @initialize()
    def a_new_site(self) -> None:
        folder = self._new_folder()
        self._clock = HandClock()
        self._runner.run(_made(folder, self._clock))
        image = {file.name: file.read_bytes() for file in folder.iterdir()}
        self._begin(image, State(dict.fromkeys(DESTINATIONS, ()), dict.fromkeys(DESTINATIONS, ())))
        self.accept([(priority, "a", None, None) for priority in KINDS], [])

    @rule(news=st.lists(drafts, min_size=1, max_size=6), repeats=st.lists(st.integers(0), max_size=2))
    def accept(self, news: Sequence[Draft], repeats: Sequence[int]) -> None:
        """Several producers at once, some with what was accepted before."""
        fresh = [self._event(*draft) for draft in news]
        self._events += fresh
        events = fresh + [self._events[number % len(self._events)] for number in repeats]
        self._run(*(self._accept(event) for event in events))

    def _accept(self, event: Event) -> Coroutine[None, None, None]:
        added = Added.DUPLICATE if event.id in self._history.now.known else Added.ADDED
        state = self._history.now.accepted(event, _wanted_by(event), next(self._rows))
        return self._asked(state, self._outbox.accept(event), added)

    @rule(destination=st.sampled_from(list(DESTINATIONS)), limit=st.integers(1, 8), results=results)
    def drain(self, destination: str, limit: int, results: Sequence[str]) -> None:
        """A destination answers for some of what it is given; the rest comes again."""
        deliveries = self._runner.run(self._outbox.deliveries(destination, limit))
        for delivery in deliveries:
            body = as_accepted(delivery.body)
            assert self._bodies.setdefault(delivery.id, body) == body, "a repeat is not the same"
        events = [delivery for delivery in deliveries if delivery.priority is not Priority.READING]
        groups = self._history.now.groups(destination, self._clock.now())
        for group in {group_of(delivery) for delivery in events}:
            given = [(each.id, each.attempts, each.replayed) for each in events if group_of(each) == group]
            assert given == groups.get(group, [])[: len(given)], "given out of order, or what does not wait"
        settled = list(zip(events, (RESULTS[name] for name in results), strict=False))
        if settled:
            state = self._history.now.settled(destination, {delivery.id: result for delivery, result in settled})
            self._run(self._asked(state, self._outbox.settle(destination, settled), None))
        for pack in set(deliveries) - set(events):
            values = readings(pack)
            assert tuple(values) == self._history.now.readings[destination][: len(values)], "readings out of order"
            state = self._history.now
            if results[0] == "delivered":
                state = state.packed(destination, len(values))
            elif results[0] == "rejected":
                refused = Waiting(event=pack.id, priority=pack.priority, key=pack.key, row=-1)
                state = state.pack_rejected(destination, len(values), refused)
            self._run(self._asked(state, self._outbox.settle(destination, [(pack, RESULTS[results[0]])]), None))

    @rule(destination=st.sampled_from(list(DESTINATIONS)), limit=st.integers(1, 4), news=st.lists(drafts, max_size=3))
    def drain_ahead(self, destination: str, limit: int, news: Sequence[Draft]) -> None:
        """A load is on its way while the one before is settled, and others are accepted meanwhile; all arrive."""
        first = self._runner.run(self._outbox.deliveries(destination, limit))
        second = self._runner.run(self._outbox.prefetch(destination, limit, first)) if first else ()
        type(self).met["following"] += bool(second)
        assert not {delivery.id for delivery in first} & {delivery.id for delivery in second}, "sent twice at once"
        groups = self._history.now.groups(destination, self._clock.now())
        events = [delivery for delivery in (*first, *second) if delivery.priority is not Priority.READING]
        for group in {group_of(delivery) for delivery in events}:
            given = [(each.id, each.attempts, each.replayed) for each in events if group_of(each) == group]
            assert given == groups.get(group, [])[: len(given)], "given out of order, or what does not wait"
        if news:
            self.accept(news, [])
        for load in filter(None, (first, second)):
            state = self._history.now.settled(
                destination,
                {delivery.id: Delivered() for delivery in load if delivery.priority is not Priority.READING},
            )
            for pack in (delivery for delivery in load if delivery.priority is Priority.READING):
                state = state.packed(destination, len(readings(pack)))
            settled = [(delivery, Delivered()) for delivery in load]
            self._run(self._asked(state, self._outbox.settle(destination, settled), None))

    @rule(number=st.integers(1, 5))
    def measure(self, number: int) -> None:
        """A device says some values."""
        values = [float(next(self._rows)) for _ in range(number)]
        readings = [
            OutgoingReading(device=f"tank {value % 2}", property="level", unit="m", time=value, value=value)
            for value in values
        ]
        state = self._history.now.measured(MEASURED, values)
        write = self._store.write(lambda transaction: self._outbox.add_readings(transaction, readings))
        self._run(self._asked(state, write, None))

    @rule()
    def send_again(self) -> None:
        rejected = self._history.now.rejected
        state = self._history.now.sent_again(next(self._rows))
        for _ in rejected:
            next(self._rows)
        self._run(self._asked(state, self._outbox.send_again(), len(rejected)))

    @rule()
    def discard(self) -> None:
        count = len(self._history.now.rejected)
        state = self._history.now.discarded()
        self._run(self._asked(state, self._outbox.discard_rejected(), count))

    @rule(seconds=st.floats(0, 100))
    def time_passes(self, seconds: float) -> None:
        self._clock.advance(seconds)

    @rule()
    def give_back(self) -> None:
        """Pages nobody needs go back to the disk."""
        self._runner.run(self._store.give_back())

    @rule()
    def restart(self) -> None:
        """An ordinary stop and start: the log goes into the database."""
        self._runner.run(self._store.close())
        self._open()

    @rule(point=points, kept=st.sampled_from(Kept), random=randoms)
    def cut(self, point: tuple[bool, float], kept: Kept, random: Random) -> None:
        """The power goes at a point since the last cut; what is left is found, and life goes on from there."""
        image, state = self._cut(point, kept, random)
        self._end()
        self._begin(image, state)

    @rule(point=points, kept=st.sampled_from(Kept), random=randoms)
    def cut_aside(self, point: tuple[bool, float], kept: Kept, random: Random) -> None:
        """As if the power had gone."""
        self._cut(point, kept, random)

    def teardown(self) -> None:
        try:
            random = Random(len(self._disk.steps))  # noqa: S311 - no secret
            for number in range(CUTS_AT_THE_END):
                self._cut((number % 2 == 0, random.random()), list(Kept)[number % len(Kept)], random)
        finally:
            self._end()
            self._always.close()
            self._runner.close()
            self._folders.cleanup()

    def _cut(self, point: tuple[bool, float], kept: Kept, random: Random) -> tuple[Image, State]:
        steps = self._history.edges() if point[0] else range(len(self._disk.steps) + 1)
        step = steps[min(int(point[1] * len(steps)), len(steps) - 1)]
        image = self._disk.cut(step, kept, random)
        folder = self._new_folder()
        lay_out(image, folder)
        who = self._store.site, self._store.epoch
        seen = self._runner.run(look(folder, self._events, who, self._clock))
        bodies = {event: as_accepted(body) for event, body in seen.bodies.items()}
        assert all(self._bodies.get(event, body) == body for event, body in bodies.items()), "not the same bytes"
        type(self).cuts[kept] += 1
        there = {"parked": seen.parked, "rejected": seen.rejected, "readings": any(seen.readings.values())}
        type(self).met.update(name for name, number in there.items() if number)
        possible = self._history.possible(step)
        states = [state for state in possible if state.left(seen, self._clock.now())]
        assert states, f"cut after {step} of {len(self._disk.steps)} steps left {seen}, possible: {possible}"
        return image, states[0]

    def _begin(self, image: Image, state: State) -> None:
        self._disk = Disk(image)
        self._history = History()
        self._history.ask(state, 0).acknowledged = 0
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

    def _event(self, priority: Priority, key: str, only: str | None, expires_in: float | None) -> Event:
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
            expires_at=None if expires_in is None else self._clock.now() + timedelta(seconds=expires_in),
        )

    def _asked[T](self, state: State, action: Awaitable[T], result: T) -> Coroutine[None, None, None]:
        """Note that ``state`` is asked for; return what waits for its acknowledgement, which must be ``result``."""
        moment = self._history.ask(state, len(self._disk.steps))

        async def acknowledge() -> None:
            assert await action == result
            moment.acknowledged = len(self._disk.steps)

        return acknowledge()

    def _run(self, *waiting: Coroutine[None, None, None]) -> None:
        async def together() -> None:
            await asyncio.gather(*waiting)

        self._runner.run(together())


def _wanted_by(event: Event) -> Sequence[str]:
    if event.only is not None:
        return (event.only,)
    return [name for name, kinds in DESTINATIONS.items() if event.kind in kinds]


async def _made(folder: Path, clock: HandClock) -> None:
    """Make a site with two destinations."""
    async with site(folder, clock) as (_, outbox):
        for name, kinds in DESTINATIONS.items():
            await outbox.register(name, kinds)


def _play_by_hand() -> None:
    """Meet by hand what chance may pass by: parked alarms, rejected events, readings, a load behind another."""
    game = PowerCuts()
    game.a_new_site()
    game.measure(5)
    for _ in range(3):
        game.accept([(priority, key, None, None) for priority in KINDS for key in "aabb"], [])
    game.drain(MEASURED, 1, ["rejected"])
    game.drain_ahead(MEASURED, 1, [])
    game.accept([(Priority.URGENT, key, None, None) for key in "aabbaabb"], [])
    game.teardown()


def _play(games: int, steps: int) -> Counter[Kept]:
    """Play ``games`` of at most ``steps`` each; return the cuts there were."""
    PowerCuts.cuts, PowerCuts.met = Counter(), Counter()
    _play_by_hand()
    by_hand = min(PowerCuts.met[name] for name in WORTH_MEETING)
    assert by_hand > 0, f"passed by: {PowerCuts.met}"
    run_state_machine_as_test(
        PowerCuts,
        settings=settings(
            max_examples=games,
            stateful_step_count=steps,
            deadline=None,
            phases=[Phase.generate],  # a game is made shorter in minutes: give it Phase.shrink when one fails
            print_blob=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert games < MANY or min(PowerCuts.met[name] for name in WORTH_MEETING) > by_hand + games / 10
    return PowerCuts.cuts


def test_nothing_acknowledged_is_lost_and_nothing_settled_comes_back_in_500_power_cuts() -> None:
    cuts = _play(games=42, steps=25)
    assert cuts.total() >= 500
    assert len(cuts) == len(Kept)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_nothing_acknowledged_is_lost_and_nothing_settled_comes_back_in_10_000_power_cuts() -> None:
    cuts = _play(games=834, steps=40)
    assert cuts.total() >= 10_000
    assert len(cuts) == len(Kept)
