"""The Supervisor of Home Assistant OS: tells us of its broker, tells Home Assistant of us."""

import asyncio
import logging
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
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
_NO_BROKER = "supervisor_no_broker"
_WHAT_TO_DO = {
    "supervisor_away": "It is asked again by itself. If this goes on, restart the host.",
    "supervisor_failed": "It is asked again by itself. If this goes on, its own log says more: "
    "Settings, System, Logs, Supervisor.",
    _NO_BROKER: "For devices install the Mosquitto broker app; it is taken over by itself.",
    "supervisor_refused": "Restart the app; if this goes on, install it again.",
}
_LOGGER = logging.getLogger(__name__)
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
        self,
        token: str,
        topics: tuple[str, ...],
        url: str = SUPERVISOR_URL,
        look_again: float = LOOK_AGAIN_SECONDS,
        *,
        patience: float = 10.0,
    ) -> None:
        """Take the token the Supervisor gave this app, and where Thing Descriptions are looked for at its broker.

        ``look_again``: seconds until what may have changed is asked, or said, again; ``patience``: for a reply.
        """
        self._look_again = look_again
        self._topics = topics
        self._troubles: dict[str, str] = {}
        """What was last wrong with a matter."""
        timeout = aiohttp.ClientTimeout(total=patience)
        headers = {"Authorization": f"Bearer {token}"}
        self._http = aiohttp.ClientSession(base_url=url, headers=headers, timeout=timeout)

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
        with self._told_once("the broker"):
            return _broker(await self._ask("GET", "/services/mqtt"), self._topics)
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
        pause = self._look_again / 2
        while not connected.is_set():
            message = {**config, "mark": secrets.token_hex(8)}
            with self._told_once("discovery"):
                await self._ask("POST", "/discovery", {"service": _SERVICE, "config": message})
                pause = min(2 * pause, _LONGEST_SECONDS)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await connected.wait()

    @contextmanager
    def _told_once(self, matter: str) -> Iterator[None]:
        """Log what is wrong with a matter once, not at each further try, and go on without it."""
        try:
            yield
        except SupervisorError as error:
            if self._troubles.get(matter) != error.code:
                level = logging.INFO if error.code == _NO_BROKER else logging.WARNING
                _LOGGER.log(level, "%s: %s", error.code, error)
            self._troubles[matter] = error.code
        else:
            self._troubles.pop(matter, None)

    async def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        """Return the ``data`` of the reply; raise ``SupervisorError``."""
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
                raise SupervisorError(_NO_BROKER, "The Supervisor knows no MQTT broker")
            case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN, _:
                raise SupervisorError("supervisor_refused", "The Supervisor does not let this app in")
            case status, {"message": str(message)}:
                said = f"The Supervisor answers {status}: {message[:_LONGEST_MESSAGE]}"
                raise SupervisorError("supervisor_failed", said)
            case status, _:
                raise SupervisorError("supervisor_failed", f"The Supervisor answers {status}, with nothing of use")


def _broker(data: Mapping[str, Any], topics: tuple[str, ...]) -> BrokerOptions:
    """Read the Supervisor's ``services/mqtt``; raise ``SupervisorError`` if it is none."""
    try:
        return BrokerOptions(
            host=str(data["host"]),
            port=int(data["port"]),
            username=data.get("username") or None,
            password=data.get("password") or None,
            tls=bool(data.get("ssl")),
            topics=topics,
        )
    except (KeyError, ValueError, TypeError) as error:
        what = "What the Supervisor says of its broker makes no sense"
        raise SupervisorError("supervisor_failed", what) from error
