"""A local program that publishes into the outbox, and sends again, with the same id, what has no result."""

import asyncio
import os
import time
from collections import deque
from contextlib import suppress
from datetime import UTC, datetime

import aiohttp
import orjson

from process_cosmos_gateway.contract.codec import encode, parse
from process_cosmos_gateway.contract.destinations import Priority
from process_cosmos_gateway.contract.identifiers import UlidFactory
from process_cosmos_gateway.contract.local_programs import Publish
from process_cosmos_gateway.contract.session import Result

from .ledger import Item, Ledger

EVENT_TYPE = "testbed.numbered.v1"
_RETRY_SECONDS = 0.1
_PATIENCE = 30.0
_SUBJECTS = 4


class EventProducer:
    """Publishes over ``GET /ws/events`` for several subjects; each subject and priority has one event in flight."""

    def __init__(self, url: str, token: str, ledger: Ledger) -> None:
        """Publish to the gateway at ``url``; record everything in ``ledger``."""
        self._url = f"{url}/ws/events"
        self._headers = {"Authorization": f"Bearer {token}"}
        self._ledger = ledger
        self._ulids = UlidFactory(lambda: time.time_ns() // 1_000_000, os.urandom)
        name = self._ulids()
        self._lines = {
            (priority, f"program-{name}-{subject}"): deque[tuple[Item, Publish]]()
            for priority in (Priority.URGENT, Priority.CHANGE)
            for subject in range(_SUBJECTS)
        }
        self._numbers = dict.fromkeys(self._lines, 0)
        self._unsent: asyncio.Queue[tuple[Item, Publish]] = asyncio.Queue()

    def publish_all(self) -> None:
        """Publish one more event for each subject and priority as soon as possible."""
        for (priority, subject), line in self._lines.items():
            number = self._numbers[priority, subject] = self._numbers[priority, subject] + 1
            event = self._ulids()
            publish = Publish(
                id=event,
                event=event,
                event_type=EVENT_TYPE,
                subject=subject,
                time=datetime.now(UTC),
                data={"priority": priority, "number": number},
                urgent=priority is Priority.URGENT,
            )
            item = Item(priority, subject, number)
            self._ledger.attempt(item, time.monotonic())
            line.append((item, publish))
            if len(line) == 1:
                self._unsent.put_nowait(line[0])

    @property
    def unanswered(self) -> bool:
        """Whether an event has no result yet."""
        return any(self._lines.values())

    async def run(self) -> None:
        """Keep a connection until cancelled."""
        async with aiohttp.ClientSession() as http:
            while True:
                with suppress(aiohttp.ClientError, OSError):  # what has no result is sent again
                    await self._connect(http)
                await asyncio.sleep(_RETRY_SECONDS)

    async def _connect(self, http: aiohttp.ClientSession) -> None:
        # The certificate was compared with the pairing line's fingerprint when Home Assistant was paired.
        async with http.ws_connect(self._url, headers=self._headers, ssl=False) as socket:
            # A new queue: what the old one still has is the first event of a line, which is added again below.
            self._unsent = asyncio.Queue()
            for line in filter(None, self._lines.values()):
                self._unsent.put_nowait(line[0])
            sent: dict[str, Item] = {}
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._write(socket, sent))
                    group.create_task(self._read(socket, sent))
            finally:
                for item in sent.values():
                    self._ledger.doubt(item)

    async def _write(self, socket: aiohttp.ClientWebSocketResponse, sent: dict[str, Item]) -> None:
        while True:
            item, publish = await self._unsent.get()
            self._ledger.attempt(item, time.monotonic())
            sent[publish.id] = item
            await socket.send_bytes(encode(publish))

    async def _read(self, socket: aiohttp.ClientWebSocketResponse, sent: dict[str, Item]) -> None:
        while True:
            frame = await socket.receive(timeout=_PATIENCE)
            if frame.type is not aiohttp.WSMsgType.TEXT:
                raise ConnectionResetError
            for document in orjson.loads(frame.data):
                result = parse(Result, {name: value for name, value in document.items() if name != "type"})
                if result.problem is not None:
                    raise ConnectionResetError  # the disk failed: the event is sent again, as all without a result
                item = sent.pop(result.id)
                self._ledger.acknowledge(item, time.monotonic())
                line = self._lines[item.priority, item.key]
                line.popleft()
                if line:
                    self._unsent.put_nowait(line[0])
