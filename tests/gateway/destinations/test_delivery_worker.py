"""The delivery worker settles a batch while sending the next one, and repeats a failed batch first."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, cast

import pytest

from process_cosmos_gateway.clock import SystemClock
from process_cosmos_gateway.contract.destinations import EventKind, LinkState
from process_cosmos_gateway.destinations import batch_sender, settings
from process_cosmos_gateway.destinations.delivery_state import DeliveryState
from process_cosmos_gateway.destinations.delivery_worker import DeliveryWorker
from process_cosmos_gateway.destinations.destination import Down, Polled, ProbeResult, Refused, Sent
from process_cosmos_gateway.errors import StoreError
from process_cosmos_gateway.outbox import Delivered, Delivery, DeliveryResult, Failed, Outbox, Rejected
from process_cosmos_gateway.store import Store
from tests.support.waiting import until

from .parts import FakeAlerts, event

DESTINATION = "receiver"


SETTINGS = settings.WebhookSettings(name=DESTINATION, kinds=(EventKind.ALERT,), url="https://receiver.invalid/")


@dataclass
class FakeDestination:
    """A destination that accepts two events at once; ``answer_fn`` decides a batch's outcome, ``poll_fn`` a poll's."""

    answer_fn: Callable[[int, Sequence[Delivery]], Sent]
    batch: int = 2
    accepts_batches: Final = True
    poll_fn: Callable[[], Polled | None] = lambda: None
    batches: list[list[int]] = field(default_factory=list)
    tokens: list[str | None] = field(default_factory=list)

    async def send(self, deliveries: Sequence[Delivery], *, proven: bool, token: str | None) -> Sent:
        """Record the batch."""
        self.batches.append([int(delivery.id[3:]) for delivery in deliveries])
        self.tokens.append(token)
        return self.answer_fn(len(self.batches), deliveries)

    async def poll(self, after: int) -> Polled | None:
        """Return the result of ``poll_fn``."""
        return self.poll_fn()

    async def probe(self, event: bytes) -> ProbeResult:
        """Return a successful test."""
        return ProbeResult(delivered=True)

    async def close(self) -> None:
        """Do nothing: there are no connections."""


def accept_all(batch: int, deliveries: Sequence[Delivery]) -> Sent:
    """Accept every event, with a token for each batch."""
    return Sent(results=[(delivery, Delivered()) for delivery in deliveries], token=f"token {batch}")


@pytest.fixture
async def outbox(store: Store) -> Outbox:
    outbox = Outbox(store, SystemClock())
    await outbox.register(DESTINATION, [EventKind.ALERT])
    for number in range(1, 8):
        await outbox.accept(event(number))
    return outbox


@asynccontextmanager
async def running_worker(
    destination: FakeDestination, store: Store, outbox: Outbox, gate: FakeAlerts | None = None
) -> AsyncIterator[DeliveryWorker]:
    state = DeliveryState(
        destination=destination,
        stored=settings.StoredDestination(settings=SETTINGS, proven=True),
        store=store,
        outbox=outbox,
        alerts=cast("Any", gate or FakeAlerts()),
        clock=SystemClock(),
        jitter_fn=lambda: 0.0,
    )
    worker = DeliveryWorker(state)
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


async def test_every_event_is_sent_once_and_in_order_with_the_previous_token(store: Store, outbox: Outbox) -> None:
    destination = FakeDestination(accept_all)
    async with running_worker(destination, store, outbox):
        await until_empty(outbox)
    assert destination.batches == [[1, 2], [3, 4], [5, 6], [7]]
    assert destination.tokens == [None, "token 1", "token 2", "token 3"]


async def test_the_next_batch_is_sent_before_the_previous_one_is_settled(
    store: Store, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle, may_settle = outbox.settle, asyncio.Event()

    async def held_back(*arguments: Any, **named: Any) -> None:  # noqa: ANN401 - passed on
        await may_settle.wait()
        await settle(*arguments, **named)

    monkeypatch.setattr(outbox, "settle", held_back)
    destination = FakeDestination(accept_all)
    async with running_worker(destination, store, outbox):
        await until(lambda: len(destination.batches) == 2)
        assert destination.batches == [[1, 2], [3, 4]]
        assert await waiting(outbox) == 7
        may_settle.set()
        await until_empty(outbox)
    assert destination.batches == [[1, 2], [3, 4], [5, 6], [7]]


async def test_a_batch_delivered_in_part_is_settled_before_the_next_is_sent(store: Store, outbox: Outbox) -> None:
    def first_refused(batch: int, deliveries: Sequence[Delivery]) -> Sent:
        if batch > 1:
            return accept_all(batch, deliveries)
        results: list[tuple[Delivery, DeliveryResult]] = [(deliveries[0], Rejected("refused", "no"))]
        return Sent(results=results, token="token 1")

    destination = FakeDestination(first_refused)
    async with running_worker(destination, store, outbox):
        await until_empty(outbox)
    assert destination.batches == [[1, 2], [2, 3], [4, 5], [6, 7]]
    assert [each.event for each in await outbox.rejected()] == [event(1).id]


async def test_a_failed_batch_is_repeated_before_later_events(store: Store, outbox: Outbox) -> None:
    destination = FakeDestination(
        lambda batch, deliveries: Sent(trouble=Down(reason="timeout")) if batch == 2 else accept_all(batch, deliveries)
    )
    async with running_worker(destination, store, outbox):
        await until_empty(outbox)
    assert destination.batches == [[1, 2], [3, 4], [3, 4], [5, 6], [7]]


async def test_a_failed_settlement_repeats_its_batch_with_the_stored_token(
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
    destination = FakeDestination(accept_all)
    async with running_worker(destination, store, outbox):
        await until_empty(outbox)
    assert destination.batches == [[1, 2], [3, 4], [5, 6], [3, 4], [5, 6], [7]]
    assert destination.tokens[3] == "token 1"


async def test_after_a_commit_of_unknown_outcome_only_a_token_that_is_on_disk_is_presented(
    store: Store, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The endpoint forgets the tokens that follow a presented one: one of them may be what the next start presents."""
    settle, write, failing, refused = outbox.settle, store.write, True, 0

    async def settled_without_notice(*arguments: Any, **named: Any) -> None:  # noqa: ANN401 - passed on
        await settle(*arguments, **named)
        if failing:
            raise StoreError("store_files_gone")

    async def refusing_tokens(change: Any) -> Any:  # noqa: ANN401 - passed on
        nonlocal refused
        if failing and isinstance(change, partial) and change.func is settings.store_token:
            refused += 1
            raise StoreError("store_files_gone")
        return await write(change)

    async def stored_token() -> str | None:
        return await store.read(lambda transaction: transaction.rows("SELECT token FROM destination_token")[0][0])

    monkeypatch.setattr(outbox, "settle", settled_without_notice)
    monkeypatch.setattr(store, "write", refusing_tokens)
    destination = FakeDestination(accept_all)
    async with running_worker(destination, store, outbox) as worker:
        await until(lambda: worker.link().state is LinkState.OFFLINE)
        await until(lambda: refused > 1)
        assert await stored_token() == "token 1"
        assert destination.tokens == [None, "token 1"]  # the second was on its way when the settlement failed
        failing = False
        await until_empty(outbox)
    assert destination.tokens[2] is None
    assert await stored_token() == f"token {len(destination.batches)}"


async def test_nothing_follows_while_the_gate_is_closed(store: Store, outbox: Outbox) -> None:
    gate = FakeAlerts()

    def closing(batch: int, deliveries: Sequence[Delivery]) -> Sent:
        if batch == 1:
            gate.gate.clear()
        return accept_all(batch, deliveries)

    destination = FakeDestination(closing)
    async with running_worker(destination, store, outbox, gate):
        async with asyncio.timeout(10):
            while await waiting(outbox) != 5:  # noqa: ASYNC110 - another task settles
                await asyncio.sleep(0.005)
        assert destination.batches == [[1, 2]]
        gate.gate.set()
        await until_empty(outbox)
    assert destination.batches == [[1, 2], [3, 4], [5, 6], [7]]


async def test_an_urgent_event_does_not_wait_for_another_that_keeps_failing(
    store: Store, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_sender, "PROBE_SECONDS", 0.01)
    bad = event(1).id

    def first_fails(_: int, deliveries: Sequence[Delivery]) -> Sent:
        results: list[tuple[Delivery, DeliveryResult]] = [
            (delivery, Failed("timeout") if delivery.id == bad else Delivered()) for delivery in deliveries
        ]
        away = Down(reason="timeout", retry_after=600, event_suspected=True)
        return Sent(results=results, trouble=away if [delivery.id for delivery in deliveries] == [bad] else None)

    destination = FakeDestination(first_fails)
    async with running_worker(destination, store, outbox):
        await until(lambda: destination.batches[-1:] == [[1]])
        await outbox.accept(event(99))
        await until(lambda: any(99 in batch for batch in destination.batches))


async def test_a_refused_batch_is_repeated_only_with_a_new_urgent_event(
    store: Store, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_sender, "PROBE_SECONDS", 0.01)
    looked = 0
    look = outbox.deliveries

    async def counted(*arguments: Any, **named: Any) -> Sequence[Delivery]:  # noqa: ANN401 - passed on
        nonlocal looked
        looked += 1
        return await look(*arguments, **named)

    destination = FakeDestination(lambda *_: Sent(trouble=Refused(reason="http_404", event_suspected=True)), batch=10)
    async with running_worker(destination, store, outbox):
        await until(lambda: len(destination.batches) == 1)
        monkeypatch.setattr(outbox, "deliveries", counted)
        await until(lambda: looked > 5)
        assert len(destination.batches) == 1
        await outbox.accept(event(99))
        await until(lambda: len(destination.batches) > 1)
        looked = 0
        await until(lambda: looked > 5)
    assert destination.batches == [[1, 2, 3, 4, 5, 6, 7], [1, 2, 3, 4, 5, 6, 7, 99]]


@pytest.mark.parametrize("how", ["delivery", "test"])
async def test_a_refused_poll_is_repeated_when_the_link_is_known_to_work(
    store: Store, outbox: Outbox, how: str
) -> None:
    is_free = False
    refusal = Refused(reason="not_a_receiver", event_suspected=True)
    destination = FakeDestination(accept_all, poll_fn=lambda: Polled(trouble=None if is_free else refusal))
    async with running_worker(destination, store, outbox) as worker:
        await until_empty(outbox)
        await until(lambda: worker.link().state is LinkState.REFUSED)
        is_free = True
        if how == "delivery":
            await outbox.accept(event(99))
        else:
            await worker.resume_after_test(cast("Any", None))
        await until(lambda: worker.link().state is LinkState.CONNECTED)
