"""Endpoint at which local programs publish events: ``GET /ws/events``."""

import asyncio
import logging
from collections import deque
from dataclasses import dataclass, field

from aiohttp import ClientConnectionResetError, WSCloseCode, WSMsgType, web

from process_cosmos_gateway.contract.codec import encode, members
from process_cosmos_gateway.contract.decoder import Decoder
from process_cosmos_gateway.contract.destinations import EventKind, Priority
from process_cosmos_gateway.contract.errors import Code, ContractError
from process_cosmos_gateway.contract.events import TYPE_PREFIX
from process_cosmos_gateway.contract.identifiers import Ulid
from process_cosmos_gateway.contract.local_programs import FROM_PRODUCER, LONGEST_PUBLISH, MOST_UNANSWERED, Publish
from process_cosmos_gateway.contract.session import Problem, Result
from process_cosmos_gateway.errors import RequestRefusedError, StoreError
from process_cosmos_gateway.outbox import Added, Event, Outbox, Outcome, outcome_error, program_key

from .histogram import Durations

_LOGGER = logging.getLogger(__name__)

HELD_SECONDS = 10.0
"""Seconds for which a refused event holds back later ones of its subject, unless it is published again."""

MOST_SUBJECTS = 1_000
"""Subjects of one connection with pending or held-back events; beyond this limit it is closed."""

_LONG_FRAME = 4_096
"""Bytes of a frame whose parsing takes long enough to yield to other tasks afterwards."""

_CLOSING_SECONDS = 1.0
_HEARTBEAT_SECONDS = 30.0
_SLOTS = "program:"  # so that a program cannot replace a device's event


class EventsEndpoint:
    """Endpoint for events of local programs; results are sent in the order of the messages."""

    def __init__(self, outbox: Outbox) -> None:
        """Set the outbox; ``accept_seconds`` measures for ``/metrics`` how long urgent events take."""
        self._outbox = outbox
        self.accept_seconds = Durations()

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Serve one connection until the program disconnects or the gateway stops."""
        # One byte more than the contract allows: aiohttp refuses a frame of exactly its limit.
        socket = web.WebSocketResponse(
            timeout=_CLOSING_SECONDS, heartbeat=_HEARTBEAT_SECONDS, compress=False, max_msg_size=LONGEST_PUBLISH + 1
        )
        await socket.prepare(request)
        connection = _Connection(socket, self._outbox, self.accept_seconds)
        code = WSCloseCode.GOING_AWAY
        try:
            async with asyncio.TaskGroup() as tasks:
                writer = tasks.create_task(connection.write(), name="producer results")
                code = await connection.read()
                writer.cancel()
        except* ClientConnectionResetError:
            pass
        finally:
            connection.abandon()
            await socket.close(code=code)
        return socket


@dataclass(slots=True)
class _SubjectQueue:
    """Pending events of one subject and priority on one connection, in order.

    ``refused``: the first event that was not stored; later ones are refused until it is published again, or ``until``.
    """

    pending: deque[tuple[Ulid, Outcome]] = field(default_factory=deque)
    refused: Ulid | None = None
    error: BaseException | None = None
    until: float = 0.0

    def update(self, now: float) -> None:
        """Remove finished events, remember the first refused one, and release it after its time."""
        if self.refused is not None and now >= self.until:
            self.refused = self.error = None
        while self.pending and self.pending[0][1].done():
            event, outcome = self.pending.popleft()
            if self.refused is None and (error := outcome_error(outcome)):
                self.refused, self.error, self.until = event, error, now + HELD_SECONDS

    def holds_back(self, event: Ulid, now: float) -> BaseException | None:
        """Return the error with which to refuse ``event``; None: it may be stored."""
        self.update(now)
        if event == self.refused:
            self.refused = self.error = None
        return self.error

    @property
    def is_idle(self) -> bool:
        """Whether no event is pending or held back."""
        return not self.pending and self.refused is None


@dataclass(slots=True)
class _Message:
    """Message without a result yet. ``received_at``: loop time of its arrival; ``event``: None if it was invalid."""

    id: str
    received_at: float
    outcome: Outcome
    event: Event | None = None

    def result(self) -> Result:
        """Return the result for the program; ``outcome`` must be done."""
        try:
            added = self.outcome.result()
        except (ContractError, RequestRefusedError) as error:
            return self._refusal(error.code, str(error))
        except StoreError:
            return self._refusal(Code.STORE_FAILED, "The gateway could not write to its disk. Publish the event again.")
        if added is Added.CONFLICT:
            return self._refusal(Code.ID_CONFLICT, "An event with this id and other content is already stored.")
        return Result(id=self.id)

    def _refusal(self, code: str, message: str) -> Result:
        return Result(id=self.id, problem=Problem(code=code, message=message))


class _Connection:
    """Connection of one program, with at most ``MOST_UNANSWERED`` messages in progress."""

    def __init__(self, socket: web.WebSocketResponse, outbox: Outbox, accept_seconds: Durations) -> None:
        self._socket = socket
        self._outbox = outbox
        self._accept_seconds = accept_seconds
        self._loop = asyncio.get_running_loop()
        self._slots = asyncio.Semaphore(MOST_UNANSWERED)
        self._unanswered: deque[_Message] = deque()
        self._wake = asyncio.Event()
        self._queues: dict[tuple[Priority, str], _SubjectQueue] = {}
        self._decoder = Decoder(FROM_PRODUCER, _log_report)

    async def read(self) -> WSCloseCode:
        """Read messages until the program disconnects or too many subjects are held back; return the close code."""
        while self._has_room():
            await self._slots.acquire()
            message = await self._socket.receive()
            if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                return WSCloseCode.GOING_AWAY
            self._unanswered.append(self._accept(message.data))
            self._wake.set()
            if len(message.data) > _LONG_FRAME:
                await asyncio.sleep(0)
        return WSCloseCode.TRY_AGAIN_LATER

    def _has_room(self) -> bool:
        if len(self._queues) > MOST_SUBJECTS:
            now = self._loop.time()
            for queue in self._queues.values():
                queue.update(now)
            self._queues = {key: queue for key, queue in self._queues.items() if not queue.is_idle}
        return len(self._queues) <= MOST_SUBJECTS

    def _accept(self, frame: bytes | str) -> _Message:
        received_at = self._loop.time()
        try:
            publish = self._decoder.decode(frame)
        except ContractError as error:
            return _Message(_message_id(frame), received_at, self._failed(error))
        try:
            event = _event(publish)
        except RequestRefusedError as error:
            return _Message(publish.id, received_at, self._failed(error))
        queue = self._queues.setdefault((event.priority, event.key), _SubjectQueue())
        if held := queue.holds_back(event.id, received_at):
            return _Message(publish.id, received_at, self._failed(held), event)
        # Chained to the event before it, which may still be refused: nothing may overtake that one.
        outcome = self._outbox.submit(event, queue.pending[-1][1] if queue.pending else None)
        queue.pending.append((event.id, outcome))
        return _Message(publish.id, received_at, outcome, event)

    def _failed(self, error: BaseException) -> Outcome:
        outcome: Outcome = self._loop.create_future()
        outcome.set_exception(error)
        return outcome

    async def write(self) -> None:
        """Send results until cancelled; all results of one commit are sent in one frame."""
        while True:
            while not self._unanswered:
                self._wake.clear()
                await self._wake.wait()
            await asyncio.wait((self._unanswered[0].outcome,))
            answered: list[_Message] = []
            while self._unanswered and self._unanswered[0].outcome.done():
                answered.append(self._unanswered.popleft())
            results = [self._answer(message) for message in answered]
            await self._socket.send_frame(b"[" + b",".join(map(encode, results)) + b"]", WSMsgType.TEXT)
            # After the frame: a program that does not read its results must not fill the memory.
            for _ in results:
                self._slots.release()

    def _answer(self, message: _Message) -> Result:
        result, now = message.result(), self._loop.time()
        if message.event is None:
            return result
        if result.problem is None and message.event.priority is Priority.URGENT:
            self._accept_seconds.observe(now - message.received_at)
        key = message.event.priority, message.event.key
        if queue := self._queues.get(key):
            queue.update(now)
            if queue.is_idle:
                del self._queues[key]
        return result

    def abandon(self) -> None:
        """Stop waiting for results; events already offered are still stored."""
        for message in self._unanswered:
            # Not cancelled: later events of the same subject depend on whether this one failed.
            message.outcome.add_done_callback(outcome_error)


def _log_report(path: str, reason: str) -> None:
    _LOGGER.warning("A local program sent a message in which %s %s", path, reason)


def _event(publish: Publish) -> Event:
    """Return the event to store; raise ``RequestRefusedError`` if a program may not publish it."""
    if not publish.event_type or publish.event_type.startswith(TYPE_PREFIX):
        raise RequestRefusedError(Code.INVALID_VALUE, f"event_type must not be empty or begin with {TYPE_PREFIX}")
    if not publish.subject:
        raise RequestRefusedError(Code.INVALID_VALUE, "subject must not be empty")
    return Event(
        id=publish.event,
        type=publish.event_type,
        kind=EventKind.DEVICE,
        priority=Priority.URGENT if publish.urgent else Priority.CHANGE,
        subject=publish.subject,
        key=program_key(publish.subject),
        time=publish.time,
        data=publish.data,
        slot=None if publish.slot is None or publish.urgent else _SLOTS + publish.slot,
    )


def _message_id(frame: bytes | str) -> str:
    """Return the id of an invalid message, empty without one."""
    found = members(frame).get("id")
    return found if isinstance(found, str) else ""
