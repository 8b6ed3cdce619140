"""The pump: a load is settled while the next one is on its way, and a load that failed goes again at its time."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final, cast

import pytest

from process_cosmos_gateway.clock import SystemClock
from process_cosmos_gateway.contract.destinations import DestinationKind, EventKind, LinkState
from process_cosmos_gateway.destinations import batch_sender, settings
from process_cosmos_gateway.destinations.delivery_state import Sending
from process_cosmos_gateway.destinations.delivery_worker import DeliveryWorker
from process_cosmos_gateway.destinations.destination import Down, Polled, ProbeResult, Refused, Sent
from process_cosmos_gateway.errors import StoreError
from process_cosmos_gateway.outbox import Delivered, Delivery, DeliveryResult, Failed, Outbox, Rejected
from process_cosmos_gateway.store import Store
from tests.gateway.store.parts import opened

from .parts import FakeAlerts, event, until

FAR = "far"


@dataclass
class Far:
    """A destination that takes two events at once; ``answer_fn`` says what becomes of a load, ``poll_fn`` of a poll."""

    answer_fn: Callable[[int, Sequence[Delivery]], Sent]
    name: Final[str] = FAR
    label: Final[str | None] = None
    kind: Final[DestinationKind] = DestinationKind.CLOUD
    address: Final = "https://far.invalid"
    kinds: Final[tuple[EventKind, ...]] = (EventKind.ALERT,)
    batch: int = 2
    takes_all: Final = True
    poll_fn: Callable[[], Polled | None] = lambda: None
    loads: list[list[int]] = field(default_factory=list)
    tokens: list[str | None] = field(default_factory=list)

    async def send(self, deliveries: Sequence[Delivery], *, proven: bool, token: str | None) -> Sent:
        """Note what came."""
        self.loads.append([int(delivery.id[3:]) for delivery in deliveries])
        self.tokens.append(token)
        return self.answer_fn(len(self.loads), deliveries)

    async def poll(self, after: int) -> Polled | None:
        """Look into the inbox."""
        return self.poll_fn()

    async def probe(self, event: bytes) -> ProbeResult:
        """Find it well."""
        return ProbeResult(delivered=True)

    async def close(self) -> None:
        """Have nothing to end."""


def taken(load: int, deliveries: Sequence[Delivery]) -> Sent:
    """Take everything, with a token a load."""
    return Sent(results=[(delivery, Delivered()) for delivery in deliveries], token=f"token {load}")


@pytest.fixture
async def store(tmp_path: Any) -> AsyncIterator[Store]:  # noqa: ANN401 - pytest's
    async with opened(tmp_path) as store:
        yield store


@pytest.fixture
async def outbox(store: Store) -> Outbox:
    outbox = Outbox(store, SystemClock())
    await outbox.register(FAR, [EventKind.ALERT])
    for number in range(1, 8):
        await outbox.accept(event(number))
    return outbox


@asynccontextmanager
async def pumping(
    far: Far, store: Store, outbox: Outbox, gate: FakeAlerts | None = None
) -> AsyncIterator[DeliveryWorker]:
    sending = Sending(
        far,
        kept=settings.Kept(settings=cast("Any", None), proven=True),
        store=store,
        outbox=outbox,
        alerts=cast("Any", gate or FakeAlerts()),
        clock=SystemClock(),
        jitter_fn=lambda: 0.0,
    )
    worker = DeliveryWorker(sending)
    task = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def waiting(outbox: Outbox) -> int:
    return (await outbox.depths()).waiting.urgent


async def until_empty(outbox: Outbox) -> None:
    async with asyncio.timeout(10):
        while await waiting(outbox):  # noqa: ASYNC110 - another task settles
            await asyncio.sleep(0.005)


async def test_every_event_goes_once_and_in_order_with_the_token_of_the_load_before(
    store: Store, outbox: Outbox
) -> None:
    far = Far(taken)
    async with pumping(far, store, outbox):
        await until_empty(outbox)
    assert far.loads == [[1, 2], [3, 4], [5, 6], [7]]
    assert far.tokens == [None, "token 1", "token 2", "token 3"]


async def test_the_next_load_is_on_its_way_before_the_one_before_is_settled(
    store: Store, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle, may_settle = outbox.settle, asyncio.Event()

    async def held_back(*arguments: Any, **named: Any) -> None:  # noqa: ANN401 - passed on
        await may_settle.wait()
        await settle(*arguments, **named)

    monkeypatch.setattr(outbox, "settle", held_back)
    far = Far(taken)
    async with pumping(far, store, outbox):
        await until(lambda: len(far.loads) == 2)
        assert far.loads == [[1, 2], [3, 4]]
        assert await waiting(outbox) == 7
        may_settle.set()
        await until_empty(outbox)
    assert far.loads == [[1, 2], [3, 4], [5, 6], [7]]


async def test_a_load_that_arrived_in_part_is_settled_before_anything_else_goes(store: Store, outbox: Outbox) -> None:
    def first_refused(load: int, deliveries: Sequence[Delivery]) -> Sent:
        if load > 1:
            return taken(load, deliveries)
        results: list[tuple[Delivery, DeliveryResult]] = [(deliveries[0], Rejected("refused", "no"))]
        return Sent(results=results, token="token 1")

    far = Far(first_refused)
    async with pumping(far, store, outbox):
        await until_empty(outbox)
    assert far.loads == [[1, 2], [2, 3], [4, 5], [6, 7]]
    assert [each.event for each in await outbox.rejected()] == [event(1).id]


async def test_a_load_that_failed_goes_again_before_what_comes_after_it(store: Store, outbox: Outbox) -> None:
    far = Far(lambda load, deliveries: Sent(trouble=Down(reason="timeout")) if load == 2 else taken(load, deliveries))
    async with pumping(far, store, outbox):
        await until_empty(outbox)
    assert far.loads == [[1, 2], [3, 4], [3, 4], [5, 6], [7]]


async def test_a_settlement_that_failed_sends_its_load_again_with_the_token_on_disk(
    store: Store, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle, times = outbox.settle, 0

    async def second_fails(*arguments: Any, **named: Any) -> None:  # noqa: ANN401 - passed on
        nonlocal times
        times += 1
        if times == 2:
            raise StoreError("the disk is full")
        await settle(*arguments, **named)

    monkeypatch.setattr(outbox, "settle", second_fails)
    far = Far(taken)
    async with pumping(far, store, outbox):
        await until_empty(outbox)
    assert far.loads == [[1, 2], [3, 4], [5, 6], [3, 4], [5, 6], [7]]
    assert far.tokens[3] == "token 1"


async def test_nothing_follows_while_the_gate_is_closed(store: Store, outbox: Outbox) -> None:
    gate = FakeAlerts()

    def closing(load: int, deliveries: Sequence[Delivery]) -> Sent:
        if load == 1:
            gate.gate.clear()
        return taken(load, deliveries)

    far = Far(closing)
    async with pumping(far, store, outbox, gate):
        async with asyncio.timeout(10):
            while await waiting(outbox) != 5:  # noqa: ASYNC110 - another task settles
                await asyncio.sleep(0.005)
        assert far.loads == [[1, 2]]
        gate.gate.set()
        await until_empty(outbox)
    assert far.loads == [[1, 2], [3, 4], [5, 6], [7]]


async def test_an_alarm_does_not_wait_while_the_only_other_one_fails_again_and_again(
    store: Store, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_sender, "PROBE_SECONDS", 0.01)
    bad = event(1).id

    def first_fails(_: int, deliveries: Sequence[Delivery]) -> Sent:
        results: list[tuple[Delivery, DeliveryResult]] = [
            (delivery, Failed("timeout") if delivery.id == bad else Delivered()) for delivery in deliveries
        ]
        away = Down(reason="timeout", retry_after=600, of_event=True)
        return Sent(results=results, trouble=away if [delivery.id for delivery in deliveries] == [bad] else None)

    far = Far(first_fails)
    async with pumping(far, store, outbox):
        await until(lambda: far.loads[-1:] == [[1]])
        await outbox.accept(event(99))
        await until(lambda: any(99 in load for load in far.loads))


async def test_a_load_that_was_refused_goes_again_with_a_new_alarm_and_not_before(
    store: Store, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_sender, "PROBE_SECONDS", 0.01)
    looked = 0
    look = outbox.deliveries

    async def counted(*arguments: Any, **named: Any) -> Sequence[Delivery]:  # noqa: ANN401 - passed on
        nonlocal looked
        looked += 1
        return await look(*arguments, **named)

    far = Far(lambda *_: Sent(trouble=Refused(reason="http_404", of_event=True)), batch=10)
    async with pumping(far, store, outbox):
        await until(lambda: len(far.loads) == 1)
        monkeypatch.setattr(outbox, "deliveries", counted)
        await until(lambda: looked > 5)
        assert len(far.loads) == 1
        await outbox.accept(event(99))
        await until(lambda: len(far.loads) > 1)
        looked = 0
        await until(lambda: looked > 5)
    assert far.loads == [[1, 2, 3, 4, 5, 6, 7], [1, 2, 3, 4, 5, 6, 7, 99]]


@pytest.mark.parametrize("how", ["delivery", "test"])
async def test_a_refused_poll_is_repeated_when_the_link_is_known_to_work(
    store: Store, outbox: Outbox, how: str
) -> None:
    is_free = False
    refusal = Refused(reason="not_a_receiver", of_event=True)
    far = Far(taken, poll_fn=lambda: Polled(trouble=None if is_free else refusal))
    async with pumping(far, store, outbox) as worker:
        await until_empty(outbox)
        await until(lambda: worker.link().state is LinkState.REFUSED)
        is_free = True
        if how == "delivery":
            await outbox.accept(event(99))
        else:
            await worker.proven_by_test(cast("Any", None))
        await until(lambda: worker.link().state is LinkState.CONNECTED)
