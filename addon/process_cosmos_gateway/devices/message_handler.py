"""Turns a message into what Home Assistant hears at once, and what is written for it."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
from .message_writer import Change
from .readings import readings
from .readings.downsampling import Point
from .readings.forwarding import Forwarding
from .readings.pending_readings import Series
from .readings.readings import READING_DAYS
from .things.description import DescriptionError
from .things.description_intake import Descriptions
from .things.device_table import DeviceTable, Role, Route
from .things.property_writes import Writes
from .things.rate_limiter import RateLimiter, Received
from .things.twin import Twin, inverted, is_transition, newest, with_reading
from .things.values import GarbageError, Reading, parse_json, parse_readings, simple

_LOGGER = logging.getLogger(__name__)

DEVICE_CHANGED = event_type("device", "changed")
DEVICE_EVENT = event_type("device", "event")

_AVAILABILITY = {b"online": True, b'"online"': True, b"offline": False, b'"offline"': False}
_SKEWED = 300.0
_MOST_COMPLAINTS = 1000
_LONGEST_TOPIC = 256


@dataclass(frozen=True, slots=True)
class News:
    """What is to be written for a message. ``is_reading``: nothing but a number's reading comes of it."""

    changes: Sequence[Change] = ()
    is_reading: bool = False


class Intake:
    """Reads messages. Garbage is counted, named in the log without its content, and otherwise passed over."""

    def __init__(
        self,
        *,
        device_table: DeviceTable,
        descriptions: Descriptions,
        throttle: RateLimiter,
        outbox: Outbox,
        writes: Writes,
        clock: Clock,
        ulid_fn: Callable[[], Ulid],
        forwarding: Forwarding,
        counts: Counter[str],
        tell: Callable[[DeviceChange], None],
    ) -> None:
        """Take the parts, and whom to ``tell`` of changes."""
        self._device_table = device_table
        self._descriptions = descriptions
        self._throttle = throttle
        self._outbox = outbox
        self._forwarding = forwarding
        self._writes = writes
        self._clock = clock
        self._ulid_fn = ulid_fn
        self._counts = counts
        self._tell = tell
        self._complained: dict[str, None] = {}
        self._last_received = 0.0

    def take(self, received: Received) -> News:
        """Tell who watches, and return what is to be written for a message."""
        message = received.message
        topic = message.topic
        if topic is None:
            self.complain("?", "a topic that is no UTF-8")
            return News()
        if message.oversized:
            self._counts["oversized"] += 1
            self.complain(topic, f"oversized: a message of {message.oversized} bytes")
            return News()
        route = self._device_table.routes.get(topic)
        try:
            if route is None:
                return News(self._descriptions.take(topic, message.payload))
            if not self._is_within_rate(route, received):
                return News()
            news = self._take_news(route, received)
        except DescriptionError as error:
            self._counts[error.code] += 1
            self.complain(topic, f"{error.code}: {error}")
        except GarbageError as error:
            self._counts["garbage"] += 1
            self.complain(topic, f"garbage: {error}")
        else:
            self._complained.pop(topic[:_LONGEST_TOPIC], None)
            return news
        return News()

    def complain(self, topic: str, why: str) -> None:
        """Name a topic whose message was passed over, once until a message of it is taken.

        Of more topics than are remembered the oldest may be named again; the log has a rate of its own.
        """
        topic = topic[:_LONGEST_TOPIC]
        if topic in self._complained:
            return
        if len(self._complained) >= _MOST_COMPLAINTS:
            del self._complained[next(iter(self._complained))]
        self._complained[topic] = None
        _LOGGER.warning("Passing over what came at %s: %s", topic, why)

    def _is_within_rate(self, route: Route, received: Received) -> bool:
        is_state = route.role is not Role.EVENT
        return self._throttle.admits(
            route.device,
            received,
            may_be_urgent=route.role is not Role.PROPERTY or route.is_boolean,
            is_state=is_state,
        )

    # Values, device events, availability

    def _take_news(self, route: Route, heard: Received) -> News:
        twin = self._device_table.twins[route.device]
        match route.role:
            case Role.PROPERTY:
                return self._take_value(twin, route.name, heard)
            case Role.EVENT:
                return News([] if heard.message.retained else self._take_event(twin, route.name, heard))
            case Role.AVAILABILITY:
                return News(self._take_availability(twin, heard))

    def _take_value(self, twin: Twin, name: str, heard: Received) -> News:
        message = heard.message
        if not message.payload:
            return News()  # a retained value taken back: the last one heard still counts
        described = next(each for each in twin.thing.device.properties if each.name == name)
        received = self._received()
        said = parse_readings(described.kind, message.payload, received)
        self._throttle.charge(twin.id, len(said))
        if name in twin.thing.inverted:
            said = inverted(said)
        self._counts["clock_skewed"] += sum(reading.time > received + _SKEWED for reading in said)
        before = twin.held.get(name)
        after = newest(before, said, received)
        changes: list[Change] = []
        if before is None or after != before:
            self._device_table.twins[twin.id] = with_reading(twin, name, after)
            changes.append(partial(repository.keep_held, device=twin.id, name=name, reading=after))
        if before is None or after.value != before.value:
            self._tell(
                ValueChanged(
                    sequence=0,
                    device=twin.id,
                    property=name,
                    value=after.value,
                    age=max(0.0, received - after.time),
                    key=heard.key,
                    redelivered=message.redelivered,
                )
            )
        if is_transition(described.kind, before, after) and (before is not None or not message.retained):
            changes.append(self._changed(twin, heard, received, {"property": name, "value": after.value}))
        if not message.retained:
            changes.append(self._keep_readings(twin, described, said, received))
        confirmed = self._writes.reported(twin.id, name, after.value) if after is not before else None
        if confirmed:
            changes.append(confirmed)
        is_reading = described.kind is PropertyKind.NUMBER and not message.retained and not confirmed
        return News(changes, is_reading)

    def _take_event(self, twin: Twin, name: str, heard: Received) -> list[Change]:
        message = heard.message
        value = simple(parse_json(message.payload)) if message.payload else None
        received = self._received()
        self._tell(
            EventHappened(
                sequence=0,
                device=twin.id,
                event=name,
                age=0.0,
                value=value,
                key=heard.key,
                redelivered=message.redelivered,
                possible_repeat=heard.possible_repeat,
            )
        )
        event = self._event(DEVICE_EVENT, twin, heard, received, {"event": name, "value": value})
        return [partial(self._outbox.add, event=event)]

    def _take_availability(self, twin: Twin, heard: Received) -> list[Change]:
        payload = heard.message.payload
        if not payload:
            return []
        online = _AVAILABILITY.get(payload)
        if online is None:
            raise GarbageError("neither online nor offline")
        if online is twin.online:
            return []
        self._device_table.twins[twin.id] = Twin(thing=twin.thing, online=online, held=twin.held)
        self._tell(AvailabilityChanged(sequence=0, device=twin.id, online=online))
        changes: list[Change] = [partial(repository.keep_online, device=twin.id, online=online)]
        if twin.online is not None or not online:
            changes.append(self._changed(twin, heard, self._received(), {"online": online}))
        return changes

    # What destinations get

    def _changed(self, twin: Twin, heard: Received, received: float, data: dict[str, Any]) -> Change:
        return partial(self._outbox.add, event=self._event(DEVICE_CHANGED, twin, heard, received, data))

    def _event(self, kind: str, twin: Twin, heard: Received, received: float, data: dict[str, Any]) -> Event:
        in_doubt = {"possible_repeat": True} if heard.possible_repeat else {}
        return Event(
            id=self._ulid_fn(),
            type=kind,
            kind=EventKind.DEVICE,
            priority=Priority.CHANGE,
            subject=twin.id,
            key=device_key(twin.id),
            time=_moment(received),
            data={"device": twin.id, "title": twin.thing.device.title, **data, **in_doubt},
            is_own=True,
        )

    def _keep_readings(self, twin: Twin, described: Property, those: Sequence[Reading], received: float) -> Change:
        """Keep raw readings; those of a number that are new go to destinations, however old they are."""
        series = Series(device=twin.id, name=described.name, unit=described.unit)
        old = received - READING_DAYS * 86_400

        def change(transaction: Transaction) -> None:
            fresh = readings.keep(transaction, twin.id, described.name, those, received)
            too_old = sum(each.time < old for each in fresh)
            if too_old:
                transaction.after_commit(lambda: self._counts.update(too_old=too_old))
            if fresh and described.kind is PropertyKind.NUMBER:
                points = [Point(each.time, float(each.value)) for each in fresh]
                self._forwarding.add(transaction, series, points, received)

        return change

    def _received(self) -> float:
        """Return the time of receipt; two messages never have the same one, so that their readings stay apart."""
        self._last_received = max(self._clock.now().timestamp(), self._last_received + 1e-6)
        return self._last_received


def _moment(time: float) -> datetime:
    return datetime.fromtimestamp(time, UTC)
