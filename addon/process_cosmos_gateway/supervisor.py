"""The Supervisor of Home Assistant OS: tells us of its broker, tells Home Assistant of us."""

import asyncio
import logging
import secrets
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self

import aiohttp
import orjson

from .options import BrokerOptions

SUPERVISOR_URL = "http://supervisor"
LOOK_AGAIN_SECONDS = 60.0
"""How often the broker's coordinates are looked up, and after how long a discovery is first repeated."""

_LONGEST_SECONDS = 3600.0
_LONGEST_MESSAGE = 200
_WHAT_TO_DO = {
    "supervisor_away": "It is asked again by itself. If this goes on, restart the host.",
    "supervisor_failed": "It is asked again by itself. If this goes on, its own log says more: "
    "Settings, System, Logs, Supervisor.",
    "supervisor_no_broker": "For devices install the Mosquitto broker app; it is taken over by itself.",
    "supervisor_refused": "Restart the app; if this goes on, install it again.",
}
_LOGGER = logging.getLogger(__name__)
_TIMEOUT = aiohttp.ClientTimeout(total=10)
_SERVICE = "process_cosmos"


class SupervisorError(Exception):
    """The Supervisor did not do what it was asked; ``code`` is stable, the message says what to do."""

    def __init__(self, code: str, what: str) -> None:
        """Take the code, and what happened."""
        super().__init__(f"{what}. {_WHAT_TO_DO[code]}")
        self.code = code


class Supervisor:
    """A client of the Supervisor's API; what fails there is tried again, never fatal."""

    def __init__(
        self, token: str, topics: tuple[str, ...], url: str = SUPERVISOR_URL, look_again: float = LOOK_AGAIN_SECONDS
    ) -> None:
        """Take the token the Supervisor gave this app, and where Thing Descriptions are looked for at its broker.

        ``look_again``: seconds until what may have changed is asked, or said, again.
        """
        self._look_again = look_again
        self._topics = topics
        self._troubles: dict[str, str] = {}
        """What was last wrong with a path: it is logged once."""
        self._http = aiohttp.ClientSession(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=_TIMEOUT)

    async def __aenter__(self) -> Self:
        """Return the client."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close its connections."""
        await self._http.close()

    async def broker(self) -> BrokerOptions | None:
        """Return the broker the Supervisor knows; None if there is none, or the Supervisor does not answer."""
        try:
            return _broker(await self._call("GET", "/services/mqtt"), self._topics)
        except SupervisorError:
            return None
        except KeyError, ValueError, TypeError:
            _LOGGER.warning(
                "supervisor_failed: What the Supervisor says of its broker makes no sense. Name it in the options."
            )
            return None

    async def until_broker_differs(self, used: BrokerOptions | None) -> None:
        """Return when the Supervisor names another broker than the one in use; silence is no other broker."""
        while True:
            await asyncio.sleep(self._look_again)
            if (broker := await self.broker()) not in (None, used):
                _LOGGER.info("The Supervisor names another broker: %s", broker)
                return

    async def announce(self, config: Mapping[str, Any], connected: asyncio.Event) -> None:
        """Offer ``config`` to Home Assistant until one has connected, ever more rarely.

        The Supervisor passes a message on only if it differs from the one it has of this app, which may be an earlier
        run's: so each bears a mark of its own. It replaces the one before, and Home Assistant always finds one.
        """
        pause = self._look_again
        while not connected.is_set():
            message = {**config, "mark": secrets.token_hex(8)}
            with suppress(SupervisorError):
                await self._call("POST", "/discovery", {"service": _SERVICE, "config": message})
            try:
                async with asyncio.timeout(pause):
                    await connected.wait()
            except TimeoutError:
                pause = min(2 * pause, _LONGEST_SECONDS)

    async def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        """Return the ``data`` of the reply; raise ``SupervisorError``, logged once and not at each further try."""
        try:
            data = await self._ask(method, path, body)
        except SupervisorError as error:
            if self._troubles.get(path) != error.code:
                self._troubles[path] = error.code
                _LOGGER.log(
                    logging.INFO if error.code == "supervisor_no_broker" else logging.WARNING,
                    "%s: %s",
                    error.code,
                    error,
                )
            raise
        self._troubles.pop(path, None)
        return data

    async def _ask(self, method: str, path: str, body: Mapping[str, Any] | None) -> Mapping[str, Any]:
        data = None if body is None else orjson.dumps(body)
        headers = {"Content-Type": "application/json"}
        try:
            async with self._http.request(method, path, data=data, headers=headers, allow_redirects=False) as reply:
                text = await reply.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise SupervisorError(
                "supervisor_away", f"The Supervisor does not answer ({type(error).__name__})"
            ) from error
        try:
            document = orjson.loads(text)
        except ValueError:
            document = None
        match reply.status, document:
            case HTTPStatus.OK, {"data": dict(result)}:
                return result
            case HTTPStatus.BAD_REQUEST, {"message": "Service not enabled"}:
                raise SupervisorError("supervisor_no_broker", "The Supervisor knows no MQTT broker")
            case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN, _:
                raise SupervisorError("supervisor_refused", "The Supervisor does not let this app in")
            case status, {"message": str(message)}:
                said = f"The Supervisor answers {status}: {message[:_LONGEST_MESSAGE]}"
                raise SupervisorError("supervisor_failed", said)
            case status, _:
                raise SupervisorError("supervisor_failed", f"The Supervisor answers {status}, with nothing of use")


def _broker(data: Mapping[str, Any], topics: tuple[str, ...]) -> BrokerOptions:
    """Read the Supervisor's ``services/mqtt``; raise ``KeyError`` or ``ValueError`` if it is none."""
    return BrokerOptions(
        host=str(data["host"]),
        port=int(data["port"]),
        username=data.get("username") or None,
        password=data.get("password") or None,
        tls=bool(data.get("ssl")),
        topics=topics,
    )
