"""Property writes on their way: repeated until the device reports the value, or their time is over."""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

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
_CONFIRMATION_SECONDS = 1.0
"""Seconds a write waits for the broker to confirm or deny it: the device has it already, or will."""

type Confirmation = asyncio.Future[Any]
"""Ends once the broker has confirmed a message, or with ``MqttError``."""


def pause_after(attempts: int) -> float:
    """Return the seconds between a write's ``attempts``-th sending and the next one: 1, 2, 4, … at most 60."""
    return min(60.0, 2.0 ** (attempts - 1))


@dataclass(slots=True, kw_only=True)
class _UnconfirmedWrite:
    """A write not yet confirmed; times are monotonic. ``denied``: the broker does not take it."""

    value: Value
    expires: float
    next_try: float
    attempts: int = 1
    denied: bool = False


class PropertyWrites:
    """The newest write of each property until it is over; survives a restart."""

    def __init__(
        self, store: Store, clock: Clock, counts: Counter[str], send: Callable[[str, str, Value], Confirmation | None]
    ) -> None:
        """Take how to publish: ``send(device, property, value)``, None if the broker is away."""
        self._store = store
        self._clock = clock
        self._counts = counts
        self._send = send
        self._pending: dict[tuple[str, str], _UnconfirmedWrite] = {}
        self._wakeup = asyncio.Event()

    async def load(self) -> None:
        """Go on with the writes that were not over when the gateway stopped."""
        wall, now = self._clock.now().timestamp(), self._clock.monotonic()
        for write in await self._store.read(load_writes):
            # A wall clock that went back must not keep a write alive for longer than it was meant to be.
            left = min(write.expires_at - wall, write.expires_at - write.written_at)
            self._pending[write.device, write.name] = _UnconfirmedWrite(
                value=write.value, expires=now + left, next_try=now + pause_after(1)
            )

    async def submit(self, device: str, name: str, value: Value, expires_in: float, reported: Value | None) -> bool:
        """Publish at once and return when the write is on disk; False: the broker is away.

        Raises ``StoreError``: it was published, and is not repeated. Raises ``RequestRefusedError``: the broker said
        that it did not take it.
        A value the device has already, with no other write on its way, is published once.
        """
        sent = self._send(device, name, value)
        if sent is None:
            return False
        seconds = min(max(expires_in, _MIN_SECONDS), _MAX_SECONDS)
        wall, now = self._clock.now().timestamp(), self._clock.monotonic()
        pending = _UnconfirmedWrite(value=value, expires=now + seconds, next_try=now + pause_after(1))
        sent.add_done_callback(partial(self._note_denied, pending))
        if reported == value and (device, name) not in self._pending:
            await self._wait_confirmed(sent)
            return True
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
        """Return when the broker has the message, or cannot say; raise ``RequestRefusedError`` if it denied it."""
        try:
            async with asyncio.timeout(_CONFIRMATION_SECONDS):
                await asyncio.shield(sent)
        except DeniedError as error:
            raise RequestRefusedError(
                Code.WRITE_DENIED, f"The MQTT broker did not accept the write ({error})"
            ) from error
        except MqttError, TimeoutError:
            return  # it is sent again

    def _note_denied(self, pending: _UnconfirmedWrite, sent: Confirmation) -> None:
        """End a write the broker has denied, however late; ``run`` does it."""
        if not sent.cancelled() and isinstance(sent.exception(), DeniedError) and not pending.denied:
            pending.denied = True
            self._counts["writes_denied"] += 1
            self._wakeup.set()

    async def _end(self, device: str, name: str, pending: _UnconfirmedWrite) -> None:
        """Send a write no more."""
        if self._pending.get((device, name)) is pending:
            del self._pending[device, name]
        with contextlib.suppress(StoreError):  # then it is still there at the next start, and over by then
            await self._store.write(partial(delete_write, device=device, name=name, value=pending.value))

    def note_reported(self, device: str, name: str, value: Value) -> Change | None:
        """Take note of a report; return what is to be written if it confirms a write."""
        pending = self._pending.get((device, name))
        if pending is None or pending.value != value:
            return None
        del self._pending[device, name]
        # What is on disk are the bytes that were asked for: a device may report 20 for 20.0.
        return partial(delete_write, device=device, name=name, value=pending.value)

    def forget_device(self, device: str) -> None:
        """Drop what waits for a device that has gone; its rows go with it."""
        for key in [key for key in self._pending if key[0] == device]:
            del self._pending[key]

    async def run(self) -> None:
        """Repeat and expire, for ever."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wakeup.wait(), self._seconds_to_next() if self._pending else None)
            self._wakeup.clear()
            await self._process_due(self._clock.monotonic())

    def _seconds_to_next(self) -> float:
        """Return how long to wait; never long, as the clock may be shifted meanwhile."""
        now = self._clock.monotonic()
        due = min(min(pending.next_try, pending.expires) for pending in self._pending.values())
        return min(max(0.0, due - now), _MAX_WAIT_SECONDS)

    async def _process_due(self, now: float) -> None:
        for (device, name), pending in tuple(self._pending.items()):
            if self._pending.get((device, name)) is not pending:
                continue  # confirmed or replaced while the disk was waited for
            if pending.denied:
                _LOGGER.warning(
                    "write_denied: the MQTT broker does not accept %s of %s; it is not sent again", name, device
                )
                await self._end(device, name, pending)
            elif pending.expires <= now:
                self._counts["writes_expired"] += 1
                _LOGGER.warning("%s did not take a value for %s in time; it is no longer sent", device, name)
                await self._end(device, name, pending)
            elif pending.next_try <= now:
                if (sent := self._send(device, name, pending.value)) is not None:
                    sent.add_done_callback(partial(self._note_denied, pending))
                    self._counts["writes_repeated"] += 1
                    pending.attempts += 1
                pending.next_try = now + pause_after(pending.attempts)
