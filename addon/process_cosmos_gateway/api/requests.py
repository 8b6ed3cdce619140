"""Handling of the requests in a session, with one handler per message type."""

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
    """Handler of Home Assistant's requests."""

    def __init__(self, devices: Devices, destinations: Destinations, outbox: Outbox) -> None:
        """Set the services that execute the requests."""
        self._outbox = outbox
        self._destinations = destinations
        self._handlers: Mapping[type[Answerable], Callable[[Any], Awaitable[object]]] = {
            WriteProperty: devices.write,
            SetWebhook: destinations.set_webhook,
            SetCloud: destinations.set_cloud,
            ChangeDestination: destinations.change,
            ApproveReply: destinations.approve,
            RemoveDestination: lambda request: destinations.remove(request.name),
            SendAgain: lambda request: _settle_numbers(request, outbox.send_again),
            DiscardRejected: lambda request: _settle_numbers(request, outbox.discard_rejected),
        }

    async def answer(self, request: Answerable) -> Reply:
        """Execute ``request`` and return the reply: its result, or the reason of the refusal."""
        try:
            if isinstance(request, ListRejected):
                return _page(request.id, await self._outbox.rejected(request.after))
            if isinstance(request, TestDestination):
                return await self._destinations.test(request)
            await self._handlers[type(request)](request)
        except RequestRefusedError as error:
            return Result(id=request.id, problem=Problem(code=error.code, message=str(error)))
        except StoreError:
            sentence = (
                "The gateway could not write to its disk. A device may have received the value once; nothing was saved."
            )
            return Result(id=request.id, problem=Problem(code=Code.STORE_FAILED, message=sentence))
        return Result(id=request.id)


async def _settle_numbers(
    request: SendAgain | DiscardRejected, settle: Callable[[Collection[int] | None], Awaitable[int]]
) -> None:
    """Settle the rejected events with the requested numbers; then raise ``RequestRefusedError`` if some are unknown."""
    numbers = None if request.numbers is None else set(request.numbers)
    found = await settle(numbers)
    if numbers is not None and found < len(numbers):
        missing = len(numbers) - found
        sentence = f"{missing} of {len(numbers)} numbers are not rejected events. The other {found} were processed."
        raise RequestRefusedError(Code.UNKNOWN_REJECTED, sentence)


def _page(request: str, events: Sequence[RejectedEvent]) -> RejectedEvents:
    """Return as many of the first ``events`` as fit into a frame; one always fits."""
    page = RejectedEvents(id=request, events=tuple(events))
    return page if len(encode(page)) <= MAX_FRAME else _page(request, events[: len(events) // 2])
