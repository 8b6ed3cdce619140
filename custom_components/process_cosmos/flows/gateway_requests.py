"""Requests to a gateway from flows, before a config entry has a session of its own."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from homeassistant.const import CONF_TOKEN, CONF_URL
from homeassistant.core import HomeAssistant
from homeassistant.helpers import instance_id
from homeassistant.helpers.aiohttp_client import async_get_clientsession
from homeassistant.util.ulid import ulid_now
from yarl import URL

from custom_components.process_cosmos.const import CONF_SHA256, CONF_SITE, LOGGER, VERSION
from custom_components.process_cosmos.contract.destinations import RemoveDestination
from custom_components.process_cosmos.contract.errors import Code
from custom_components.process_cosmos.contract.identifiers import Ulid, is_ulid
from custom_components.process_cosmos.contract.messages import Request
from custom_components.process_cosmos.contract.session import HomeAssistantHello
from custom_components.process_cosmos.contract.versions import MIN_SCHEMA, SCHEMA
from custom_components.process_cosmos.gateway.client import (
    GatewayAwayError,
    GatewayClient,
    GatewayError,
    GatewayRefusedError,
    Reply,
    RequestRefusedError,
    Session,
    pair,
)

from .pairing_line import read_pairing_line

_REMOVAL_WITHIN = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayAccess:
    """Address and credentials of a gateway; ``repr`` omits the token."""

    site: str
    url: str
    token: str
    sha256: str | None

    @classmethod
    def from_discovery(cls, config: Mapping[str, Any]) -> Self | None:
        """Parse the discovery message of the app; return None if it is malformed."""
        match config:
            case {"host": str(host), "port": int(port), "token": str(token), "site": str(site)} if is_ulid(site):
                url = URL.build(scheme="http", host=host, port=port)
                return cls(site=site, url=str(url), token=token, sha256=None)
            case _:
                return None

    @classmethod
    def from_entry_data(cls, data: Mapping[str, Any]) -> Self | None:
        """Return the gateway in a config entry's ``data``; None without the app."""
        if data[CONF_URL] is None:
            return None
        return cls(site=data[CONF_SITE], url=data[CONF_URL], token=data[CONF_TOKEN], sha256=data[CONF_SHA256])

    @property
    def data(self) -> dict[str, str | None]:
        """Return the data of a config entry."""
        return {CONF_SITE: self.site, CONF_URL: self.url, CONF_TOKEN: self.token, CONF_SHA256: self.sha256}

    def __repr__(self) -> str:
        """Return a representation without secrets."""
        return f"GatewayAccess(site={self.site!r}, url={self.url!r})"


async def async_pair(hass: HomeAssistant, text: str) -> GatewayAccess:
    """Redeem a pasted pairing line; raise ``PastedLineError`` or ``GatewayError``."""
    line = read_pairing_line(text)
    paired = await pair(async_get_clientsession(hass), line, await instance_id.async_get(hass))
    return GatewayAccess(site=paired.site, url=line.url, token=paired.token, sha256=line.sha256)


async def async_send_requests(hass: HomeAssistant, found: GatewayAccess, *requests: Request) -> tuple[Reply, ...]:
    """Send ``requests`` in a session of their own and return the replies; raise ``GatewayError``.

    Without requests this only checks that the gateway responds.
    """
    async with await async_connect(hass, found, run=Ulid(ulid_now())) as session, _receive_replies(session):
        return tuple([await session.request(request) for request in requests])


async def async_connect(hass: HomeAssistant, found: GatewayAccess, *, run: Ulid, entry: str | None = None) -> Session:
    """Open a session that transfers the alerts of ``entry`` (None: only requests); raise ``GatewayError``."""
    client = GatewayClient(async_get_clientsession(hass), found.url, found.token, found.sha256)
    hello = HomeAssistantHello(
        schema=SCHEMA,
        min_schema=MIN_SCHEMA,
        version=VERSION,
        instance=await instance_id.async_get(hass),
        run=run,
        entry=entry,
    )
    session = await client.connect(hello)
    if session.hello.site != found.site:
        # Entered to be left again, which closes its socket.
        async with session:
            raise GatewayRefusedError(Code.IDENTITY_MISMATCH, "The gateway of another site responds at this address")
    return session


async def async_remove_destinations(hass: HomeAssistant, found: GatewayAccess, names: Iterable[str]) -> None:
    """Remove destinations and their secrets from the gateway; one that cannot be reached keeps them."""
    try:
        async with asyncio.timeout(_REMOVAL_WITHIN):
            for name in names:
                # A session for each name, because a refusal ends its session and the other destinations must go too.
                with contextlib.suppress(RequestRefusedError):  # unknown to the gateway
                    await async_send_requests(hass, found, RemoveDestination(name=name))
    except (GatewayError, TimeoutError) as error:
        LOGGER.warning(
            "Could not remove the destinations from the app of site %s, which keeps them: %s", found.site, error
        )


@contextlib.asynccontextmanager
async def _receive_replies(session: Session) -> AsyncIterator[None]:
    """Receive replies in the background; ignore other messages, which the session of the entry processes."""

    async def read() -> None:
        with contextlib.suppress(GatewayAwayError):  # the requests fail too
            async for _ in session.messages():
                pass

    reading = asyncio.create_task(read(), name="process_cosmos flow")
    try:
        yield
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
