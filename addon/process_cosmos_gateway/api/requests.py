"""Answers the requests of a session: one row a message."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from process_cosmos_gateway.contract.destinations import (
    DiscardRejected,
    ListRejected,
    RejectedEvents,
    RemoveDestination,
    SendAgain,
    SetCloud,
    SetWebhook,
)
from process_cosmos_gateway.contract.devices import WriteProperty
from process_cosmos_gateway.contract.errors import Code
from process_cosmos_gateway.contract.session import Problem, Result
from process_cosmos_gateway.destinations import Destinations
from process_cosmos_gateway.devices import Devices
from process_cosmos_gateway.errors import RequestRefusedError, StoreError
from process_cosmos_gateway.outbox import Outbox

type Answerable = WriteProperty | SetWebhook | SetCloud | RemoveDestination | ListRejected | SendAgain | DiscardRejected
type Reply = Result | RejectedEvents


class Requests:
    """Does what Home Assistant asks for, and says how it went."""

    def __init__(self, devices: Devices, destinations: Destinations, outbox: Outbox) -> None:
        """Take the parts that do the work."""
        self._outbox = outbox
        self._handlers: Mapping[type[Answerable], Callable[[Any], Awaitable[object]]] = {
            WriteProperty: devices.write,
            SetWebhook: destinations.set_webhook,
            SetCloud: destinations.set_cloud,
            RemoveDestination: lambda request: destinations.remove(request.name),
            SendAgain: lambda _: outbox.send_again(),
            DiscardRejected: lambda _: outbox.discard_rejected(),
        }

    async def answer(self, request: Answerable) -> Reply:
        """Return the reply to ``request``: done, or why not."""
        try:
            if isinstance(request, ListRejected):
                return RejectedEvents(id=request.id, events=tuple(await self._outbox.rejected()))
            await self._handlers[type(request)](request)
        except RequestRefusedError as error:
            return Result(id=request.id, problem=Problem(code=error.code, message=str(error)))
        except StoreError:
            sentence = "The gateway could not write to its disk. A device may have heard of it once; nothing was kept."
            return Result(id=request.id, problem=Problem(code=Code.STORE_FAILED, message=sentence))
        return Result(id=request.id)
