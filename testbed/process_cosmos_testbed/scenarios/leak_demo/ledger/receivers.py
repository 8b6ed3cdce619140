"""The ledger's HTTP side: the phones' push server, a webhook destination, and the questions of the play."""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any

import orjson
from aiohttp import web

from .arrivals import arrival_of
from .book import Book
from .pushes import button_of, ring_of

LIMIT = 30.0


class Receivers:
    """Answers phones' pushes and events; what it says depends on nothing but its own book."""

    def __init__(self, book: Book, secret: str, questions: Mapping[str, Callable[[Any], Awaitable[Any]]]) -> None:
        """Take the book, the secret part of the webhook's URL, and what answers each question of the play."""
        self._book = book
        self._secret = secret
        self._questions = questions
        self._heard: dict[str, dict[str, Any]] = defaultdict(dict)

    def app(self) -> web.Application:
        """Return the application."""
        app = web.Application(client_max_size=16 << 20)
        app.router.add_post("/push/{phone}", self._push)
        app.router.add_post("/webhook/{secret}", self._webhook)
        app.router.add_post("/ask/rings", self._wait_for_rings)
        app.router.add_post("/ask/button", self._button)
        app.router.add_post("/ask/{question}", self._ask)
        return app

    async def _push(self, request: web.Request) -> web.Response:
        push = await request.json()
        notification = ring_of(request.match_info["phone"], push)
        if notification is not None:
            self._heard[notification.alert][notification.phone] = push
            self._book.write(notification)
        return web.json_response({}, status=HTTPStatus.CREATED)

    async def _webhook(self, request: web.Request) -> web.Response:
        if request.match_info["secret"] != self._secret:
            return web.Response(status=HTTPStatus.NOT_FOUND)
        self._book.write(arrival_of("webhook", orjson.loads(await request.read())))
        return web.Response(status=HTTPStatus.ACCEPTED)

    async def _wait_for_rings(self, request: web.Request) -> web.Response:
        """Wait until ``phones`` phones have rung for ``alert``."""
        wanted = await request.json()

        def rang() -> bool:
            return len(self._heard[wanted["alert"]]) >= int(wanted["phones"])

        return web.json_response(await self._book.until(rang, LIMIT))

    async def _button(self, request: web.Request) -> web.Response:
        """Return the id of the button ``title`` that ``phone`` shows for ``alert``."""
        wanted = await request.json()
        return web.json_response(button_of(self._heard[wanted["alert"]][wanted["phone"]], wanted["title"]))

    async def _ask(self, request: web.Request) -> web.Response:
        question = self._questions.get(request.match_info["question"])
        if question is None:
            return web.Response(status=HTTPStatus.NOT_FOUND)
        reply = await question(await request.json())
        return web.Response(body=orjson.dumps(reply), content_type="application/json")
