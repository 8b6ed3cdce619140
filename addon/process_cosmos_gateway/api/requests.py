"""Answers the requests of a session: one row a message."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any

from process_cosmos_gateway.contract.codec import MAX_FRAME, encode
from process_cosmos_gateway.contract.destinations import (
    ApproveReply,
    ChangeDestination,
    DestinationTested,
    DiscardRejected,
    ListRejected,
    RejectedEvent,
    RejectedEvents,
    RemoveDestination,
    SendAgain,
    SetCloud,
    SetWebhook,
    TestDestination,
)
from process_cosmos_gateway.contract.devices import WriteProperty
from process_cosmos_gateway.contract.errors import Code
from process_cosmos_gateway.contract.messages import DestinationRequest
from process_cosmos_gateway.contract.session import Problem, Result
from process_cosmos_gateway.destinations import Destinations
from process_cosmos_gateway.devices import Devices
from process_cosmos_gateway.errors import RequestRefusedError, StoreError
from process_cosmos_gateway.outbox import Outbox

type Answerable = WriteProperty | DestinationRequest
type Reply = Result | RejectedEvents | DestinationTested


class Requests:
    """Does what Home Assistant asks for, and says how it went."""

    def __init__(self, devices: Devices, destinations: Destinations, outbox: Outbox) -> None:
        """Take the parts that do the work."""
        self._outbox = outbox
        self._destinations = destinations
        self._handlers: Mapping[type[Answerable], Callable[[Any], Awaitable[object]]] = {
            WriteProperty: devices.write,
            SetWebhook: destinations.set_webhook,
            SetCloud: destinations.set_cloud,
            ChangeDestination: destinations.change,
            ApproveReply: destinations.approve,
            RemoveDestination: lambda request: destinations.remove(request.name),
            SendAgain: lambda request: _all_known(request, outbox.send_again),
            DiscardRejected: lambda request: _all_known(request, outbox.discard_rejected),
        }

    async def answer(self, request: Answerable) -> Reply:
        """Return the reply to ``request``: done, or why not."""
        try:
            if isinstance(request, ListRejected):
                return _page(request.id, await self._outbox.rejected(request.after))
            if isinstance(request, TestDestination):
                return await self._destinations.test(request)
            await self._handlers[type(request)](request)
        except RequestRefusedError as error:
            return Result(id=request.id, problem=Problem(code=error.code, message=str(error)))
        except StoreError:
            sentence = "The gateway could not write to its disk. A device may have heard of it once; nothing was kept."
            return Result(id=request.id, problem=Problem(code=Code.STORE_FAILED, message=sentence))
        return Result(id=request.id)


async def _all_known(
    request: SendAgain | DiscardRejected, settle: Callable[[Collection[int] | None], Awaitable[int]]
) -> None:
    """Settle the rejected events of these numbers; raise ``RequestRefusedError`` if some were not there."""
    numbers = None if request.numbers is None else set(request.numbers)
    found = await settle(numbers)
    if numbers is not None and found < len(numbers):
        missing = len(numbers) - found
        sentence = f"{missing} of {len(numbers)} numbers are not among the rejected events; done for {found}."
        raise RequestRefusedError(Code.UNKNOWN_REJECTED, sentence)


def _page(request: str, events: Sequence[RejectedEvent]) -> RejectedEvents:
    """Return the first of ``events``, as many as a frame holds: one always fits."""
    page = RejectedEvents(id=request, events=tuple(events))
    return page if len(encode(page)) <= MAX_FRAME else _page(request, events[: len(events) // 2])
