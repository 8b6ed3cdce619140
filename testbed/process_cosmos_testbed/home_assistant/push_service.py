"""The push service of the testbed's phones, to which Home Assistant posts notifications."""

import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from aiohttp import web

from process_cosmos_testbed.http_server import listening
from process_cosmos_testbed.processes import LOCAL, until

MOST_BYTES = 4096
"""The largest payload a push service accepts."""

CLEAR = "clear_notification"
"""The message that removes an earlier notification from a phone."""

_REVISION = 2
_FIELDS = 6  # the last one, the name of an answer, may contain slashes


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """A notification that was pushed to ``phone``; ``at``: monotonic time. ``buttons``: action ids by title."""

    phone: str
    at: float
    message: str
    alert: str
    buttons: Mapping[str, str]

    @property
    def revision(self) -> str:
        """The revision of the alert, from the first button; it is the same in the alert's next round."""
        return next(iter(self.buttons.values())).split("/", _FIELDS - 1)[_REVISION]


def read_push(phone: str, body: Mapping[str, Any], at: float) -> Push:
    """Read the body of a push; a notification without buttons only informs, or clears another one."""
    data = body.get("data", {})
    buttons = {str(action["title"]): str(action["action"]) for action in data.get("actions", ())}
    return Push(phone=phone, at=at, message=str(body.get("message")), alert=str(data.get("tag")), buttons=buttons)


class PushService:
    """Accepts pushes for any phone; ``refusing`` has the statuses with which some phones are refused."""

    def __init__(self, on_push: Callable[[Push], None] = lambda _: None) -> None:
        """Call ``on_push`` for each accepted push."""
        self.port = 0
        self.received: list[Push] = []
        self.refusing: dict[str, HTTPStatus] = {}
        self.refused: Counter[str] = Counter()
        self.largest = 0
        self._on_push = on_push

    def url(self, phone: str) -> str:
        """Return the push address of ``phone``."""
        return f"http://{LOCAL}:{self.port}/push/{phone}"

    @asynccontextmanager
    async def listening(self, port: int = 0) -> AsyncIterator[None]:
        """Listen inside the block on ``port`` of 127.0.0.1 (0: a free one)."""
        app = web.Application(client_max_size=16 << 20)
        app.router.add_post("/push/{phone}", self._push)
        async with listening(app, port) as found:
            self.port = self.port or found
            yield

    def notifications_of(self, phone: str) -> list[Push]:
        """Return the notifications that ``phone`` has received, with buttons or without, but none that clears one."""
        return [push for push in self.received if push.phone == phone and push.message != CLEAR]

    async def until_notified(self, words: str) -> Push:
        """Return the first notification with buttons whose message contains ``words``."""

        def found() -> Push | None:
            return next((push for push in self.received if words in push.message and push.buttons), None)

        return await until(found, f"notification with {words!r}", 30)

    async def _push(self, request: web.Request) -> web.Response:
        phone, body = request.match_info["phone"], await request.read()
        if len(body) > MOST_BYTES:
            return web.json_response({"errorMessage": "too large"}, status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        if phone in self.refusing:
            self.refused[phone] += 1
            return web.json_response({"errorMessage": "made up"}, status=self.refusing[phone])
        self.largest = max(self.largest, len(body))
        push = read_push(phone, await request.json(), time.monotonic())
        self.received.append(push)
        self._on_push(push)
        return web.json_response({}, status=HTTPStatus.CREATED)
