"""Renews the certificates of cloud endpoints, from half of their life on."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace

from process_cosmos_gateway.clock import Clock
from process_cosmos_gateway.contract.errors import Code
from process_cosmos_gateway.errors import RequestRefusedError, StoreError
from process_cosmos_gateway.store import Store

from .cloud import Credentials
from .settings import CloudSettings, load_all

LOOK_SECONDS = 60.0
"""How often it is looked at who is due; with an expired certificate nothing gets through, so it is tried each time."""

RETRY_SECONDS = 3600.0
"""Between tries while the certificate is good, and after a refusal, which takes a person."""

_LOGGER = logging.getLogger(__name__)

type RenewFn = Callable[[str, Credentials], Awaitable[Credentials]]
type OnRenewed = Callable[[CloudSettings, CloudSettings], Awaitable[None]]


class Renewals:
    """Looks at all cloud endpoints again and again; what it cannot renew now keeps its certificate."""

    def __init__(self, store: Store, clock: Clock, renew_fn: RenewFn, on_renewed: OnRenewed) -> None:
        """Take the parts; ``on_renewed`` puts new settings in the place of old ones."""
        self._store = store
        self._clock = clock
        self._renew_fn = renew_fn
        self._on_renewed = on_renewed
        self._resting: dict[str, float] = {}

    async def run(self) -> None:
        """Renew what is due, until cancelled."""
        while True:
            try:
                for kept in await self._store.read(load_all):
                    if isinstance(kept.settings, CloudSettings) and self._is_due(kept.settings):
                        await self._renew(kept.settings)
            except StoreError:
                _LOGGER.exception("certificates could not be renewed; it is tried again")
            await asyncio.sleep(LOOK_SECONDS)

    def _is_due(self, settings: CloudSettings) -> bool:
        rested = self._clock.monotonic() >= self._resting.get(settings.name, 0.0)
        return rested and self._clock.now() >= settings.credentials.renew_at

    async def _renew(self, old: CloudSettings) -> None:
        expired = self._clock.now() >= old.credentials.expires_at
        try:
            credentials = await self._renew_fn(old.url, old.credentials)
            await self._on_renewed(old, replace(old, credentials=credentials))
        except RequestRefusedError as error:
            _LOGGER.warning("%s: the certificate is not renewed: %s", old.name, error)
            soon = expired and error.code is Code.DESTINATION_AWAY
            self._resting[old.name] = self._clock.monotonic() + (LOOK_SECONDS if soon else RETRY_SECONDS)
            return
        _LOGGER.info("%s: the certificate is renewed until %s", old.name, credentials.expires_at)
