"""Talks to a gateway on behalf of a flow, before an entry has a link of its own."""

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
from custom_components.process_cosmos.contract.session import MIN_SCHEMA, SCHEMA, HomeAssistantHello
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

_PATIENCE = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayAccess:
    """A gateway and the token for it; ``repr`` leaves the token out."""

    site: str
    url: str
    token: str
    sha256: str | None

    @classmethod
    def discovered(cls, config: Mapping[str, Any]) -> Self | None:
        """Read what the app told the Supervisor; None if it makes no sense."""
        match config:
            case {"host": str(host), "port": int(port), "token": str(token), "site": str(site)} if is_ulid(site):
                url = URL.build(scheme="http", host=host, port=port)
                return cls(site=site, url=str(url), token=token, sha256=None)
            case _:
                return None

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Self | None:
        """Return the gateway of a config entry's ``data``; None without the app."""
        if data[CONF_URL] is None:
            return None
        return cls(site=data[CONF_SITE], url=data[CONF_URL], token=data[CONF_TOKEN], sha256=data[CONF_SHA256])

    @property
    def data(self) -> dict[str, str | None]:
        """Return what the config entry keeps."""
        return {CONF_SITE: self.site, CONF_URL: self.url, CONF_TOKEN: self.token, CONF_SHA256: self.sha256}

    def __repr__(self) -> str:
        """Return what may stand in a log."""
        return f"GatewayAccess(site={self.site!r}, url={self.url!r})"


async def async_pair(hass: HomeAssistant, text: str) -> GatewayAccess:
    """Use up a pasted pairing line; raises ``PastedLineError`` or ``GatewayError``, each with its code."""
    line = read_pairing_line(text)
    paired = await pair(async_get_clientsession(hass), line, await instance_id.async_get(hass))
    return GatewayAccess(site=paired.site, url=line.url, token=paired.token, sha256=line.sha256)


async def async_send_requests(hass: HomeAssistant, found: GatewayAccess, *requests: Request) -> tuple[Reply, ...]:
    """Open a session, make ``requests`` in it, close it, and return the replies.

    Without any request it only proves that the gateway answers.
    """
    async with await async_connect(hass, found, run=Ulid(ulid_now())) as session, _read(session):
        return tuple([await session.request(request) for request in requests])


async def async_connect(hass: HomeAssistant, found: GatewayAccess, *, run: Ulid, entry: str | None = None) -> Session:
    """Open a session, to hand over the alerts of ``entry`` (None: only to make requests). Raise ``GatewayError``."""
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
        async with session:
            raise GatewayRefusedError(Code.IDENTITY_MISMATCH, "The gateway of another site answers there")
    return session


async def async_remove_destinations(hass: HomeAssistant, found: GatewayAccess, names: Iterable[str]) -> None:
    """Have the gateway forget destinations and their secrets; one that is away keeps them, which nothing here mends."""
    try:
        async with asyncio.timeout(_PATIENCE):
            for name in names:
                with contextlib.suppress(RequestRefusedError):  # it does not have it
                    await async_send_requests(hass, found, RemoveDestination(id=name, name=name))
    except (GatewayError, TimeoutError) as error:
        LOGGER.warning("Destinations stay with the app of site %s, which could not be asked: %s", found.site, error)


@contextlib.asynccontextmanager
async def _read(session: Session) -> AsyncIterator[None]:
    """Take in replies; what else the gateway says is for the entry's own session."""

    async def read() -> None:
        with contextlib.suppress(GatewayAwayError):  # the requests hear of it
            async for _ in session.messages():
                pass

    reading = asyncio.create_task(read(), name="process_cosmos flow")
    try:
        yield
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
