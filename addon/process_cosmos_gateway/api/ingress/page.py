"""Status page of the app in Home Assistant, with forms for pairing lines and tokens of local programs."""

import asyncio
import logging
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import KW_ONLY, dataclass
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
"""Address of the Supervisor, which forwards the requests of Home Assistant's authenticated users."""

_LOGGER = logging.getLogger(__name__)
_REFRESH_SECONDS = 15
_BASE = re.compile(r"(/[A-Za-z0-9_-]+)+")
# Pairing lines and tokens are shown once: they must not remain in a cache or reach another server.
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
    """Constant facts shown on the page. ``url``: the address at which Home Assistant reaches this app."""

    site: str
    version: str
    url: str
    data: Path
    broker: BrokerOptions | None


@dataclass(eq=False, repr=False)
class StatusPage:
    """Pages ``/``, ``/pair`` and ``/programs``, served only to the Supervisor's ingress.

    ``peer``: the only client address that is served.
    """

    about: About
    status: StatusReader
    outbox: Outbox
    clock: Clock
    _: KW_ONLY
    peer: str = INGRESS_PEER

    def add_to(self, application: web.Application, connected_fn: Callable[[], bool]) -> None:
        """Register the page's routes; ``connected_fn`` returns whether Home Assistant has a session."""

        async def show(request: web.Request) -> web.Response:
            return await self._show(request, connected=connected_fn())

        application.router.add_get("/", show)
        application.router.add_post("/pair", self._pair)
        application.router.add_get("/programs", self._programs)
        application.router.add_post("/programs", self._programs)

    async def _show(self, request: web.Request, *, connected: bool) -> web.Response:
        if not self._is_allowed(request):
            return _forbidden()
        try:
            status, depths = await self.status.read(), await self.outbox.depths()
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
            await asyncio.to_thread(token_page.overview, self.about.data),
            refresh=_REFRESH_SECONDS,
        )

    def _is_allowed(self, request: web.Request) -> bool:
        """Return whether the request comes from the Supervisor and not from another site's page.

        Admits the connection, so that it stays open for the next request.
        """
        # The address of the socket: anyone could send a header such as X-Forwarded-For.
        if request.remote != self.peer or (request.method == "POST" and _is_cross_site(request)):
            return False
        request.app[LISTENER].admit(request, "supervisor")
        return True

    async def _pair(self, request: web.Request) -> web.Response:
        if not self._is_allowed(request):
            return _forbidden()
        # In a thread: the file is written with fsync, for which the event loop must not wait.
        secret = await asyncio.to_thread(offer_pairing, self.about.data, self.clock)
        _LOGGER.info("A pairing line was made on the status page; it works once, within ten minutes")
        line = PairingLine(url=self.about.url, secret=secret)
        minutes = int(OFFER_LASTS.total_seconds() // 60)
        card = section(
            "Pairing line",
            html(t"<p>Copy the whole line. It works once, within {minutes} minutes.</p><code>{line}</code>"),
            html(
                t"<p>In Home Assistant: Settings, Devices &amp; services, Add integration, Process Cosmos, "
                t'Connect to a Process Cosmos app on another machine.</p><p><a href="./">Back</a></p>'
            ),
        )
        return _reply(request, self._head(), card)

    async def _programs(self, request: web.Request) -> web.Response:
        if not self._is_allowed(request):
            return _forbidden()
        form = {key: value for key, value in (await request.post()).items() if isinstance(value, str)}
        card, done = await asyncio.to_thread(token_page.tokens, self.about.data, self.clock, form)
        return _reply(request, self._head(), card, status=HTTPStatus.OK if done else HTTPStatus.BAD_REQUEST)

    def _head(self) -> Html:
        about = self.about
        return html(t'<h1>Process Cosmos</h1><p class="soft">Version {about.version}, site {about.site}</p>')

    def _rows(self, status: Status, *, connected: bool) -> Iterable[Row]:
        if connected:
            yield Row("Home Assistant", "good", "connected")
        else:
            sentence = (
                "If Home Assistant is not just starting, add Process Cosmos under Settings, Devices & services. "
                "It finds this app."
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
            yield Row("Database", "busy", "recovered", sentence)
        if status.identity_conflict:
            yield Row("Identity", "bad", "used twice", words.REASONS[Code.IDENTITY_CONFLICT])

    def _broker_row(self, status: Status) -> Row:
        broker = self.about.broker
        if broker is None:
            sentence = "To connect devices, install the Mosquitto broker app. It is then used automatically."
            return Row("MQTT broker", "busy", "none", sentence)
        address = f"{broker.host}:{broker.port}"
        if status.broker_connected:
            return Row("MQTT broker", "good", "connected", address)
        sentence = (
            f"{address} cannot be reached or refuses the login. Check that it is running, and read this app's log."
        )
        return Row("MQTT broker", "bad", "not connected", sentence)


def _destinations(links: Iterable[Link]) -> Iterable[Html]:
    none = "None. Home Assistant notifies people, but nothing is sent elsewhere. Add one in the integration: Configure."
    return [_link(link).html() for link in links] or [html(t'<p class="soft">{none}</p>')]


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
    note = html(t'<p class="bad">No space is left for: {full}. Events that do not fit are dropped and counted.</p>')
    hint = html(t'<p class="soft">Send rejected events again or discard them in Home Assistant: Settings, Repairs.</p>')
    table = html(t"<table>{joined(_count(*each) for each in counts)}</table>")
    return joined((table, note if full else Html(), hint if status.rejected else Html()))


def _count(name: str, number: int, age: float | None) -> Html:
    since = html(t'<div class="soft">oldest: {words.age(age)} ago</div>') if number and age is not None else Html()
    return html(t'<tr><th scope="row">{name}</th><td>{number:,}{since}</td></tr>')


def _offer() -> Html:
    sentence = (
        "Home Assistant discovers this app automatically. If it does not, make a pairing line and paste it there."
    )
    form = html(t'<form method="post" action="pair"><button>Make a pairing line</button></form>')
    return section("Pairing", html(t'<p class="soft">{sentence}</p>{form}'))


def _reply(
    request: web.Request, *parts: Html, refresh: int | None = None, status: HTTPStatus = HTTPStatus.OK
) -> web.Response:
    # The browser sees a path that the Supervisor removes; the header is checked, as it is written into the page.
    given = request.headers.get("X-Ingress-Path", "")
    base = given if _BASE.fullmatch(given) else ""
    text = document(base, refresh, *parts)
    return web.Response(text=text, status=status, content_type="text/html", headers=_HEADERS)


def _is_cross_site(request: web.Request) -> bool:
    """Return whether another site's page sent the request, which would carry the person's ingress session.

    Uses ``Sec-Fetch-Site`` (W3C Fetch Metadata), or ``Origin`` (RFC 6454) from browsers without it.
    """
    if site := request.headers.get("Sec-Fetch-Site"):
        return site not in ("same-origin", "none")
    origin = request.headers.get("Origin")
    # Behind the ingress ``request.host`` is the app's own name, not the one the browser used.
    return origin is not None and urlsplit(origin).netloc != request.headers.get("X-Forwarded-Host", request.host)


def _forbidden() -> web.Response:
    message = "Open this page in Home Assistant: Settings, Apps, Process Cosmos, Open web UI."
    return problem_reply(Code.UNAUTHORIZED, message, HTTPStatus.FORBIDDEN)
