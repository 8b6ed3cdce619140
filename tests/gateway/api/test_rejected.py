"""Requests about rejected events: list in pages, send again and discard by number."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from process_cosmos_gateway.api.requests import Requests
from process_cosmos_gateway.contract.codec import MAX_FRAME, MAX_TEXT, encode
from process_cosmos_gateway.contract.destinations import (
    DiscardRejected,
    EventKind,
    ListRejected,
    RejectedEvents,
    SendAgain,
)
from process_cosmos_gateway.contract.errors import Code
from process_cosmos_gateway.contract.session import Result
from process_cosmos_gateway.outbox import Outbox, Rejected
from tests.gateway.outbox.parts import event
from tests.gateway.store.parts import HandClock, opened

from .services import FakeBackend


class RejectedHarness:
    """Outbox whose events a destination rejects, and the requests about them."""

    def __init__(self, outbox: Outbox) -> None:
        """Create the request handler for ``outbox``."""
        self.outbox = outbox
        others: Any = FakeBackend()
        self._requests = Requests(others, others, outbox)

    async def reject(self, number: int, message: str = "No such subject") -> None:
        """Queue ``number`` events and reject them all."""
        for count in range(number):
            await self.outbox.accept(event(f"event {count}", key=f"key {count}"))
        while deliveries := await self.outbox.deliveries("cloud", 500):
            await self.outbox.settle("cloud", [(delivery, Rejected("invalid", message)) for delivery in deliveries])

    async def page(self, after: int = 0) -> RejectedEvents:
        reply = await self._requests.answer(ListRejected(id="1", after=after))
        assert isinstance(reply, RejectedEvents)
        return reply

    async def numbers(self) -> list[int]:
        """Return the numbers of all rejected events, read page by page."""
        found: list[int] = []
        while page := (await self.page(found[-1] if found else 0)).events:
            found += [each.number for each in page]
        return found

    async def send(self, request: SendAgain | DiscardRejected) -> tuple[str, str] | None:
        """Execute a request; return code and message of a refusal, or None."""
        reply = await self._requests.answer(request)
        assert isinstance(reply, Result)
        return (reply.problem.code, reply.problem.message) if reply.problem else None


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[RejectedHarness]:
    async with opened(tmp_path) as store:
        outbox = Outbox(store, HandClock())
        await outbox.register("cloud", [EventKind.ALERT])
        yield RejectedHarness(outbox)


async def test_rejected_events_are_listed_once_in_pages_of_five_hundred(harness: RejectedHarness) -> None:
    await harness.reject(501)
    first = await harness.page()
    assert len(first.events) == 500
    assert len((await harness.page(first.events[-1].number)).events) == 1
    assert await harness.numbers() == list(range(1, 502))


async def test_a_page_too_large_for_a_frame_is_cut_and_the_next_one_continues(harness: RejectedHarness) -> None:
    await harness.reject(40, "é" * MAX_TEXT)
    assert len(encode(await harness.page())) <= MAX_FRAME
    assert await harness.numbers() == list(range(1, 41))


async def test_the_numbered_events_are_sent_again_marked_and_the_others_stay(harness: RejectedHarness) -> None:
    await harness.reject(3)
    assert await harness.send(SendAgain(id="1", numbers=(1, 3))) is None
    assert await harness.numbers() == [2]
    deliveries = await harness.outbox.deliveries("cloud", 10)
    assert [orjson.loads(delivery.body)["data"]["name"] for delivery in deliveries] == ["event 0", "event 2"]
    assert all(orjson.loads(delivery.body)["replayed"] for delivery in deliveries)


async def test_the_numbered_events_are_discarded_and_the_others_stay(harness: RejectedHarness) -> None:
    await harness.reject(3)
    assert await harness.send(DiscardRejected(id="1", numbers=(2,))) is None
    assert await harness.numbers() == [1, 3]
    assert not await harness.outbox.deliveries("cloud", 10)


@pytest.mark.parametrize("request_type", [SendAgain, DiscardRejected])
async def test_no_list_means_all_events_and_an_empty_list_none(
    harness: RejectedHarness, request_type: type[SendAgain | DiscardRejected]
) -> None:
    await harness.reject(2)
    assert await harness.send(request_type(id="1", numbers=())) is None
    assert await harness.numbers() == [1, 2]
    assert await harness.send(request_type(id="2")) is None
    assert await harness.numbers() == []


@pytest.mark.parametrize("request_type", [SendAgain, DiscardRejected])
async def test_an_unknown_number_is_reported_and_the_others_are_processed(
    harness: RejectedHarness, request_type: type[SendAgain | DiscardRejected]
) -> None:
    await harness.reject(2)
    refusal = await harness.send(request_type(id="1", numbers=(1, 7, 7)))
    assert refusal == (Code.UNKNOWN_REJECTED, "1 of 2 numbers are not rejected events. The other 1 were processed.")
    assert await harness.numbers() == [2]
    assert await harness.send(request_type(id="2", numbers=(1,))) is not None
