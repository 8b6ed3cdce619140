"""Drops what one device says beyond its rate, but for the newest state, which is taken as soon as the rate allows."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from process_cosmos_gateway.devices.mqtt.connection import Message

from .rates import RECORDS_OF_A_MESSAGE, DeviceRate

_LOGGER = logging.getLogger(__name__)

RATE_LIMITED = "rate_limited"
_NAMED_SECONDS = 3600.0
_MOST_HELD = 2000
_LONGEST_HELD = 1024
_LOOK_SECONDS = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A message with what the session says of it; ``key`` is the same each time the broker sends the message."""

    message: Message
    key: str | None = None
    possible_repeat: bool = False


class RateLimiter:
    """Decides which messages are taken. Those that are not are acknowledged and counted, by reason and by device."""

    def __init__(self, counts: Counter[str], now_fn: Callable[[], float]) -> None:
        """Take where to count, and monotonic time."""
        self._counts = counts
        self._now = now_fn
        self._rates: dict[str, DeviceRate] = {}
        self._limited: dict[str, float] = {}
        self._held: dict[str, tuple[str, Received, bool]] = {}
        self._news = asyncio.Event()

    @property
    def limited(self) -> tuple[str, ...]:
        """The devices that said more than they may within the last hour, those that did so first in front."""
        now = self._now()
        self._limited = {device: at for device, at in self._limited.items() if now - at < _NAMED_SECONDS}
        return tuple(self._limited)

    def admits(self, device: str, received: Received, *, may_be_urgent: bool, is_state: bool) -> bool:
        """Say whether a message of ``device`` is taken now; ``is_state``: a newer one of its topic replaces it."""
        topic = received.message.topic or ""
        now = self._now()
        rate = self._rates.setdefault(device, DeviceRate())
        if rate.admit(len(received.message.payload), now, may_be_urgent=may_be_urgent):
            self._held.pop(topic, None)
            return True
        self._counts[RATE_LIMITED] += 1
        if now - self._limited.get(device, -_NAMED_SECONDS) >= _NAMED_SECONDS:
            self._limited[device] = now
            _LOGGER.warning(
                "%s: %s sends more messages than a device may; what is beyond is dropped", RATE_LIMITED, device
            )
        if is_state and len(received.message.payload) <= _LONGEST_HELD and len(self._held) < _MOST_HELD:
            self._held[topic] = (device, received, may_be_urgent)
            self._news.set()
        return False

    def charge(self, device: str, records: int) -> None:
        """Count the records of a message that was taken."""
        if records > RECORDS_OF_A_MESSAGE:
            self._rates[device].readings.level -= records // RECORDS_OF_A_MESSAGE

    def forget(self, device: str) -> None:
        """Forget a device that has gone."""
        self._rates.pop(device, None)
        self._held = {topic: held for topic, held in self._held.items() if held[0] != device}

    async def run(self, take: Callable[[Received], None]) -> None:
        """Hand the newest states of devices over again, until cancelled: ``take`` asks ``admits`` anew."""
        while True:
            await self._news.wait()
            await asyncio.sleep(_LOOK_SECONDS)
            if not self._held:
                self._news.clear()
            for topic, (device, received, may_be_urgent) in tuple(self._held.items()):
                if topic in self._held and self._rates[device].may(self._now(), may_be_urgent=may_be_urgent):
                    del self._held[topic]
                    take(received)
