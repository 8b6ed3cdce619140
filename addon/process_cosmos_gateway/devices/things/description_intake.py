"""Acceptance of Thing Descriptions: new devices at a limited rate, with bounded memory and parsing time."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice

from process_cosmos_gateway.contract.devices import DeviceChanged, DeviceRemoved
from process_cosmos_gateway.contract.errors import Code
from process_cosmos_gateway.contract.messages import DeviceChange
from process_cosmos_gateway.devices import repository
from process_cosmos_gateway.devices.message_writer import Change
from process_cosmos_gateway.devices.mqtt.connection import matches

from .description import DescriptionError, check_plausible, is_meant_as_description, parse_description
from .device_table import DeviceTable
from .rates import SlidingWindow, TokenBucket
from .twin import Twin, as_device, polarity_changes

_LOGGER = logging.getLogger(__name__)

NEW_A_MINUTE = 10
"""New devices accepted within any minute: anyone may publish them, and each adds entities to Home Assistant."""

CHANGES_A_MINUTE = 60
_READ_BYTES_A_SECOND = 512 * 1024.0
_READ_BYTES_AT_ONCE = 4_000_000.0
"""Parsing needs about 0.1 µs a byte, so a flood of descriptions uses a twentieth of the event loop."""
_MAX_QUEUED = 1000
_MAX_QUEUED_BYTES = 4_000_000
_MAX_LOGGED = 10
_CHECK_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class SubscriptionChange:
    """The twin whose topics to subscribe to, and the one whose topics to unsubscribe from."""

    added: Twin | None = None
    removed: Twin | None = None


class _DescriptionQueue:
    """Descriptions that arrived too fast: the newest of each topic, in order of first arrival."""

    def __init__(self, most_a_minute: int) -> None:
        self.window = SlidingWindow(most_a_minute)
        self.payloads: dict[str, bytes] = {}
        self.bytes = 0

    def put(self, topic: str, payload: bytes) -> bool:
        """Queue the newest description of ``topic``; return False, without effect, if the queue is full."""
        more = len(payload) - len(self.payloads.get(topic, b""))
        is_full = topic not in self.payloads and len(self.payloads) >= _MAX_QUEUED
        if is_full or self.bytes + more > _MAX_QUEUED_BYTES:
            return False
        self.payloads[topic] = payload
        self.bytes += more
        return True

    def pop(self, topic: str) -> bytes | None:
        payload = self.payloads.pop(topic, None)
        self.bytes -= len(payload or b"")
        return payload


@dataclass(kw_only=True, eq=False)
class DescriptionIntake:
    """Handler of messages on the topics of descriptions; ``run`` handles the queued ones.

    ``filters``: the topics subscribed for descriptions.
    """

    device_table: DeviceTable
    filters: Sequence[str]
    counts: Counter[str]
    new_a_minute: int
    notify: Callable[[DeviceChange], None]
    update_subscriptions: Callable[[SubscriptionChange], None]
    on_removed: Callable[[str], None]

    def __post_init__(self) -> None:
        """Begin without queued descriptions."""
        self._byte_budget = TokenBucket(rate=_READ_BYTES_A_SECOND, burst=_READ_BYTES_AT_ONCE)
        # Two queues, so that a change to a known device does not wait behind a flood of new ones.
        self._new = _DescriptionQueue(self.new_a_minute)
        self._changed = _DescriptionQueue(CHANGES_A_MINUTE)
        self._wakeup = asyncio.Event()

    def handle_message(self, topic: str, payload: bytes) -> list[Change]:
        """Return the changes to store for a message of no known device; raise ``DescriptionError``."""
        if not any(matches(each, topic) for each in self.filters):
            return []
        known = self.device_table.by_topic(topic)
        if not payload:
            self._discard_queued(topic)
            return [] if known is None else self._withdraw(known)
        # The broker sends each retained description again on every connection: most of them are known, and not parsed.
        if self.device_table.is_known(topic, payload):
            self._discard_queued(topic)
            return []
        if known is None and not is_meant_as_description(topic, payload):
            return []
        # Refuse what can be refused without parsing, so that it takes no place in the queue.
        check_plausible(payload)
        self.device_table.check_room(topic, len(payload))
        queue = self._new if known is None else self._changed
        # Behind queued ones it is queued too: otherwise one topic that floods could use up the pace for all others.
        if not queue.payloads and self._may_parse(queue, len(payload)):
            return self._apply(queue, topic, payload)
        if not queue.put(topic, payload):
            raise DescriptionError(Code.TOO_MANY_DEVICES, "Too many descriptions arrived at once")
        self._wakeup.set()
        return []

    async def run(
        self, write: Callable[[bytes, Sequence[Change]], None], log_ignored: Callable[[str, str], None]
    ) -> None:
        """Handle queued descriptions until cancelled.

        ``write`` gets a payload and the changes to store, ``log_ignored`` a topic and the reason why it is ignored.
        """
        while True:
            await self._wakeup.wait()
            await asyncio.sleep(_CHECK_SECONDS)
            for queue in (self._new, self._changed):
                topic = next(iter(queue.payloads), None)
                if topic is None or not self._may_parse(queue, len(queue.payloads[topic])):
                    continue
                payload = queue.pop(topic) or b""
                try:
                    self.device_table.check_room(topic, len(payload))
                    write(payload, self._apply(queue, topic, payload))
                except DescriptionError as error:
                    self.counts[error.code] += 1
                    log_ignored(topic, f"{error.code}: {error}")
            if not (self._new.payloads or self._changed.payloads):
                self._wakeup.clear()

    def _may_parse(self, queue: _DescriptionQueue, size: int) -> bool:
        now = asyncio.get_running_loop().time()
        return not queue.window.wait(now) and self._byte_budget.spend(size, now)

    def _discard_queued(self, topic: str) -> None:
        self._new.pop(topic)
        self._changed.pop(topic)

    def _apply(self, queue: _DescriptionQueue, topic: str, payload: bytes) -> list[Change]:
        known = self.device_table.by_topic(topic)
        thing = parse_description(topic, payload, self.filters)
        if known is not None and known.thing == thing:
            return []
        twin = self.device_table.add(thing, payload)
        queue.window.note(asyncio.get_running_loop().time())
        if thing.unusable:
            self.counts["forms_unusable"] += len(thing.unusable)
            reasons = "; ".join(f"{name}: {error}" for name, error in islice(thing.unusable.items(), _MAX_LOGGED))
            _LOGGER.warning(
                "forms_unusable: %s is used without these parts, which its description should correct: %s",
                twin.id,
                reasons,
            )
        self.update_subscriptions(SubscriptionChange(added=twin, removed=known))
        self.notify(DeviceChanged(sequence=0, device=as_device(twin, reachable=True)))
        # A value stored under the other polarity now means the opposite: delete it; the new subscription requests the
        # retained one again.
        reset = polarity_changes(known, thing) if known else frozenset()
        names = tuple(each.name for each in thing.device.properties if each.name not in reset)
        return [
            partial(repository.store_description, device=twin.id, topic=topic, description=payload, properties=names),
        ]

    def _withdraw(self, twin: Twin) -> list[Change]:
        self.device_table.remove(twin.id)
        self.on_removed(twin.id)
        self.update_subscriptions(SubscriptionChange(removed=twin))
        self.notify(DeviceRemoved(sequence=0, device=twin.id))
        return [partial(repository.withdraw_device, device=twin.id)]
