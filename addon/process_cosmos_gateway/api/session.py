"""One WebSocket session with the integration."""

import asyncio
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby

from aiohttp import ClientConnectionResetError, WSCloseCode, WSMsgType, web

from process_cosmos_gateway.alerts import Alerts
from process_cosmos_gateway.contract.alerts import CaughtUp, Transition
from process_cosmos_gateway.contract.codec import MAX_FRAME, decode, encode, members
from process_cosmos_gateway.contract.devices import Snapshot, Subscribe
from process_cosmos_gateway.contract.errors import Code, ContractError
from process_cosmos_gateway.contract.messages import FROM_HOME_ASSISTANT, FromGateway, FromHomeAssistant
from process_cosmos_gateway.contract.session import HomeAssistantHello, Problem, Receipt, Refused, Result, Stopping
from process_cosmos_gateway.errors import StoreError

from .change_feed import MOST_KEPT, ChangeFeed
from .requests import Answerable, Requests
from .status import AGES_EVERY, StatusReader, without_ages

_LOGGER = logging.getLogger(__name__)

MOST_UNANSWERED = 16
"""Requests and transitions of a session under way; beyond that the server stops reading."""

_MOST_UNSENT = 2 * MOST_KEPT
"""Frames that wait for a Home Assistant that does not read; beyond that it has to come back and ask what it missed.

Far more than a replay, so that none can end its own session.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Seconds: to say hello; of silence; until ``caught_up``; between two receipts, two status messages."""

    hello: float = 10
    silence: float = 30
    caught_up: float = 60
    receipt: float = 0.5
    status: float = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What a session works with."""

    alerts: Alerts
    feed: ChangeFeed
    requests: Requests
    status: StatusReader
    limits: Limits = Limits()


class _EndError(Exception):
    """The session is over."""


class Session:
    """Reads, answers and sends until one side ends it; all that is left in it then is discarded."""

    def __init__(self, socket: web.WebSocketResponse, parts: Services, entry: str | None) -> None:
        """Take the socket after the handshake, and the config entry that said hello."""
        self._entry = entry
        self.finished = asyncio.Event()
        self._socket = socket
        self._parts = parts
        self._unsent: asyncio.Queue[FromGateway] = asyncio.Queue()
        self._ordered: asyncio.Queue[Transition | CaughtUp | Result] = asyncio.Queue()
        self._slots = asyncio.Semaphore(MOST_UNANSWERED)
        self._caught_up = asyncio.Event()
        self._subscribed = asyncio.Event()
        self._ended: asyncio.Future[Refused | None] = asyncio.get_running_loop().create_future()
        self._announced = False

    def send(self, message: FromGateway) -> None:
        """Send ``message`` after those before it, unless the session ends first."""
        self._unsent.put_nowait(message)
        if self._unsent.qsize() > _MOST_UNSENT:
            self.end()

    def end(self, refusal: Refused | None = None) -> None:
        """End the session, with a last word if there is one; returns at once."""
        if not self._ended.done():
            self._ended.set_result(refusal)

    async def serve(self) -> None:
        """Return when the session is over and its parts know of it."""
        try:
            self._parts.alerts.session_opened(self.send, self._entry)
            async with asyncio.TaskGroup() as tasks:
                for name, work in {
                    "reader": self._read(tasks),
                    "worker": self._work_in_order(),
                    "writer": self._write(),
                    "receipts": self._send_receipts(),
                    "status": self._send_status(),
                    "caught up": self._wait_for_caught_up(),
                    "end": self._until_ended(),
                }.items():
                    tasks.create_task(work, name=f"session {name}")
        except* _EndError:
            pass
        finally:
            self._parts.feed.unfollow()
            self._parts.alerts.session_closed(announced=self._announced)
            self.finished.set()
        if refusal := self._ended.result():
            await refuse(self._socket, refusal)

    async def _until_ended(self) -> None:
        await asyncio.wait([self._ended])
        raise _EndError

    async def _read(self, tasks: asyncio.TaskGroup) -> None:
        while (frame := await self._next_frame()) is not None:
            self._parts.alerts.heard_from_home_assistant()
            try:
                message = decode(frame, FROM_HOME_ASSISTANT, cuts=True)
            except ContractError as error:
                self._refuse_frame(frame, error)
            else:
                await self._take(message, tasks)
        self.end()

    async def _next_frame(self) -> bytes | str | None:
        """Return the next frame; None when the other side is gone, or silent for too long."""
        try:
            message = await self._socket.receive(timeout=self._parts.limits.silence)
        except TimeoutError:
            _LOGGER.warning("Home Assistant was silent for %s s: the session ends", self._parts.limits.silence)
            return None
        if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
            frame: bytes | str = message.data
            return frame
        return None

    async def _take(self, message: FromHomeAssistant, tasks: asyncio.TaskGroup) -> None:
        match message:
            case Receipt(sequence=int() as number) if not self._announced:
                self._parts.feed.confirm(number)
            case Receipt():
                pass  # a Home Assistant that stops starts no automation any more: what it hears now is missed
            case Stopping():
                self._announced = True
            case HomeAssistantHello():
                self.end(Refused(code=Code.MALFORMED, message="Only the first frame says hello."))
            case Transition() | CaughtUp() | Result():
                await self._slots.acquire()
                self._ordered.put_nowait(message)
            case Subscribe():
                self.send(Result(id=message.id))
                self._parts.feed.follow(message, self.send)
                self._subscribed.set()
            case _:
                await self._slots.acquire()
                tasks.create_task(self._answer(message), name=f"session {message.type}")

    def _refuse_frame(self, frame: bytes | str, error: ContractError) -> None:
        """A broken request is answered and the session goes on; what cannot be answered ends it."""
        _LOGGER.warning("Home Assistant sent a frame that breaks the contract: %s", error)
        problem = Problem(code=error.code, message=str(error))
        if (request := _request_id(frame)) is not None:
            self.send(Result(id=request, problem=problem))
        else:
            self.end(Refused(code=problem.code, message=problem.message))

    async def _answer(self, request: Answerable) -> None:
        try:
            self.send(await self._parts.requests.answer(request))
        finally:
            self._slots.release()

    async def _work_in_order(self) -> None:
        while True:
            waiting = [await self._ordered.get()]
            while not self._ordered.empty():
                waiting.append(self._ordered.get_nowait())
            try:
                for _, messages in groupby(waiting, type):
                    await self._work_off(messages)
            except StoreError:
                # Nothing after it may be applied: the next session begins again at the cursor.
                self.end(Refused(code=Code.STORE_FAILED, message="The gateway could not write to its disk."))
                return

    async def _work_off(self, messages: Iterable[Transition | CaughtUp | Result]) -> None:
        """Do what messages of one type want; transitions that wait are applied together, with one fsync."""
        alerts, transitions = self._parts.alerts, list[Transition]()
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
        for transition in transitions:
            self.send(Receipt(position=transition.position))
            self._slots.release()

    async def _write(self) -> None:
        try:
            while True:
                for frame in _frames(await self._unsent.get()):
                    await self._socket.send_frame(frame, WSMsgType.TEXT)
        except ClientConnectionResetError:
            self.end()

    async def _wait_for_caught_up(self) -> None:
        try:
            async with asyncio.timeout(self._parts.limits.caught_up):
                await self._caught_up.wait()
        except TimeoutError:
            _LOGGER.warning("Home Assistant did not hand over its alerts in time: the session ends")
            self.end()

    async def _send_receipts(self) -> None:
        while True:
            self.send(Receipt())
            await asyncio.sleep(self._parts.limits.receipt)

    async def _send_status(self) -> None:
        await self._subscribed.wait()
        last, rounds = None, 0
        while True:
            try:
                status = await self._parts.status.read()
            except StoreError:
                _LOGGER.warning("The status could not be read from the store")
            else:
                news = without_ages(status)
                if news != last or rounds >= AGES_EVERY:
                    self.send(status)
                    last, rounds = news, 0
            rounds += 1
            await asyncio.sleep(self._parts.limits.status)


async def refuse(socket: web.WebSocketResponse, refusal: Refused) -> None:
    """Say why as the last frame, then close."""
    try:
        await socket.send_frame(encode(refusal), WSMsgType.TEXT)
        await socket.close(code=WSCloseCode.POLICY_VIOLATION)
    except ClientConnectionResetError:
        pass


def _frames(message: FromGateway) -> Iterator[bytes]:
    """Yield ``message`` as frames Home Assistant takes: a snapshot that is too large goes in pages."""
    frame = encode(message)
    if len(frame) <= MAX_FRAME:
        yield frame
    elif isinstance(message, Snapshot) and len(message.devices) > 1:
        half = len(message.devices) // 2
        yield from _frames(replace(message, devices=message.devices[:half], more=True))
        yield from _frames(replace(message, devices=message.devices[half:]))
    else:
        _LOGGER.error("A frame of %d bytes is too large for Home Assistant and was left out", len(frame))
        if isinstance(message, Snapshot):
            yield encode(replace(message, devices=()))


def _request_id(frame: bytes | str) -> str | None:
    """Return the id of a frame that has one and waits for a reply: a broken transition or result has none."""
    document = members(frame)
    request = None if document.get("type") == Result.type else document.get("id")
    return request if isinstance(request, str) else None
