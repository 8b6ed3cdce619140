"""Renewal of cloud endpoints' certificates, from half of their lifetime on."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace

from process_cosmos_gateway.clock import Clock
from process_cosmos_gateway.contract.errors import Code
from process_cosmos_gateway.errors import RequestRefusedError, StoreError
from process_cosmos_gateway.store import Store

from .settings import CloudSettings, Credentials, load_all

CHECK_SECONDS = 60.0
"""Seconds between checks. With an expired certificate nothing is delivered, so renewal is tried at each check."""

RETRY_SECONDS = 3600.0
"""Seconds between attempts while the certificate is valid, and after a refusal, which needs a person."""

_LOGGER = logging.getLogger(__name__)

type RenewFn = Callable[[str, Credentials], Awaitable[Credentials]]
type OnRenewed = Callable[[CloudSettings, CloudSettings], Awaitable[None]]


class Renewals:
    """Renews the certificates of all cloud endpoints; a failed renewal leaves the old certificate in use."""

    def __init__(self, store: Store, clock: Clock, renew_fn: RenewFn, on_renewed: OnRenewed) -> None:
        """Renew with ``renew_fn``; ``on_renewed`` replaces old settings by new ones."""
        self._store = store
        self._clock = clock
        self._renew_fn = renew_fn
        self._on_renewed = on_renewed
        self._retry_at: dict[str, float] = {}

    async def run(self) -> None:
        """Renew certificates that are due, until cancelled."""
        while True:
            try:
                for stored in await self._store.read(load_all):
                    if isinstance(stored.settings, CloudSettings) and self._is_due(stored.settings):
                        await self._renew(stored.settings)
            except StoreError:
                _LOGGER.exception(
                    "The certificates could not be renewed; the next attempt is in %.0f seconds", CHECK_SECONDS
                )
            await asyncio.sleep(CHECK_SECONDS)

    def _is_due(self, settings: CloudSettings) -> bool:
        may_retry = self._clock.monotonic() >= self._retry_at.get(settings.name, 0.0)
        return may_retry and self._clock.now() >= settings.credentials.renew_at

    async def _renew(self, old: CloudSettings) -> None:
        expired = self._clock.now() >= old.credentials.expires_at
        try:
            credentials = await self._renew_fn(old.url, old.credentials)
            await self._on_renewed(old, replace(old, credentials=credentials))
        except RequestRefusedError as error:
            _LOGGER.warning("%s: the certificate could not be renewed: %s", old.name, error)
            soon = expired and error.code is Code.DESTINATION_AWAY
            self._retry_at[old.name] = self._clock.monotonic() + (CHECK_SECONDS if soon else RETRY_SECONDS)
            return
        _LOGGER.info("%s: the certificate was renewed and is valid until %s", old.name, credentials.expires_at)
