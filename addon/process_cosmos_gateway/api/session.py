"""WebSocket session with the integration."""

import asyncio
import logging
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import groupby

from aiohttp import ClientConnectionResetError, WSCloseCode, WSMsgType, web

from process_cosmos_gateway.alerts import Alerts
from process_cosmos_gateway.clock import Clock
from process_cosmos_gateway.contract.alerts import CaughtUp, Transition
from process_cosmos_gateway.contract.codec import MAX_FRAME, encode, members
from process_cosmos_gateway.contract.decoder import Decoder
from process_cosmos_gateway.contract.devices import EventHappened, Snapshot, Subscribe, ValueChanged
from process_cosmos_gateway.contract.durations import HEARTBEAT_EVERY, HELLO_WITHIN, SILENCE_LIMIT
from process_cosmos_gateway.contract.errors import Code, ContractError, UnknownTypeError
from process_cosmos_gateway.contract.messages import FROM_HOME_ASSISTANT, FromGateway, FromHomeAssistant
from process_cosmos_gateway.contract.session import (
    Committed,
    Heartbeat,
    HomeAssistantHello,
    Problem,
    Refused,
    Result,
    Stopping,
)
from process_cosmos_gateway.contract.versions import schema_of_type
from process_cosmos_gateway.errors import GatewayError, StoreError

from .change_feed import MOST_KEPT, ChangeFeed
from .requests import Answerable, Requests
from .status import AGES_EVERY, StatusReader, without_ages

_LOGGER = logging.getLogger(__name__)

MOST_UNANSWERED = 16
"""Requests and transitions of a session in progress; at this limit the server stops reading."""

_MOST_UNSENT = 2 * MOST_KEPT
"""Limit of unsent frames; beyond it the session ends, and Home Assistant requests what it missed in the next one.

It is twice the longest replay, so that a replay cannot end its own session.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Time limits in seconds: for the hello, for silence, for ``caught_up``; and intervals of heartbeats and status.

    ``status``: between two readings of the status; ``status_unchanged``: the same while nothing is known to change it.
    """

    hello: float = HELLO_WITHIN
    silence: float = SILENCE_LIMIT
    caught_up: float = 60
    heartbeat: float = HEARTBEAT_EVERY
    status: float = 1
    status_unchanged: float = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Services used by a session."""

    alerts: Alerts
    feed: ChangeFeed
    requests: Requests
    status: StatusReader
    clock: Clock
    limits: Limits = Limits()


class _SessionEndedError(GatewayError):
    """Signal that ends all tasks of the session."""


class Session:
    """One session: it ends when either side closes it; unprocessed messages are then discarded."""

    def __init__(self, socket: web.WebSocketResponse, services: Services, hello: HomeAssistantHello) -> None:
        """Set the socket, after the handshake, and Home Assistant's hello."""
        self._entry = hello.entry
        self._schema = hello.schema
        # Deep nesting is cut off, not refused: an alert must arrive.
        self._decoder = Decoder(FROM_HOME_ASSISTANT, log_report, cuts=True)
        self.finished = asyncio.Event()
        self._socket = socket
        self._services = services
        self._unsent: deque[FromGateway] = deque()
        self._writing: asyncio.Task[None] | None = None
        self._ordered: asyncio.Queue[Transition | CaughtUp | Result] = asyncio.Queue()
        self._slots = asyncio.Semaphore(MOST_UNANSWERED)
        self._caught_up = asyncio.Event()
        self._subscribed = asyncio.Event()
        self._ended: asyncio.Future[Refused | None] = asyncio.get_running_loop().create_future()
        self._announced = False

    def send(self, message: FromGateway) -> None:
        """Send ``message``, unless Home Assistant is too old for it; end the session if too many are unsent.

        It is written before this returns, unless others wait because Home Assistant reads too slowly.
        """
        if schema_of_type(message) > self._schema or self._ended.done():
            return
        self._unsent.append(message)
        if len(self._unsent) > _MOST_UNSENT:
            self.end()
        elif self._writing is None or self._writing.done():
            # Eagerly, because an automation waits for a change, and the caller still has to prepare what is stored.
            self._writing = asyncio.create_task(self._write(), name="session writer", eager_start=True)
            self._writing.add_done_callback(self._writer_ended)

    def _writer_ended(self, writer: asyncio.Task[None]) -> None:
        """End the session with the error of its writer, which ``serve`` raises."""
        if not writer.cancelled() and (error := writer.exception()) and not self._ended.done():
            self._ended.set_exception(error)

    def end(self, refusal: Refused | None = None) -> None:
        """End the session, after sending ``refusal`` if given; return at once."""
        if not self._ended.done():
            self._ended.set_result(refusal)

    async def serve(self) -> None:
        """Run the session until it ends, and inform the services of its start and end."""
        try:
            self._services.alerts.session_opened(self.send, self._entry)
            async with asyncio.TaskGroup() as tasks:
                for name, work in {
                    "reader": self._read(tasks),
                    "worker": self._process_in_order(),
                    "heartbeats": self._send_heartbeats(),
                    "status": self._send_status(),
                    "caught up": self._wait_for_caught_up(),
                    "end": self._until_ended(),
                }.items():
                    tasks.create_task(work, name=f"session {name}")
        except* _SessionEndedError:
            pass
        finally:
            self._services.feed.unsubscribe()
            self._services.alerts.session_closed(announced=self._announced)
            if self._writing is not None:
                self._writing.cancel()
                await asyncio.gather(self._writing, return_exceptions=True)
            self.finished.set()
        if refusal := self._ended.result():
            await refuse(self._socket, refusal)

    async def _until_ended(self) -> None:
        # ``wait`` leaves the future uncancelled when this task is cancelled; ``serve`` reads its result.
        await asyncio.wait([self._ended])
        raise _SessionEndedError

    async def _read(self, tasks: asyncio.TaskGroup) -> None:
        while (frame := await self._next_frame()) is not None:
            self._services.alerts.heard_from_home_assistant()
            try:
                message = self._decoder.decode(frame)
            except ContractError as error:
                self._refuse_frame(frame, error)
            else:
                await self._handle(message, tasks)
        self.end()

    async def _next_frame(self) -> bytes | str | None:
        """Return the next frame; None when the connection has closed or was silent for too long."""
        try:
            message = await self._socket.receive(timeout=self._services.limits.silence)
        except TimeoutError:
            _LOGGER.warning("Home Assistant sent nothing for %s s; closing the session", self._services.limits.silence)
            return None
        if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
            frame: bytes | str = message.data
            return frame
        return None

    async def _handle(self, message: FromHomeAssistant, tasks: asyncio.TaskGroup) -> None:
        match message:
            case Heartbeat(sequence=int() as number) if not self._announced:
                self._services.feed.confirm(number)
            case Heartbeat():
                pass  # While stopping, Home Assistant starts no automations: changes it receives now count as missed.
            case Stopping():
                self._announced = True
            case HomeAssistantHello():
                self.end(Refused(code=Code.MALFORMED, message="Only the first frame may be a hello."))
            case Transition() | CaughtUp() | Result():
                # At the limit this holds up the reader, and through TCP also Home Assistant.
                await self._slots.acquire()
                self._ordered.put_nowait(message)
            case Subscribe():
                # The wire's order: the result, replayed changes, then the snapshot.
                self.send(Result(id=message.id))
                self._services.feed.subscribe(message, self.send)
                self._subscribed.set()
            case _ if self._decoder.unknown:
                # A person asked for something: doing a part of it, or something like it, would be a guess.
                sentence = (
                    f"The app does not know {', '.join(self._decoder.unknown)}. Nothing was done. Update the app."
                )
                self.send(Result(id=message.id, problem=Problem(code=Code.UNSUPPORTED, message=sentence)))
            case _:
                await self._slots.acquire()
                tasks.create_task(self._answer(message), name=f"session {message.type}", eager_start=True)

    def _refuse_frame(self, frame: bytes | str, error: ContractError) -> None:
        """Answer a frame with an id; without one pass over an unknown type, and end the session otherwise."""
        problem = Problem(code=error.code, message=str(error))
        if (request := _request_id(frame)) is not None:
            self.send(Result(id=request, problem=problem))
        elif not isinstance(error, UnknownTypeError):
            self.end(Refused(code=problem.code, message=problem.message))

    async def _answer(self, request: Answerable) -> None:
        try:
            self.send(await self._services.requests.answer(request))
        finally:
            self._slots.release()

    async def _process_in_order(self) -> None:
        while True:
            waiting = [await self._ordered.get()]
            while not self._ordered.empty():
                waiting.append(self._ordered.get_nowait())
            try:
                # Only neighbours of one type are grouped: ``caught_up`` must not overtake a transition.
                for _, messages in groupby(waiting, type):
                    await self._process(messages)
            except StoreError:
                # Later transitions must not be applied: the next session continues from the cursor.
                self.end(Refused(code=Code.STORE_FAILED, message="The gateway could not write to its disk."))
                return

    async def _process(self, messages: Iterable[Transition | CaughtUp | Result]) -> None:
        """Process messages of one type; apply all queued transitions together, with one fsync."""
        alerts, transitions = self._services.alerts, list[Transition]()
        for message in messages:
            match message:
                case Transition():
                    transitions.append(message)
                case CaughtUp():
                    await alerts.caught_up()
                    self._caught_up.set()
                    self._slots.release()
                case Result():
                    await alerts.settle(message)
                    self._slots.release()
        if transitions:
            await alerts.apply(*transitions)
        # After the commit: Home Assistant does not send again what was confirmed.
        for transition in transitions:
            self.send(Committed(position=transition.position))
            self._slots.release()

    async def _write(self) -> None:
        try:
            while self._unsent:
                message = self._unsent[0]
                if isinstance(message, ValueChanged | EventHappened | Heartbeat):
                    message = replace(message, sent=self._services.clock.monotonic())
                for frame in _frames(message, self._schema):
                    await self._socket.send_frame(frame, WSMsgType.TEXT)
                # Only now: a later number would confirm a message that could not be written.
                self._unsent.popleft()
        except ConnectionError:
            self.end()

    async def _wait_for_caught_up(self) -> None:
        try:
            async with asyncio.timeout(self._services.limits.caught_up):
                await self._caught_up.wait()
        except TimeoutError:
            _LOGGER.warning(
                "Home Assistant did not send all its alerts within %s s; closing the session",
                self._services.limits.caught_up,
            )
            self.end()

    async def _send_heartbeats(self) -> None:
        while True:
            self.send(Heartbeat())
            await asyncio.sleep(self._services.limits.heartbeat)

    async def _send_status(self) -> None:
        await self._subscribed.wait()
        reader, limits = self._services.status, self._services.limits
        loop = asyncio.get_running_loop()
        last, sent_at = None, 0.0
        while True:
            reader.changed.clear()
            try:
                status = await reader.read()
            except StoreError:
                _LOGGER.warning("The status could not be read from the store; retrying in %s s", limits.status)
                reader.changed.set()
            else:
                comparable = without_ages(status)
                if comparable != last or loop.time() - sent_at >= AGES_EVERY:
                    self.send(status)
                    last, sent_at = comparable, loop.time()
            with suppress(TimeoutError):
                async with asyncio.timeout(limits.status_unchanged):
                    await reader.changed.wait()
                    await asyncio.sleep(limits.status)


async def refuse(socket: web.WebSocketResponse, refusal: Refused) -> None:
    """Send ``refusal`` as the last frame and close the connection."""
    try:
        await socket.send_frame(encode(refusal), WSMsgType.TEXT)
        await socket.close(code=WSCloseCode.POLICY_VIOLATION)
    except ClientConnectionResetError:
        pass


def log_report(path: str, reason: str) -> None:
    """Log what is unknown or wrong in a frame of Home Assistant."""
    _LOGGER.warning("Home Assistant sent a frame in which %s %s. Are integration and app of one version?", path, reason)


def _frames(message: FromGateway, schema: int) -> Iterator[bytes]:
    """Yield the frames of ``message``, for a receiver of ``schema``; split a snapshot that is too large into pages."""
    frame = encode(message, schema)
    if len(frame) <= MAX_FRAME:
        yield frame
    elif isinstance(message, Snapshot) and len(message.devices) > 1:
        half = len(message.devices) // 2
        yield from _frames(replace(message, devices=message.devices[:half], more=True), schema)
        yield from _frames(replace(message, devices=message.devices[half:]), schema)
    else:
        _LOGGER.error("A frame of %d bytes is too large for Home Assistant and was not sent", len(frame))
        # An empty page instead: Home Assistant waits for the last page of a snapshot.
        if isinstance(message, Snapshot):
            yield encode(replace(message, devices=()), schema)


def _request_id(frame: bytes | str) -> str | None:
    """Return the id of a request that expects a reply; None for other frames."""
    document = members(frame)
    request = None if document.get("type") == Result.type else document.get("id")
    return request if isinstance(request, str) else None
