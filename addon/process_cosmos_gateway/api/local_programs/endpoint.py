"""The door of local programs into the outbox: ``GET /ws/events``."""

import asyncio
from collections import deque
from dataclasses import dataclass, field

from aiohttp import ClientConnectionResetError, WSCloseCode, WSMsgType, web
from prometheus_client import Histogram

from process_cosmos_gateway.contract.codec import decode, encode, members
from process_cosmos_gateway.contract.destinations import EventKind, Priority
from process_cosmos_gateway.contract.errors import Code, ContractError
from process_cosmos_gateway.contract.events import TYPE_PREFIX
from process_cosmos_gateway.contract.identifiers import Ulid
from process_cosmos_gateway.contract.local_programs import FROM_PRODUCER, LONGEST_PUBLISH, MOST_UNANSWERED, Publish
from process_cosmos_gateway.contract.session import Problem, Result
from process_cosmos_gateway.errors import RequestRefusedError, StoreError
from process_cosmos_gateway.outbox import Added, Event, Outbox, Outcome, outcome_error, program_key

HELD_SECONDS = 10.0
"""So long nothing passes an event that was refused and does not come again: its program has given it up."""

MOST_LINES = 1_000
"""Subjects of one connection that are held back or under way; beyond that it is closed."""

_LONG = 4_096
"""Bytes of a frame that takes a while to read: after it everybody else has a turn."""

_CLOSING_SECONDS = 1.0
_HEARTBEAT_SECONDS = 30.0
_SLOTS = "program:"  # no program replaces what a device said
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1, 10)


class EventsEndpoint:
    """Accepts what local programs publish; each gets its results in the order of its messages."""

    def __init__(self, outbox: Outbox) -> None:
        """Store events in ``outbox``; ``alarm_seconds`` measures how long alarms take, for ``/metrics``."""
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
        connection = _Connection(socket, self._outbox, self.alarm_seconds)
        code = WSCloseCode.GOING_AWAY
        try:
            async with asyncio.TaskGroup() as tasks:
                writer = tasks.create_task(connection.write(), name="producer results")
                code = await connection.read()
                writer.cancel()
        except* ClientConnectionResetError:
            pass
        finally:
            connection.forget()
            await socket.close(code=code)
        return socket


@dataclass(slots=True)
class _Line:
    """What a program has under way about one subject, alarms and changes apart, in its order.

    ``refused``: the first event of it that was not kept; until it comes again, or ``until``, nothing else is taken.
    """

    under_way: deque[tuple[Ulid, Outcome]] = field(default_factory=deque)
    refused: Ulid | None = None
    error: BaseException | None = None
    until: float = 0.0

    def look(self, now: float) -> None:
        """Learn what has become of what is under way."""
        if self.refused is not None and now >= self.until:
            self.refused = self.error = None
        while self.under_way and self.under_way[0][1].done():
            event, outcome = self.under_way.popleft()
            if self.refused is None and (error := outcome_error(outcome)):
                self.refused, self.error, self.until = event, error, now + HELD_SECONDS

    def holds_back(self, event: Ulid, now: float) -> BaseException | None:
        """Return why ``event`` is not taken; None: it may go."""
        self.look(now)
        if event == self.refused:
            self.refused = self.error = None
        return self.error

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to remember."""
        return not self.under_way and self.refused is None


@dataclass(slots=True)
class _Message:
    """One message without a result. ``begun``: when it came; ``event``: None if it holds none."""

    id: str
    begun: float
    outcome: Outcome
    event: Event | None = None

    def result(self) -> Result:
        """Return how it went."""
        try:
            added = self.outcome.result()
        except (ContractError, RequestRefusedError) as error:
            return self._refusal(error.code, str(error))
        except StoreError:
            return self._refusal(Code.STORE_FAILED, "The gateway could not write to its disk. Publish it again.")
        if added is Added.CONFLICT:
            return self._refusal(Code.ID_CONFLICT, "This id is known with other content, which counts.")
        return Result(id=self.id)

    def _refusal(self, code: str, sentence: str) -> Result:
        return Result(id=self.id, problem=Problem(code=code, message=sentence))


class _Connection:
    """One producer: at most ``MOST_UNANSWERED`` of its messages are under way."""

    def __init__(self, socket: web.WebSocketResponse, outbox: Outbox, alarm_seconds: Histogram) -> None:
        self._socket = socket
        self._outbox = outbox
        self._alarm_seconds = alarm_seconds
        self._loop = asyncio.get_running_loop()
        self._slots = asyncio.Semaphore(MOST_UNANSWERED)
        self._unanswered: deque[_Message] = deque()
        self._news = asyncio.Event()
        self._lines: dict[tuple[Priority, str], _Line] = {}

    async def read(self) -> WSCloseCode:
        """Return when the producer is gone, or too much of it is held back."""
        while self._remembers_all():
            await self._slots.acquire()
            message = await self._socket.receive()
            if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                return WSCloseCode.GOING_AWAY
            self._unanswered.append(self._take(message.data))
            self._news.set()
            if len(message.data) > _LONG:
                await asyncio.sleep(0)
        return WSCloseCode.TRY_AGAIN_LATER

    def _remembers_all(self) -> bool:
        if len(self._lines) > MOST_LINES:
            now = self._loop.time()
            for line in self._lines.values():
                line.look(now)
            self._lines = {key: line for key, line in self._lines.items() if not line.is_idle}
        return len(self._lines) <= MOST_LINES

    def _take(self, frame: bytes | str) -> _Message:
        begun = self._loop.time()
        try:
            publish = decode(frame, FROM_PRODUCER)
        except ContractError as error:
            return _Message(_message_id(frame), begun, self._failed(error))
        try:
            event = _event(publish)
        except RequestRefusedError as error:
            return _Message(publish.id, begun, self._failed(error))
        line = self._lines.setdefault((event.priority, event.key), _Line())
        if held := line.holds_back(event.id, begun):
            return _Message(publish.id, begun, self._failed(held), event)
        outcome = self._outbox.submit(event, line.under_way[-1][1] if line.under_way else None)
        line.under_way.append((event.id, outcome))
        return _Message(publish.id, begun, outcome, event)

    def _failed(self, error: BaseException) -> Outcome:
        outcome: Outcome = self._loop.create_future()
        outcome.set_exception(error)
        return outcome

    async def write(self) -> None:
        """Send results until cancelled: all that one commit answered go in one frame."""
        while True:
            while not self._unanswered:
                self._news.clear()
                await self._news.wait()
            await asyncio.wait((self._unanswered[0].outcome,))
            answered: list[_Message] = []
            while self._unanswered and self._unanswered[0].outcome.done():
                answered.append(self._unanswered.popleft())
            results = [self._answer(message) for message in answered]
            await self._socket.send_frame(b"[" + b",".join(map(encode, results)) + b"]", WSMsgType.TEXT)
            for _ in results:
                self._slots.release()

    def _answer(self, message: _Message) -> Result:
        result, now = message.result(), self._loop.time()
        if message.event is None:
            return result
        if result.problem is None and message.event.priority is Priority.URGENT:
            self._alarm_seconds.observe(now - message.begun)
        key = message.event.priority, message.event.key
        if line := self._lines.get(key):
            line.look(now)
            if line.is_idle:
                del self._lines[key]
        return result

    def forget(self) -> None:
        """Wait for no outcome any more: what was offered is taken, but nobody is told."""
        for message in self._unanswered:
            # Not cancelled: what comes after it about its subject has to learn that it failed.
            message.outcome.add_done_callback(outcome_error)


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
        priority=Priority.URGENT if publish.urgent else Priority.CHANGE,
        subject=publish.subject,
        key=program_key(publish.subject),
        time=publish.time,
        data=publish.data,
        slot=None if publish.slot is None else _SLOTS + publish.slot,
    )


def _message_id(frame: bytes | str) -> str:
    """Return the id of a broken message, empty where it has none."""
    found = members(frame).get("id")
    return found if isinstance(found, str) else ""
