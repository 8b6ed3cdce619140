"""The page Home Assistant shows of the app: how all stands; a pairing line and programs' tokens on request."""

import asyncio
import logging
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

from aiohttp import web

from process_cosmos_gateway.api.pairing import OFFER_LASTS, offer_pairing
from process_cosmos_gateway.api.replies import problem_reply
from process_cosmos_gateway.api.status import StatusReader
from process_cosmos_gateway.clock import Clock
from process_cosmos_gateway.contract.destinations import Link, LinkState, Priority, Status, StorageState
from process_cosmos_gateway.contract.errors import Code
from process_cosmos_gateway.contract.pairing import PairingLine
from process_cosmos_gateway.errors import StoreError
from process_cosmos_gateway.listener import LISTENER
from process_cosmos_gateway.options import BrokerOptions
from process_cosmos_gateway.outbox import Outbox

from . import token_page
from . import wording as words
from .html import POLICY, Html, Row, document, html, joined, section

INGRESS_PEER = "172.30.32.2"
"""The Supervisor's address, from where it passes on what Home Assistant's users ask; it has let them in."""

_LOGGER = logging.getLogger(__name__)
_REFRESH_SECONDS = 15
_BASE = re.compile(r"(/[A-Za-z0-9_-]+)+")
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_MOODS: Mapping[LinkState, str] = {
    LinkState.OFF: "busy",
    LinkState.CONNECTED: "good",
    LinkState.OFFLINE: "busy",
    LinkState.REFUSED: "bad",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What does not change while the page is served. ``url``: where Home Assistant reaches this app."""

    site: str
    version: str
    url: str
    data: Path
    broker: BrokerOptions | None


class Page:
    """Serves ``/``, ``/pair`` and ``/programs`` to the Supervisor's ingress, to nobody else."""

    def __init__(
        self, about: About, status: StatusReader, outbox: Outbox, clock: Clock, *, peer: str = INGRESS_PEER
    ) -> None:
        """Take what it tells of; ``peer``: the only address it answers."""
        self._about = about
        self._status = status
        self._outbox = outbox
        self._clock = clock
        self._peer = peer

    def add_to(self, application: web.Application, connected_fn: Callable[[], bool]) -> None:
        """Open the page; ``connected_fn`` says whether a Home Assistant has a session."""

        async def show(request: web.Request) -> web.Response:
            return await self._show(request, connected=connected_fn())

        application.router.add_get("/", show)
        application.router.add_post("/pair", self._pair)
        application.router.add_get("/programs", self._programs)
        application.router.add_post("/programs", self._programs)

    async def _show(self, request: web.Request, *, connected: bool) -> web.Response:
        if not self._is_for(request):
            return _not_here()
        try:
            status, depths = await self._status.read(), await self._outbox.depths()
        except StoreError:
            storage = section("This app", Row("Storage", "bad", "failing", words.STORAGE[StorageState.FAILING]).html())
            return _reply(request, self._head(), storage, status=HTTPStatus.SERVICE_UNAVAILABLE)
        return _reply(
            request,
            self._head(),
            section("This app", *(row.html() for row in self._rows(status, connected=connected))),
            section("Destinations", *_destinations(status.links)),
            section("Waiting to be sent", _waiting(status, depths.ages)),
            _offer(),
            await asyncio.to_thread(token_page.overview, self._about.data),
            refresh=_REFRESH_SECONDS,
        )

    def _is_for(self, request: web.Request) -> bool:
        """Say whether the Supervisor asks for a page of ours; its connection stays open for the next one."""
        if request.remote != self._peer or (request.method == "POST" and _is_cross_site(request)):
            return False
        request.app[LISTENER].admit(request, "supervisor")
        return True

    async def _pair(self, request: web.Request) -> web.Response:
        if not self._is_for(request):
            return _not_here()
        secret = await asyncio.to_thread(offer_pairing, self._about.data, self._clock)
        _LOGGER.info("A pairing line was made on the app's page; it works once, within ten minutes")
        line = PairingLine(url=self._about.url, secret=secret)
        minutes = int(OFFER_LASTS.total_seconds() // 60)
        card = section(
            "Pairing line",
            html(t"<p>Copy it whole. It works once, within {minutes} minutes.</p><code>{line}</code>"),
            html(
                t"<p>In Home Assistant: Settings, Devices &amp; services, Add integration, Process Cosmos, "
                t'Connect to a Process Cosmos app on another machine.</p><p><a href="./">Back</a></p>'
            ),
        )
        return _reply(request, self._head(), card)

    async def _programs(self, request: web.Request) -> web.Response:
        if not self._is_for(request):
            return _not_here()
        form = {key: value for key, value in (await request.post()).items() if isinstance(value, str)}
        card, done = await asyncio.to_thread(token_page.tokens, self._about.data, self._clock, form)
        return _reply(request, self._head(), card, status=HTTPStatus.OK if done else HTTPStatus.BAD_REQUEST)

    def _head(self) -> Html:
        about = self._about
        return html(t'<h1>Process Cosmos</h1><p class="soft">Version {about.version}, site {about.site}</p>')

    def _rows(self, status: Status, *, connected: bool) -> Iterable[Row]:
        if connected:
            yield Row("Home Assistant", "good", "connected")
        else:
            sentence = (
                "Unless it is just starting: add Process Cosmos under Settings, Devices & services. It finds this app."
            )
            yield Row("Home Assistant", "bad", "not connected", sentence)
        yield self._broker_row(status)
        good = status.storage is StorageState.OK
        state = "ok" if good else status.storage.replace("_", " ")
        yield Row("Storage", "good" if good else "bad", state, words.STORAGE[status.storage])
        if found := status.recovered:
            lost = "an unknown number were lost" if found.lost_unknown else f"at most {found.lost} were lost"
            sentence = (
                f"The database was damaged or deleted on {found.at:%Y-%m-%d}: {found.kept} rows were kept, {lost}."
            )
            yield Row("Database", "busy", "salvaged", sentence)
        if status.identity_conflict:
            yield Row("Identity", "bad", "used twice", words.REASONS[Code.IDENTITY_CONFLICT])

    def _broker_row(self, status: Status) -> Row:
        broker = self._about.broker
        if broker is None:
            sentence = "For devices install the Mosquitto broker app; it is taken over by itself."
            return Row("MQTT broker", "busy", "none", sentence)
        address = f"{broker.host}:{broker.port}"
        if status.broker_connected:
            return Row("MQTT broker", "good", "connected", address)
        sentence = f"{address} does not let this app in or cannot be reached. See whether it runs, and the app's log."
        return Row("MQTT broker", "bad", "away", sentence)


def _destinations(links: Iterable[Link]) -> Iterable[Html]:
    nobody = (
        "None: Home Assistant tells people, nothing is sent elsewhere. Add one in the integration, under Configure."
    )
    return [_link(link).html() for link in links] or [html(t'<p class="soft">{nobody}</p>')]


def _link(link: Link) -> Row:
    age = link.last_contact_age
    contact = "no contact yet" if age is None else f"last contact {words.age(age)} ago"
    why = f" {words.reason(link.reason)} ({link.reason})" if link.reason else ""
    return Row(link.label or link.name, _MOODS[link.state], words.LINKS[link.state], f"{link.address}, {contact}.{why}")


def _waiting(status: Status, ages: Mapping[Priority, float]) -> Html:
    counts = [
        (words.PRIORITIES[priority], getattr(status.waiting, priority), ages.get(priority)) for priority in Priority
    ]
    counts += [("Rejected by a destination", status.rejected, None), ("Dropped so far", status.dropped, None)]
    full = ", ".join(words.PRIORITIES[priority] for priority in status.full)
    note = html(t'<p class="bad">No room is left for: {full}. What does not fit is dropped, and counted.</p>')
    hint = html(
        t'<p class="soft">Rejected events are sent again or discarded in Home Assistant: Settings, Repairs.</p>'
    )
    table = html(t"<table>{joined(_count(*each) for each in counts)}</table>")
    return joined((table, note if full else Html(), hint if status.rejected else Html()))


def _count(name: str, number: int, age: float | None) -> Html:
    since = html(t'<div class="soft">the oldest for {words.age(age)}</div>') if number and age is not None else Html()
    return html(t'<tr><th scope="row">{name}</th><td>{number:,}{since}</td></tr>')


def _offer() -> Html:
    sentence = "Home Assistant finds this app by itself. Only if it does not: make a pairing line and paste it there."
    form = html(t'<form method="post" action="pair"><button>Make a pairing line</button></form>')
    return section("Pairing", html(t'<p class="soft">{sentence}</p>{form}'))


def _reply(
    request: web.Request, *parts: Html, refresh: int | None = None, status: HTTPStatus = HTTPStatus.OK
) -> web.Response:
    given = request.headers.get("X-Ingress-Path", "")
    base = given if _BASE.fullmatch(given) else ""
    text = document(base, refresh, *parts)
    return web.Response(text=text, status=status, content_type="text/html", headers=_HEADERS)


def _is_cross_site(request: web.Request) -> bool:
    """Say whether another site's page made the browser send this: it would carry the person's ingress session.

    By ``Sec-Fetch-Site`` (W3C Fetch Metadata); browsers without it name the page's ``Origin`` (RFC 6454).
    """
    if site := request.headers.get("Sec-Fetch-Site"):
        return site not in ("same-origin", "none")
    origin = request.headers.get("Origin")
    return origin is not None and urlsplit(origin).netloc != request.headers.get("X-Forwarded-Host", request.host)


def _not_here() -> web.Response:
    message = "This page is opened in Home Assistant: Settings, Apps, Process Cosmos, Open web UI."
    return problem_reply(Code.UNAUTHORIZED, message, HTTPStatus.FORBIDDEN)
