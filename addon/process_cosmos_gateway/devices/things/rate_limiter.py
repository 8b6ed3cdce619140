"""A rate limit for each device: messages above it are dropped, except the newest state, which is deferred."""

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
    """A received message; ``key`` is the same each time the broker sends the message."""

    message: Message
    key: str | None = None
    possible_repeat: bool = False


class RateLimiter:
    """The rate limits of all devices. Dropped messages are acknowledged, and counted as ``rate_limited``."""

    def __init__(self, counts: Counter[str], now_fn: Callable[[], float]) -> None:
        """Begin without devices; ``now_fn`` returns monotonic seconds."""
        self._counts = counts
        self._now_fn = now_fn
        self._rates: dict[str, DeviceRate] = {}
        self._limited: dict[str, float] = {}
        self._deferred: dict[str, tuple[str, InboundMessage, bool]] = {}
        self._wakeup = asyncio.Event()

    @property
    def limited(self) -> tuple[str, ...]:
        """Devices that exceeded their rate within the last hour, in the order in which they did."""
        now = self._now_fn()
        self._limited = {device: at for device, at in self._limited.items() if now - at < _LISTED_SECONDS}
        return tuple(self._limited)

    def allows(self, device: str, inbound: InboundMessage, *, may_be_urgent: bool, is_state: bool) -> bool:
        """Return whether to handle a message now; ``is_state``: a newer one of its topic replaces it."""
        topic = inbound.message.topic or ""
        now = self._now_fn()
        rate = self._rates.setdefault(device, DeviceRate())
        if rate.allow(len(inbound.message.payload), now, may_be_urgent=may_be_urgent):
            # An older state must not be handled after this one.
            self._deferred.pop(topic, None)
            return True
        self._counts[RATE_LIMITED] += 1
        if now - self._limited.get(device, -_LISTED_SECONDS) >= _LISTED_SECONDS:
            self._limited[device] = now
            _LOGGER.warning(
                "%s: %s exceeds the message rate of a device; messages above it are dropped", RATE_LIMITED, device
            )
        # Without this, a device that falls silent after a burst would be shown with an old state for good.
        if is_state and len(inbound.message.payload) <= _MAX_DEFERRED_BYTES and len(self._deferred) < _MAX_DEFERRED:
            self._deferred[topic] = (device, inbound, may_be_urgent)
            self._wakeup.set()
        return False

    def charge(self, device: str, records: int) -> None:
        """Charge the records of an accepted message."""
        if records > RECORDS_PER_MESSAGE:
            self._rates[device].readings.level -= records // RECORDS_PER_MESSAGE

    def forget_device(self, device: str) -> None:
        """Discard the state of a removed device."""
        self._rates.pop(device, None)
        self._deferred = {topic: deferred for topic, deferred in self._deferred.items() if deferred[0] != device}

    async def run(self, handle: Callable[[InboundMessage], None]) -> None:
        """Handle deferred states when the rate allows, until cancelled; ``handle`` calls ``allows`` again."""
        while True:
            await self._wakeup.wait()
            await asyncio.sleep(_CHECK_SECONDS)
            if not self._deferred:
                self._wakeup.clear()
            for topic, (device, inbound, may_be_urgent) in tuple(self._deferred.items()):
                if topic in self._deferred and self._rates[device].would_allow(
                    self._now_fn(), may_be_urgent=may_be_urgent
                ):
                    del self._deferred[topic]
                    handle(inbound)
