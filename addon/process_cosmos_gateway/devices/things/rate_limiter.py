"""Drops what one device says beyond its rate, but for the newest state, which is taken as soon as the rate allows."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from process_cosmos_gateway.devices.mqtt.connection import Message

from .rates import RECORDS_PER_MESSAGE, DeviceRate

_LOGGER = logging.getLogger(__name__)

RATE_LIMITED = "rate_limited"
_LISTED_SECONDS = 3600.0
_MAX_DEFERRED = 2000
_MAX_DEFERRED_BYTES = 1024
_CHECK_SECONDS = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class InboundMessage:
    """A message with what the session says of it; ``key`` is the same each time the broker sends the message."""

    message: Message
    key: str | None = None
    possible_repeat: bool = False


class RateLimiter:
    """Decides which messages are taken. Those that are not are acknowledged and read_counter, by reason and by device."""

    def __init__(self, counts: Counter[str], now_fn: Callable[[], float]) -> None:
        """Take where to count, and monotonic time."""
        self._counts = counts
        self._now_fn = now_fn
        self._rates: dict[str, DeviceRate] = {}
        self._limited: dict[str, float] = {}
        self._deferred: dict[str, tuple[str, InboundMessage, bool]] = {}
        self._wakeup = asyncio.Event()

    @property
    def limited(self) -> tuple[str, ...]:
        """The devices that said more than they may within the last hour, those that did so first in front."""
        now = self._now_fn()
        self._limited = {device: at for device, at in self._limited.items() if now - at < _LISTED_SECONDS}
        return tuple(self._limited)

    def allows(self, device: str, received: InboundMessage, *, may_be_urgent: bool, is_state: bool) -> bool:
        """Say whether a message of ``device`` is taken now; ``is_state``: a newer one of its topic replaces it."""
        topic = received.message.topic or ""
        now = self._now_fn()
        rate = self._rates.setdefault(device, DeviceRate())
        if rate.allow(len(received.message.payload), now, may_be_urgent=may_be_urgent):
            self._deferred.pop(topic, None)
            return True
        self._counts[RATE_LIMITED] += 1
        if now - self._limited.get(device, -_LISTED_SECONDS) >= _LISTED_SECONDS:
            self._limited[device] = now
            _LOGGER.warning(
                "%s: %s sends more messages than a device may; what is beyond is dropped", RATE_LIMITED, device
            )
        if is_state and len(received.message.payload) <= _MAX_DEFERRED_BYTES and len(self._deferred) < _MAX_DEFERRED:
            self._deferred[topic] = (device, received, may_be_urgent)
            self._wakeup.set()
        return False

    def charge(self, device: str, records: int) -> None:
        """Count the records of a message that was taken."""
        if records > RECORDS_PER_MESSAGE:
            self._rates[device].readings.level -= records // RECORDS_PER_MESSAGE

    def forget_device(self, device: str) -> None:
        """Forget a device that has gone."""
        self._rates.pop(device, None)
        self._deferred = {topic: deferred for topic, deferred in self._deferred.items() if deferred[0] != device}

    async def run(self, handle: Callable[[InboundMessage], None]) -> None:
        """Hand the newest states of devices over again, until cancelled: ``handle`` asks ``admits`` anew."""
        while True:
            await self._wakeup.wait()
            await asyncio.sleep(_CHECK_SECONDS)
            if not self._deferred:
                self._wakeup.clear()
            for topic, (device, received, may_be_urgent) in tuple(self._deferred.items()):
                if topic in self._deferred and self._rates[device].would_allow(
                    self._now_fn(), may_be_urgent=may_be_urgent
                ):
                    del self._deferred[topic]
                    handle(received)
