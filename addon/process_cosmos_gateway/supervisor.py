"""The client of Home Assistant's Supervisor: reads its MQTT broker, and announces the app to Home Assistant."""

import asyncio
import logging
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http import HTTPStatus
from typing import Any

import aiohttp
import orjson

from .backoff import exponential_delay
from .errors import GatewayError
from .options import BrokerOptions

SUPERVISOR_URL = "http://supervisor"
POLL_SECONDS = 60.0
"""Seconds between checks of the broker, and before a discovery message is first repeated."""

_LONGEST_SECONDS = 3600.0
_LONGEST_MESSAGE = 200
_NO_BROKER = "supervisor_no_broker"
_ADVICE = {
    "supervisor_away": "The request is repeated automatically. If this persists, restart the host.",
    "supervisor_failed": "The request is repeated automatically. If this persists, see the Supervisor's log: "
    "Settings, System, Logs, Supervisor.",
    _NO_BROKER: "For devices, install the Mosquitto broker app; it is used automatically.",
    "supervisor_refused": "Restart the app; if this persists, install it again.",
}
_LOGGER = logging.getLogger(__name__)
_SERVICE = "process_cosmos"


class SupervisorError(GatewayError):
    """A request to the Supervisor failed; ``code`` is stable, the message says what to do."""

    def __init__(self, code: str, what: str) -> None:
        """Create the error from its code and a description; the advice for the code is appended."""
        super().__init__(f"{what}. {_ADVICE[code]}")
        self.code = code


class Supervisor:
    """A client of the Supervisor's API; failed requests are repeated and never fatal."""

    def __init__(
        self,
        token: str,
        topics: tuple[str, ...],
        url: str = SUPERVISOR_URL,
        poll_seconds: float = POLL_SECONDS,
        *,
        timeout: float = 10.0,
    ) -> None:
        """Use the app's ``token``; ``topics`` are the topic filters of Thing Descriptions at the Supervisor's broker.

        ``poll_seconds``: between checks and announcements; ``timeout``: seconds for a reply.
        """
        self._poll_seconds = poll_seconds
        self._topics = topics
        self._failures: dict[str, str] = {}
        """The last error code of each kind of request."""
        limits = aiohttp.ClientTimeout(total=timeout)
        headers = {"Authorization": f"Bearer {token}"}
        self._http = aiohttp.ClientSession(base_url=url, headers=headers, timeout=limits)

    async def aclose(self) -> None:
        """Close the HTTP connections to the Supervisor."""
        await self._http.close()

    async def broker(self) -> BrokerOptions | None:
        """Return the Supervisor's broker; None if there is none, or if the request fails."""
        with self._log_failures_once("the broker"):
            return _broker(await self._request("GET", "/services/mqtt"), self._topics)
        return None

    async def wait_for_broker_change(self, used: BrokerOptions | None) -> None:
        """Return when the Supervisor's broker differs from ``used``; a failed request is not a change."""
        while True:
            await asyncio.sleep(self._poll_seconds)
            if (broker := await self.broker()) not in (None, used):
                _LOGGER.info("The Supervisor's MQTT broker has changed to %s", broker)
                return

    async def announce(self, config: Mapping[str, Any], connected: asyncio.Event) -> None:
        """Announce ``config`` to Home Assistant until one has connected, at growing intervals.

        The Supervisor forwards a message only if it differs from this app's last one, perhaps of an earlier run; a
        random mark makes each differ. Each message replaces the last one, so that Home Assistant always finds one.
        """
        delivered = 0
        while not connected.is_set():
            message = {**config, "mark": secrets.token_hex(8)}
            with self._log_failures_once("discovery"):
                await self._request("POST", "/discovery", {"service": _SERVICE, "config": message})
                # Only a delivered message lengthens the pause: until then it is repeated soon.
                delivered += 1
            with suppress(TimeoutError):
                async with asyncio.timeout(exponential_delay(1 + delivered, self._poll_seconds / 2, _LONGEST_SECONDS)):
                    await connected.wait()

    @contextmanager
    def _log_failures_once(self, subject: str) -> Iterator[None]:
        """Log a failure of one kind of request when its code changes, not on each retry, and suppress the error."""
        try:
            yield
        except SupervisorError as error:
            if self._failures.get(subject) != error.code:
                level = logging.INFO if error.code == _NO_BROKER else logging.WARNING
                _LOGGER.log(level, "%s: %s", error.code, error)
            self._failures[subject] = error.code
        else:
            self._failures.pop(subject, None)

    async def _request(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        """Return the ``data`` of the reply; raise ``SupervisorError`` on failure."""
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
            # Without a broker the Supervisor replies with this text; any other 400 is a failure.
            case HTTPStatus.BAD_REQUEST, {"message": "Service not enabled"}:
                raise SupervisorError(_NO_BROKER, "The Supervisor has no MQTT broker")
            case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN, _:
                raise SupervisorError("supervisor_refused", "The Supervisor rejects the token of this app")
            case status, {"message": str(message)}:
                said = f"The Supervisor replied {status}: {message[:_LONGEST_MESSAGE]}"
                raise SupervisorError("supervisor_failed", said)
            case status, _:
                raise SupervisorError("supervisor_failed", f"The Supervisor replied {status} without valid data")


def _broker(data: Mapping[str, Any], topics: tuple[str, ...]) -> BrokerOptions:
    """Parse the Supervisor's ``services/mqtt``; raise ``SupervisorError`` if it is invalid."""
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
        what = "The description of the MQTT broker by the Supervisor is invalid"
        raise SupervisorError("supervisor_failed", what) from error
