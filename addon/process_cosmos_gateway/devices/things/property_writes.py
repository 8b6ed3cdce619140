"""Property writes that are repeated until the device reports the value, or they expire."""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from process_cosmos_gateway.backoff import exponential_delay
from process_cosmos_gateway.clock import Clock
from process_cosmos_gateway.contract.devices import Value
from process_cosmos_gateway.contract.errors import Code
from process_cosmos_gateway.devices.message_writer import Change
from process_cosmos_gateway.devices.mqtt.errors import DeniedError, MqttError
from process_cosmos_gateway.devices.repository import StoredWrite, delete_write, load_writes, store_write
from process_cosmos_gateway.errors import RequestRefusedError, StoreError
from process_cosmos_gateway.store import Store

_LOGGER = logging.getLogger(__name__)

_MIN_SECONDS = 1.0
_MAX_SECONDS = 7 * 24 * 3600.0
_MAX_WAIT_SECONDS = 1.0
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
"""Seconds between two messages of a write."""

_CONFIRMATION_SECONDS = 1.0
"""Seconds to wait for the broker's confirmation or denial of a write, which has been sent already."""

type Confirmation = asyncio.Future[Any]
"""A future that ends once the broker has confirmed a message, or with ``MqttError``."""


@dataclass(slots=True, kw_only=True)
class _UnconfirmedWrite:
    """A write that the device has not reported yet; times are monotonic. ``denied``: by the broker."""

    value: Value
    expires: float
    next_try: float
    attempts: int = 1
    denied: bool = False


class PropertyWrites:
    """The newest write of each property, until reported, denied or expired; survives a restart."""

    def __init__(
        self, store: Store, clock: Clock, counts: Counter[str], send: Callable[[str, str, Value], Confirmation | None]
    ) -> None:
        """Use ``send(device, property, value)`` to publish; it returns None without a broker."""
        self._store = store
        self._clock = clock
        self._counts = counts
        self._send = send
        self._pending: dict[tuple[str, str], _UnconfirmedWrite] = {}
        self._wakeup = asyncio.Event()

    async def load(self) -> None:
        """Continue the writes that were neither reported nor expired when the gateway stopped."""
        wall, now = self._clock.now().timestamp(), self._clock.monotonic()
        for write in await self._store.read(load_writes):
            # If the wall clock was set back, a write still expires after its own duration at the latest.
            left = min(write.expires_at - wall, write.expires_at - write.written_at)
            self._pending[write.device, write.name] = _UnconfirmedWrite(
                value=write.value, expires=now + left, next_try=now + _FIRST_PAUSE
            )

    async def submit(self, device: str, name: str, value: Value, expires_in: float, reported: Value | None) -> bool:
        """Publish at once and return once the write is stored; False: the broker is not connected.

        A value that the device already reports, without another write in progress, is published once and not stored.
        Raises ``StoreError``: the write was published, but is not repeated. Raises ``RequestRefusedError``: the broker
        denied it.
        """
        # Published before it is stored, so that a valve does not wait for the disk.
        sent = self._send(device, name, value)
        if sent is None:
            return False
        seconds = min(max(expires_in, _MIN_SECONDS), _MAX_SECONDS)
        wall, now = self._clock.now().timestamp(), self._clock.monotonic()
        pending = _UnconfirmedWrite(value=value, expires=now + seconds, next_try=now + _FIRST_PAUSE)
        sent.add_done_callback(partial(self._note_denied, pending))
        # With another write in progress the device may leave this value any moment: then this one must replace it.
        if reported == value and (device, name) not in self._pending:
            await self._wait_confirmed(sent)
            return True
        # Before the commit, because the device may report the value while the store is busy.
        self._pending[device, name] = pending
        self._wakeup.set()
        write = StoredWrite(device=device, name=name, value=value, written_at=wall, expires_at=wall + seconds)
        try:
            await self._store.write(lambda transaction: store_write(transaction, write))
        except StoreError:
            if self._pending.get((device, name)) is pending:
                del self._pending[device, name]
            raise
        await self._wait_confirmed(sent)
        return True

    async def _wait_confirmed(self, sent: Confirmation) -> None:
        """Wait briefly for the broker's confirmation; raise ``RequestRefusedError`` if it denied the write."""
        try:
            async with asyncio.timeout(_CONFIRMATION_SECONDS):
                # The time-out must not cancel it: a denial that comes later still has to end the write.
                await asyncio.shield(sent)
        except DeniedError as error:
            raise RequestRefusedError(
                Code.WRITE_DENIED, f"The MQTT broker did not accept the write ({error})"
            ) from error
        except MqttError, TimeoutError:
            return  # the write is repeated

    def _note_denied(self, pending: _UnconfirmedWrite, sent: Confirmation) -> None:
        """Mark a write that the broker denied, however late, for removal by ``run``."""
        if not sent.cancelled() and isinstance(sent.exception(), DeniedError) and not pending.denied:
            pending.denied = True
            self._counts["writes_denied"] += 1
            self._wakeup.set()

    async def _end(self, device: str, name: str, pending: _UnconfirmedWrite) -> None:
        """Stop repeating a write."""
        if self._pending.get((device, name)) is pending:
            del self._pending[device, name]
        with contextlib.suppress(StoreError):  # then the row is loaded at the next start, and expires
            await self._store.write(partial(delete_write, device=device, name=name, value=pending.value))

    def note_reported(self, device: str, name: str, value: Value) -> Change | None:
        """Record a reported value; return the change to store if it confirms a write."""
        pending = self._pending.get((device, name))
        if pending is None or pending.value != value:
            return None
        del self._pending[device, name]
        # The row has the JSON of the request: a device may report 20 for 20.0.
        return partial(delete_write, device=device, name=name, value=pending.value)

    def forget_device(self, device: str) -> None:
        """Discard the writes of a removed device; its rows are deleted with the device."""
        for key in [key for key in self._pending if key[0] == device]:
            del self._pending[key]

    async def run(self) -> None:
        """Repeat and expire writes until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wakeup.wait(), self._seconds_to_next() if self._pending else None)
            self._wakeup.clear()
            await self._process_due(self._clock.monotonic())

    def _seconds_to_next(self) -> float:
        """Return the seconds to wait, never many: the clock may be changed meanwhile."""
        now = self._clock.monotonic()
        due = min(min(pending.next_try, pending.expires) for pending in self._pending.values())
        return min(max(0.0, due - now), _MAX_WAIT_SECONDS)

    async def _process_due(self, now: float) -> None:
        for (device, name), pending in tuple(self._pending.items()):
            if self._pending.get((device, name)) is not pending:
                continue  # confirmed or replaced while the store was awaited
            if pending.denied:
                _LOGGER.warning(
                    "write_denied: The MQTT broker denied the write of %s to %s. Check its access rules (ACL)",
                    name,
                    device,
                )
                await self._end(device, name, pending)
            elif pending.expires <= now:
                self._counts["writes_expired"] += 1
                _LOGGER.warning(
                    "%s did not report the value written to %s in time; the write is no longer repeated", device, name
                )
                await self._end(device, name, pending)
            elif pending.next_try <= now:
                if (sent := self._send(device, name, pending.value)) is not None:
                    sent.add_done_callback(partial(self._note_denied, pending))
                    self._counts["writes_repeated"] += 1
                    pending.attempts += 1
                pending.next_try = now + exponential_delay(pending.attempts, _FIRST_PAUSE, _LONGEST_PAUSE)
