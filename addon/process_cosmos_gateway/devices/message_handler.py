"""Handling of one MQTT message: notify Home Assistant at once, and return what to store."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from process_cosmos_gateway.clock import Clock
from process_cosmos_gateway.contract.destinations import EventKind, Priority
from process_cosmos_gateway.contract.devices import (
    AvailabilityChanged,
    EventHappened,
    Property,
    PropertyKind,
    ValueChanged,
)
from process_cosmos_gateway.contract.events import event_type
from process_cosmos_gateway.contract.identifiers import Ulid
from process_cosmos_gateway.contract.messages import DeviceChange
from process_cosmos_gateway.outbox import Event, Outbox, device_key
from process_cosmos_gateway.store import Transaction

from . import repository
from .message_writer import Change, MessageChanges
from .readings import readings
from .readings.downsampling import Point
from .readings.forwarding import Forwarding
from .readings.pending_readings import Series
from .readings.readings import READING_DAYS
from .things.description import DescriptionError
from .things.description_intake import DescriptionIntake
from .things.device_table import DeviceTable, Role, Route
from .things.property_writes import PropertyWrites
from .things.rate_limiter import InboundMessage, RateLimiter
from .things.twin import Twin, inverted, is_transition, newest_reading
from .things.values import GarbageError, Reading, event_value, parse_json, parse_readings

_LOGGER = logging.getLogger(__name__)

DEVICE_CHANGED = event_type("device", "changed")
DEVICE_EVENT = event_type("device", "event")

_AVAILABILITY = {b"online": True, b'"online"': True, b"offline": False, b'"offline"': False}
_MAX_CLOCK_AHEAD = 300.0
_MAX_LOGGED_TOPICS = 1000
_MAX_TOPIC_CHARACTERS = 256


@dataclass(kw_only=True, eq=False)
class MessageHandler:
    """Dispatcher of messages by topic. Invalid ones are counted, logged without their content, and ignored.

    ``notify`` gets every change, before it is stored.
    """

    device_table: DeviceTable
    descriptions: DescriptionIntake
    rate_limiter: RateLimiter
    outbox: Outbox
    writes: PropertyWrites
    clock: Clock
    ulid_fn: Callable[[], Ulid]
    forwarding: Forwarding
    counts: Counter[str]
    notify: Callable[[DeviceChange], None]
    _logged_topics: dict[str, None] = field(init=False, default_factory=dict)
    _last_received: float = field(init=False, default=0.0)

    def handle(self, inbound: InboundMessage) -> MessageChanges:
        """Notify Home Assistant of a message's changes, and return those to store."""
        message = inbound.message
        topic = message.topic
        if topic is None:
            self.log_ignored("?", "the topic is not valid UTF-8")
            return MessageChanges()
        if message.oversized:
            self.counts["oversized"] += 1
            self.log_ignored(topic, f"oversized: the message has {message.oversized} bytes")
            return MessageChanges()
        route = self.device_table.routes.get(topic)
        try:
            if route is None:
                return MessageChanges(self.descriptions.handle_message(topic, message.payload))
            if not self._is_within_rate(route, inbound):
                return MessageChanges()
            result = self._handle_device_message(route, inbound)
        except DescriptionError as error:
            self.counts[error.code] += 1
            self.log_ignored(topic, f"{error.code}: {error}")
        except GarbageError as error:
            self.counts["garbage"] += 1
            self.log_ignored(topic, f"garbage: {error}")
        else:
            self._logged_topics.pop(topic[:_MAX_TOPIC_CHARACTERS], None)
            return result
        return MessageChanges()

    def log_ignored(self, topic: str, reason: str) -> None:
        """Log once that a topic's messages are ignored; once more after one of them was accepted.

        At most ``_MAX_LOGGED_TOPICS`` topics are remembered; the oldest is dropped and may be logged again. The logging
        rate is limited elsewhere.
        """
        topic = topic[:_MAX_TOPIC_CHARACTERS]
        if topic in self._logged_topics:
            return
        if len(self._logged_topics) >= _MAX_LOGGED_TOPICS:
            del self._logged_topics[next(iter(self._logged_topics))]
        self._logged_topics[topic] = None
        _LOGGER.warning("Ignored a message on %s: %s", topic, reason)

    def _is_within_rate(self, route: Route, inbound: InboundMessage) -> bool:
        is_state = route.role is not Role.EVENT
        return self.rate_limiter.allows(
            route.device,
            inbound,
            may_be_urgent=route.role is not Role.PROPERTY or route.is_boolean,
            is_state=is_state,
        )

    # Values, device events, availability

    def _handle_device_message(self, route: Route, inbound: InboundMessage) -> MessageChanges:
        twin = self.device_table.twins[route.device]
        match route.role:
            case Role.PROPERTY:
                return self._handle_value(twin, route.name, inbound)
            case Role.EVENT:
                return MessageChanges([] if inbound.message.retained else self._handle_event(twin, route.name, inbound))
            case Role.AVAILABILITY:
                return MessageChanges(self._handle_availability(twin, inbound))

    def _handle_value(self, twin: Twin, name: str, inbound: InboundMessage) -> MessageChanges:
        message = inbound.message
        if not message.payload:
            return MessageChanges()  # the retained value was deleted; the last reading stays current
        described = next(each for each in twin.thing.device.properties if each.name == name)
        received_at = self._receipt_time()
        parsed = parse_readings(described.kind, message.payload, received_at)
        self.rate_limiter.charge(twin.id, len(parsed))
        if name in twin.thing.inverted:
            parsed = inverted(parsed)
        self.counts["clock_skewed"] += sum(reading.time > received_at + _MAX_CLOCK_AHEAD for reading in parsed)
        before = twin.latest.get(name)
        after = newest_reading(before, parsed, received_at)
        changes: list[Change] = []
        if before is None or after != before:
            self.device_table.twins[twin.id] = replace(twin, latest={**twin.latest, name: after})
            changes.append(partial(repository.store_value, device=twin.id, name=name, reading=after))
        # Home Assistant does not wait for the disk. If the gateway is killed before the commit, the broker sends the
        # message again, and the key is the same then.
        if before is None or after.value != before.value:
            self.notify(
                ValueChanged(
                    sequence=0,
                    device=twin.id,
                    property=name,
                    value=after.value,
                    age=max(0.0, received_at - after.time),
                    key=inbound.key,
                    redelivered=message.redelivered,
                )
            )
        # A retained value that is the first one known was current before: it sets the state, and is no edge.
        if is_transition(described.kind, before, after) and (before is not None or not message.retained):
            changes.append(self._changed_event(twin, inbound, received_at, {"property": name, "value": after.value}))
        if not message.retained:
            changes.append(self._store_readings(twin, described, parsed, received_at))
        # A reading from a backlog does not tell the current state, so only the newest one can confirm a write.
        confirmed = self.writes.note_reported(twin.id, name, after.value) if after is not before else None
        if confirmed:
            changes.append(confirmed)
        # Only readings may be acknowledged before their commit. The loss of a confirmation would repeat the command.
        is_reading = described.kind is PropertyKind.NUMBER and not message.retained and not confirmed
        return MessageChanges(changes, is_reading)

    def _handle_event(self, twin: Twin, name: str, inbound: InboundMessage) -> list[Change]:
        message = inbound.message
        value = event_value(parse_json(message.payload)) if message.payload else None
        received_at = self._receipt_time()
        self.notify(
            EventHappened(
                sequence=0,
                device=twin.id,
                event=name,
                age=0.0,
                value=value,
                key=inbound.key,
                redelivered=message.redelivered,
                possible_repeat=inbound.possible_repeat,
            )
        )
        event = self._event(DEVICE_EVENT, twin, inbound, received_at, {"event": name, "value": value})
        return [partial(self.outbox.add, event=event)]

    def _handle_availability(self, twin: Twin, inbound: InboundMessage) -> list[Change]:
        payload = inbound.message.payload
        if not payload:
            return []
        online = _AVAILABILITY.get(payload)
        if online is None:
            raise GarbageError("the availability is neither online nor offline")
        if online is twin.online:
            return []
        self.device_table.twins[twin.id] = Twin(thing=twin.thing, online=online, latest=twin.latest)
        self.notify(AvailabilityChanged(sequence=0, device=twin.id, online=online))
        changes: list[Change] = [partial(repository.store_availability, device=twin.id, online=online)]
        if twin.online is not None or not online:
            changes.append(self._changed_event(twin, inbound, self._receipt_time(), {"online": online}))
        return changes

    # Events and readings for destinations

    def _changed_event(self, twin: Twin, inbound: InboundMessage, received_at: float, data: dict[str, Any]) -> Change:
        return partial(self.outbox.add, event=self._event(DEVICE_CHANGED, twin, inbound, received_at, data))

    def _event(self, kind: str, twin: Twin, inbound: InboundMessage, received_at: float, data: dict[str, Any]) -> Event:
        doubt = {"possible_repeat": True} if inbound.possible_repeat else {}
        return Event(
            id=self.ulid_fn(),
            type=kind,
            kind=EventKind.DEVICE,
            priority=Priority.CHANGE,
            subject=twin.id,
            key=device_key(twin.id),
            time=datetime.fromtimestamp(received_at, UTC),
            data={"device": twin.id, "title": twin.thing.device.title, **data, **doubt},
            is_own=True,
        )

    def _store_readings(
        self, twin: Twin, described: Property, new_readings: Sequence[Reading], received_at: float
    ) -> Change:
        """Store raw readings, and forward those of a number that are new, however old they are."""
        series = Series(device=twin.id, name=described.name, unit=described.unit)
        old = received_at - READING_DAYS * 86_400

        def change(transaction: Transaction) -> None:
            fresh = readings.store_readings(transaction, twin.id, described.name, new_readings, received_at)
            too_old = sum(each.time < old for each in fresh)
            if too_old:
                transaction.after_commit(lambda: self.counts.update(too_old=too_old))
            if fresh and described.kind is PropertyKind.NUMBER:
                points = [Point(each.time, float(each.value)) for each in fresh]
                self.forwarding.add(transaction, series, points, received_at)

        return change

    def _receipt_time(self) -> float:
        """Return the time of receipt, never the same twice, so that two readings stay distinct."""
        self._last_received = max(self.clock.now().timestamp(), self._last_received + 1e-6)
        return self._last_received
