"""The door of local programs into the outbox: ``GET /ws/events``."""

import asyncio
import time

from aiohttp import ClientConnectionResetError, WSCloseCode, WSMsgType, web
from prometheus_client import Histogram

from process_cosmos_gateway.contract.codec import decode, decode_json, encode
from process_cosmos_gateway.contract.destinations import EventKind, Priority
from process_cosmos_gateway.contract.errors import Code, ContractError
from process_cosmos_gateway.contract.events import TYPE_PREFIX
from process_cosmos_gateway.contract.producers import FROM_PRODUCER, LONGEST_PUBLISH, MOST_UNANSWERED, Publish
from process_cosmos_gateway.contract.session import Problem, Result
from process_cosmos_gateway.errors import RequestRefusedError, StoreError
from process_cosmos_gateway.outbox import Added, Event, Outbox

_CLOSING_SECONDS = 1.0
_HEARTBEAT_SECONDS = 30.0
_SLOTS = "program:"  # no program replaces what a device said
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1, 10)


class Producers:
    """Accepts what local programs publish; each gets its results in the order of their commits."""

    def __init__(self, outbox: Outbox) -> None:
        """Take the outbox."""
        self._outbox = outbox
        self.alarm_seconds = Histogram(
            "process_cosmos_alarm_accept_seconds",
            "From the arrival of a program's alarm until it is on disk.",
            registry=None,
            buckets=_SECONDS,
        )

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Serve one connection until the producer goes, or the gateway stops."""
        # One byte more than the contract allows: aiohttp refuses a frame of exactly its limit.
        socket = web.WebSocketResponse(
            timeout=_CLOSING_SECONDS, heartbeat=_HEARTBEAT_SECONDS, compress=False, max_msg_size=LONGEST_PUBLISH + 1
        )
        await socket.prepare(request)
        connection = _Connection(socket, self)
        try:
            async with asyncio.TaskGroup() as tasks:
                writer = tasks.create_task(connection.write(), name="producer results")
                await connection.read(tasks)
                writer.cancel()
        except* ClientConnectionResetError:
            pass
        finally:
            await socket.close(code=WSCloseCode.GOING_AWAY)
        return socket

    async def accept(self, publish: Publish) -> Result:
        """Return how it went, once that is on disk."""
        begun = time.perf_counter()
        try:
            added = await self._outbox.accept(_event(publish))
        except RequestRefusedError as error:
            return _refusal(publish.id, error.code, str(error))
        except StoreError:
            return _refusal(publish.id, Code.STORE_FAILED, "The gateway could not write to its disk. Publish it again.")
        if added is Added.CONFLICT:
            return _refusal(publish.id, Code.ID_CONFLICT, "This id is known with other content, which counts.")
        if publish.alarm:
            self.alarm_seconds.observe(time.perf_counter() - begun)
        return Result(id=publish.id)


class _Connection:
    """One producer: at most ``MOST_UNANSWERED`` of its messages are under way."""

    def __init__(self, socket: web.WebSocketResponse, producers: Producers) -> None:
        self._socket = socket
        self._producers = producers
        self._slots = asyncio.Semaphore(MOST_UNANSWERED)
        self._answered: list[Result] = []
        self._news = asyncio.Event()

    async def read(self, tasks: asyncio.TaskGroup) -> None:
        """Return when the producer is gone."""
        while True:
            await self._slots.acquire()
            message = await self._socket.receive()
            if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                return
            tasks.create_task(self._answer(message.data), name="publish")

    async def _answer(self, frame: bytes | str) -> None:
        try:
            result = await self._producers.accept(decode(frame, FROM_PRODUCER))
        except ContractError as error:
            result = _refusal(_message_id(frame), error.code, str(error))
        self._answered.append(result)
        self._news.set()

    async def write(self) -> None:
        """Send results until cancelled: all that one commit answered go in one frame."""
        while True:
            # All who share a commit go on in the same turn of the loop; this wakes in the turn after.
            await self._news.wait()
            self._news.clear()
            results, self._answered = self._answered, []
            await self._socket.send_frame(b"[" + b",".join(map(encode, results)) + b"]", WSMsgType.TEXT)
            for _ in results:
                self._slots.release()


def _event(publish: Publish) -> Event:
    """Return the event to accept; raise ``RequestRefusedError`` if it is none a program may publish."""
    if not publish.event_type or publish.event_type.startswith(TYPE_PREFIX):
        raise RequestRefusedError(Code.INVALID_VALUE, f"event_type must not be empty or begin with {TYPE_PREFIX}")
    if not publish.subject:
        raise RequestRefusedError(Code.INVALID_VALUE, "subject must not be empty")
    return Event(
        id=publish.event,
        type=publish.event_type,
        kind=EventKind.DEVICE,
        priority=Priority.ALARM if publish.alarm else Priority.CHANGE,
        subject=publish.subject,
        key=publish.subject,
        time=publish.time,
        data=publish.data,
        slot=None if publish.slot is None else _SLOTS + publish.slot,
    )


def _refusal(message: str, code: str, sentence: str) -> Result:
    return Result(id=message, problem=Problem(code=code, message=sentence))


def _message_id(frame: bytes | str) -> str:
    """Return the id of a broken message, empty where it has none."""
    try:
        document = decode_json(frame)
    except ContractError:
        return ""
    found = document.get("id") if isinstance(document, dict) else None
    return found if isinstance(found, str) else ""
