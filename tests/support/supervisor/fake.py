"""The Supervisor's API: who may ask what, what it answers, and what it tells Home Assistant.

As the real one: one envelope for results and refusals, apps known by their tokens, one message of an app for a service,
passed on only if it is new to it, listed only while its app runs. Not played: updates, backups, ingress, progress.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex
from typing import Any, Protocol

from aiohttp import web
from aiohttp.test_utils import TestServer

from .apps import App, State, repository_slug
from .discovery import Message, tell
from .system import SYSTEM

TOKEN = "made-up-token"
"""What the app asks with, where a test has it installed."""

HOME_TOKEN = "made-up-token-of-home-assistant"
BROKER = {
    "host": "core-mosquitto",
    "port": 1883,
    "ssl": False,
    "username": "addons",
    "password": "made up",
    "protocol": "3.1.1",
    "addon": "core_mosquitto",
}
LONG = 10.0
"""Seconds a Supervisor takes that is late."""

_FOR_ANY_APP = re.compile(r"/addons/self/(?!security|update)[^/]+|/info|/services.*|/discovery.*|/auth")
_FOR_ANYBODY = re.compile(r"/supervisor/ping")


class RefusedError(Exception):
    """A refusal in the Supervisor's own words."""

    def __init__(self, message: str, status: int = 400, key: str | None = None, **extra: str) -> None:
        super().__init__(message)
        self.status = status
        self.document: dict[str, Any] = {"result": "error", "message": message}
        if key:
            self.document |= {"error_key": key, "extra_fields": extra}


class NotPlayedError(Exception):
    """Nothing here answers that, the real one may."""


class Host(Protocol):
    """Where apps run."""

    async def start(self, app: App, url: str) -> None:
        """Start an app beside the Supervisor at ``url``; return when its health check passes."""

    async def stop(self, app: App) -> None:
        """Stop an app, as the Supervisor does."""


@dataclass
class FakeSupervisor:
    """A Supervisor; a test sets its fields at any time.

    ``apps``: those of the store's repositories; ``elsewhere``: by address, what a repository holds that may be added.
    ``mqtt``: what it knows of a broker. ``broken``, ``late``, ``nonsense`` (said instead), ``refusal`` (status, words):
    what it has. ``core``: the socket Home Assistant listens on for it. ``host``: where apps run, None: they only count
    as running.
    """

    apps: list[App] = field(default_factory=list)
    elsewhere: dict[str, list[App]] = field(default_factory=dict)
    mqtt: dict[str, Any] | None = None
    arch: str = "amd64"
    broken: bool = False
    late: bool = False
    nonsense: str | None = None
    refusal: tuple[int, str] | None = None
    core: Path | None = None
    host: Host | None = None
    repositories: list[str] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    passed_on: list[dict[str, Any]] = field(default_factory=list)
    """What Home Assistant was to hear: a message equal to the one before stays here."""
    said: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    """What nothing here answers."""
    url: str = ""
    _pushes: set[asyncio.Task[None]] = field(default_factory=set)

    @asynccontextmanager
    async def listening(self, port: int | None = None) -> AsyncIterator[str]:
        """Serve inside the block, on ``port`` of 127.0.0.1, None: a free one; stop the apps at its end."""
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self.serve)
        async with TestServer(application, port=port) as server:
            self.url = str(server.make_url("/"))
            try:
                yield self.url
            finally:
                for app in self.apps:
                    await self._stop(app)
                await asyncio.gather(*self._pushes)

    def add_broker(self, mqtt: dict[str, Any]) -> None:
        """Let the broker be installed, and have told of itself."""
        self.mqtt = {**BROKER, **mqtt}
        broker = App.mosquitto()
        self.apps.append(broker)
        config = {name: value for name, value in self.mqtt.items() if name != "addon"}
        self.messages.append(Message(broker.slug, "mqtt", config))

    def has_passed_on(self, times: int) -> bool:
        return len(self.passed_on) == times

    async def serve(self, request: web.Request) -> web.Response:
        """Answer one request."""
        self.said.append(f"{request.method} {request.path}")
        if self.late:
            await asyncio.sleep(LONG)
        if self.broken:
            return web.Response(status=502, text="<html>")
        if self.nonsense is not None:
            return web.Response(text=self.nonsense)
        try:
            self._refuse_all()
            answer = await self._answer(request, self._who(request))
        except NotPlayedError:
            self.unknown.append(f"{request.method} {request.path}")
            raise web.HTTPNotFound from None
        except RefusedError as error:
            return web.json_response(error.document, status=error.status)
        if isinstance(answer, str):
            return web.Response(text=answer)
        return web.json_response({"result": "ok", "data": {} if answer is None else answer})

    def _refuse_all(self) -> None:
        if self.refusal is not None:
            status, message = self.refusal
            raise RefusedError(message, status)

    def _who(self, request: web.Request) -> App | None:
        """Return the app that asks, None for Home Assistant."""
        token = request.headers.get("Authorization", "").split(" ")[-1]
        if _FOR_ANYBODY.fullmatch(request.path) or token == HOME_TOKEN:
            return None
        if not token:
            raise web.HTTPUnauthorized
        app = next((app for app in self.apps if app.state and app.token == token), None)
        if app is None or not _FOR_ANY_APP.fullmatch(request.path):
            raise web.HTTPForbidden
        return app

    async def _answer(self, request: web.Request, who: App | None) -> Any:  # noqa: ANN401 - JSON
        method, path = request.method, request.path
        body: dict[str, Any] = await request.json() if request.can_read_body else {}
        answer: Any = None
        match path.split("/")[1:]:
            case ["discovery", *rest]:
                answer = self._discovery(method, rest, body, who)
            case ["services", name] if method == "GET":
                answer = self._service(name, who)
            case ["addons"] if method == "GET":
                answer = {"addons": [app.installed() for app in self.apps if app.state]}
            case ["addons", slug, *action]:
                answer = await self._app(self._installed(slug, who), method, action, body)
            case ["store", *rest]:
                answer = self._store(method, rest, body)
            case ["ingress", "panels"]:
                shown = (app for app in self.apps if app.state and app.config.get("ingress"))
                answer = {"panels": {app.slug: _panel(app) for app in shown}}
            case ["supervisor", "ping"] | ["core" | "supervisor", "options"] | ["reload_updates" | "refresh_updates"]:
                pass
            case ["supervisor", "update"]:
                raise RefusedError(f"No supervisor update available - {SYSTEM['/supervisor/info']['version']}")
            case _ if method == "GET" and path in SYSTEM:
                answer = SYSTEM[path]
            case _:
                raise NotPlayedError
        return answer

    def _discovery(self, method: str, rest: list[str], body: Mapping[str, Any], who: App | None) -> Any:  # noqa: ANN401
        match method, rest:
            case "POST", [] if who:
                return {"uuid": self._offer(who, body)}
            case "GET", _ if who:
                raise web.HTTPUnauthorized
            case "GET", []:
                running = {app.slug for app in self.apps if app.state is State.STARTED}
                listed = [message.document() for message in self.messages if message.app in running]
                services = {name: [app.slug] for app in self.apps for name in app.config.get("discovery", [])}
                return {"discovery": listed, "services": services}
        message = next((message for message in self.messages if [message.uuid] == rest), None)
        if message is None:
            raise RefusedError("Discovery message not found", 404)
        if method == "GET":
            return message.document()
        if who is None or message.app != who.slug:
            raise RefusedError("Can't remove discovery message", 403)
        self._forget(message)
        return None

    def _offer(self, app: App, body: Mapping[str, Any]) -> str:
        match body:
            case {"service": str(service), "config": dict(config)}:
                pass
            case _:
                raise RefusedError("required key not provided @ data['service']. Got None")
        if service not in app.config.get("discovery", []):
            raise RefusedError("Apps must list services they provide via discovery in their config!", 403)
        for message in self.messages:
            if (message.app, message.service) == (app.slug, service):
                if message.config == config:
                    return message.uuid
                message.config = config
                break
        else:
            message = Message(app.slug, service, config)
            self.messages.append(message)
        self.passed_on.append(config)
        self._push("post", message)
        return message.uuid

    def _forget(self, message: Message) -> None:
        self.messages.remove(message)
        self._push("delete", message)

    def _push(self, method: str, message: Message) -> None:
        """Tell Home Assistant, if it has started; else it will ask."""
        if self.core is not None:
            task = asyncio.create_task(tell(self.core, method, message), name="push")
            self._pushes.add(task)
            task.add_done_callback(self._pushes.discard)

    def _service(self, name: str, who: App | None) -> Any:  # noqa: ANN401
        if name != "mqtt":
            raise RefusedError("Service does not exist", 404)
        if who is None or name not in who.services:
            raise RefusedError(f"No access to {name} service!", 403)
        if self.mqtt is None:
            raise RefusedError("Service not enabled")
        return self.mqtt

    def _known(self, slug: str) -> App | None:
        return next((app for app in self.apps if app.slug == slug), None)

    def _installed(self, slug: str, who: App | None) -> App:
        if slug == "self":
            if who is None:
                raise RefusedError("Self is not an App")
            return who
        app = self._known(slug)
        if app is None:
            raise RefusedError(f"App {slug} does not exist", 404)
        if app.state is None:
            raise RefusedError("App is not installed")
        return app

    async def _app(self, app: App, method: str, action: list[str], body: Mapping[str, Any]) -> Any:  # noqa: ANN401
        match method, action:
            case "GET", ["info"]:
                return app.info()
            case "POST", ["start"]:
                await self._start(app)
            case "POST", ["stop"]:
                await self._stop(app)
            case "POST", ["restart"]:
                await self._stop(app)
                await self._start(app)
            case "POST", ["options"]:
                if "options" in body:
                    app.options = dict(body["options"] or {})
            case "POST", ["uninstall"]:
                await self._stop(app)
                app.state = None
                for message in [message for message in self.messages if message.app == app.slug]:
                    self._forget(message)
            case _:
                raise NotPlayedError
        return None

    async def _start(self, app: App) -> None:
        """Start an app with a token of this start; with a health check it is ``startup`` until that passes."""
        if app.state in (State.STARTUP, State.STARTED):
            return
        app.token = token_hex(56)
        app.state = State.STARTUP
        if self.host is not None:
            try:
                await self.host.start(app, self.url)
            except OSError as error:
                app.state = State.ERROR
                message = f"An unknown error occurred with app {app.slug}. Check Supervisor logs for details"
                raise RefusedError(message, 500, "app_unknown_error", app=app.slug) from error
        app.state = State.STARTED

    async def _stop(self, app: App) -> None:
        if app.state in (State.STARTUP, State.STARTED):
            app.state = State.STOPPED
            if self.host is not None:
                await self.host.stop(app)

    def _store(self, method: str, rest: list[str], body: Mapping[str, Any]) -> Any:  # noqa: ANN401
        apps = [app.in_store() for app in self.apps]
        repositories = [_repository(url) for url in self.repositories]
        match method, rest:
            case "GET", []:
                return {"addons": apps, "repositories": repositories}
            case "GET", ["addons"]:
                return {"addons": apps}
            case "GET", ["repositories"]:
                return repositories
            case "POST", ["repositories"]:
                self._add_repository(body["repository"])
                return None
            case "POST", ["reload"]:
                return None
            case _, ["addons", slug, *action]:
                return self._store_app(method, slug, action)
        raise NotPlayedError

    def _store_app(self, method: str, slug: str, action: list[str]) -> Any:  # noqa: ANN401
        app = self._known(slug)
        if app is None:
            message = f"App {slug} does not exist in the store"
            raise RefusedError(message, 404, "store_app_not_found_error", app=slug)
        match method, action:
            case "GET", []:
                return app.of_store()
            case "GET", ["changelog"]:
                return f"No changelog found for app {slug}!"
            case "GET", ["availability"]:
                self._check_arch(app)
                return None
            case "POST", ["install"]:
                if app.state:
                    name = app.config["name"]
                    raise RefusedError(f"App {name} is already installed", 400, "app_already_installed_error", app=name)
                self._check_arch(app)
                app.state = State.STOPPED
                return None
        raise NotPlayedError

    def _check_arch(self, app: App) -> None:
        if self.arch not in app.config["arch"]:
            name, supported = app.config["name"], ", ".join(app.config["arch"])
            message = f"App {name} not supported on this platform, supported architectures: {supported}"
            key = "addon_not_supported_architecture_error"
            raise RefusedError(message, 400, key, app=name, architectures=supported)

    def _add_repository(self, url: str) -> None:
        if url in self.repositories:
            message = f"Can't add {url}, already in the store"
            raise RefusedError(message, 409, "store_repository_already_added_error", url=url)
        if url not in self.elsewhere:
            raise RefusedError("Unknown error, see Supervisor logs")
        self.repositories.append(url)
        self.apps += self.elsewhere[url]


def _repository(url: str) -> dict[str, str]:
    slug = repository_slug(url)
    return {"slug": slug, "name": url.rsplit("/", 1)[-1], "source": url, "url": url, "maintainer": "Somebody"}


def _panel(app: App) -> dict[str, Any]:
    config = app.config
    return {
        "title": config.get("panel_title", config["name"]),
        "icon": config["panel_icon"],
        "admin": True,
        "enable": False,
    }
