"""Rejected events over a session: listed in pages, sent again and discarded by number."""

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

from .services import FakeOwners


class Office:
    """An outbox whose events a destination rejects, and the requests about them."""

    def __init__(self, outbox: Outbox) -> None:
        """Take the outbox."""
        self.outbox = outbox
        others: Any = FakeOwners()
        self._requests = Requests(others, others, outbox)

    async def reject(self, number: int, message: str = "No such subject") -> None:
        """Let so many events be refused for good."""
        for count in range(number):
            await self.outbox.accept(event(f"event {count}", key=f"key {count}"))
        while deliveries := await self.outbox.deliveries("cloud", 500):
            await self.outbox.settle("cloud", [(delivery, Rejected("invalid", message)) for delivery in deliveries])

    async def page(self, after: int = 0) -> RejectedEvents:
        reply = await self._requests.answer(ListRejected(id="1", after=after))
        assert isinstance(reply, RejectedEvents)
        return reply

    async def numbers(self) -> list[int]:
        """Return the numbers of all, page by page."""
        found: list[int] = []
        while page := (await self.page(found[-1] if found else 0)).events:
            found += [each.number for each in page]
        return found

    async def ask(self, request: SendAgain | DiscardRejected) -> tuple[str, str] | None:
        """Return the code and the sentence of the refusal, None: it was done."""
        reply = await self._requests.answer(request)
        assert isinstance(reply, Result)
        return (reply.problem.code, reply.problem.message) if reply.problem else None


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    async with opened(tmp_path) as store:
        outbox = Outbox(store, HandClock())
        await outbox.register("cloud", [EventKind.ALERT])
        yield Office(outbox)


async def test_rejected_events_come_five_hundred_a_page_and_each_once(office: Office) -> None:
    await office.reject(501)
    first = await office.page()
    assert len(first.events) == 500
    assert len((await office.page(first.events[-1].number)).events) == 1
    assert await office.numbers() == list(range(1, 502))


async def test_a_page_that_no_frame_holds_is_cut_and_the_next_one_goes_on(office: Office) -> None:
    await office.reject(40, "é" * MAX_TEXT)
    assert len(encode(await office.page())) <= MAX_FRAME
    assert await office.numbers() == list(range(1, 41))


async def test_the_events_of_these_numbers_are_sent_again_marked_and_the_others_stay(office: Office) -> None:
    await office.reject(3)
    assert await office.ask(SendAgain(id="1", numbers=(1, 3))) is None
    assert await office.numbers() == [2]
    deliveries = await office.outbox.deliveries("cloud", 10)
    assert [orjson.loads(delivery.body)["data"]["name"] for delivery in deliveries] == ["event 0", "event 2"]
    assert all(orjson.loads(delivery.body)["replayed"] for delivery in deliveries)


async def test_the_events_of_these_numbers_are_discarded_and_the_others_stay(office: Office) -> None:
    await office.reject(3)
    assert await office.ask(DiscardRejected(id="1", numbers=(2,))) is None
    assert await office.numbers() == [1, 3]
    assert not await office.outbox.deliveries("cloud", 10)


@pytest.mark.parametrize("request_type", [SendAgain, DiscardRejected])
async def test_without_numbers_all_are_meant_and_with_none_of_them_nothing(
    office: Office, request_type: type[SendAgain | DiscardRejected]
) -> None:
    await office.reject(2)
    assert await office.ask(request_type(id="1", numbers=())) is None
    assert await office.numbers() == [1, 2]
    assert await office.ask(request_type(id="2")) is None
    assert await office.numbers() == []


@pytest.mark.parametrize("request_type", [SendAgain, DiscardRejected])
async def test_a_number_that_is_not_among_them_is_said_and_the_others_are_done(
    office: Office, request_type: type[SendAgain | DiscardRejected]
) -> None:
    await office.reject(2)
    refusal = await office.ask(request_type(id="1", numbers=(1, 7, 7)))
    assert refusal == (Code.UNKNOWN_REJECTED, "1 of 2 numbers are not among the rejected events; done for 1.")
    assert await office.numbers() == [2]
    assert await office.ask(request_type(id="2", numbers=(1,))) is not None
