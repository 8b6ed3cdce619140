"""The Supervisor of Home Assistant OS: tells us of its broker, tells Home Assistant of us."""

import asyncio
import logging
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import aiohttp
import orjson

from .options import BrokerOptions

SUPERVISOR_URL = "http://supervisor"
LOOK_AGAIN_SECONDS = 60.0
"""How often the broker's coordinates are looked up, and a discovery nobody took up is repeated."""

_LOGGER = logging.getLogger(__name__)
_TIMEOUT = aiohttp.ClientTimeout(total=10)
_SERVICE = "process_cosmos"


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
        self._http = aiohttp.ClientSession(
            base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=_TIMEOUT, raise_for_status=True
        )

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
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError, TypeError) as error:
            _LOGGER.info("The Supervisor names no broker (%s)", type(error).__name__)
            return None

    async def until_broker_differs(self, used: BrokerOptions | None) -> None:
        """Return when the Supervisor names another broker than the one in use; silence is no other broker."""
        while True:
            await asyncio.sleep(self._look_again)
            if (broker := await self.broker()) not in (None, used):
                _LOGGER.info("The Supervisor names another broker: %s", broker)
                return

    async def announce(self, config: Mapping[str, Any], connected: asyncio.Event) -> None:
        """Offer ``config`` to Home Assistant until one has connected.

        It is deleted and posted again, because the Supervisor drops a message equal to one it has, and a message that
        came before the integration was installed met nobody.
        """
        discovery: str | None = None
        while not connected.is_set():
            try:
                if discovery is not None:
                    older, discovery = discovery, None
                    await self._call("DELETE", f"/discovery/{older}")
                reply = await self._call("POST", "/discovery", {"service": _SERVICE, "config": dict(config)})
                discovery = str(reply["uuid"])
            except (aiohttp.ClientError, TimeoutError, ValueError, KeyError, TypeError) as error:
                _LOGGER.warning("The Supervisor took no discovery message (%s)", type(error).__name__)
            try:
                async with asyncio.timeout(self._look_again):
                    await connected.wait()
            except TimeoutError:
                continue

    async def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        data = None if body is None else orjson.dumps(body)
        async with self._http.request(method, path, data=data, headers={"Content-Type": "application/json"}) as reply:
            document = orjson.loads(await reply.read())
        result = document.get("data") if isinstance(document, dict) else None
        return result if isinstance(result, dict) else {}


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
