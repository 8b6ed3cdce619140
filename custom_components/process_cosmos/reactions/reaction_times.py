"""Reaction times: from a device's message until an automation made from one of our blueprints acts on it."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile
from math import ceil
from time import monotonic
from typing import Any

from homeassistant.components.automation import EVENT_AUTOMATION_TRIGGERED
from homeassistant.const import EVENT_CALL_SERVICE
from homeassistant.core import CALLBACK_TYPE, Event, HomeAssistant, callback
from homeassistant.util.hass_dict import HassKey

from custom_components.process_cosmos.const import DOMAIN
from custom_components.process_cosmos.contract.devices import EventHappened, ValueChanged
from custom_components.process_cosmos.contract.session import Heartbeat
from custom_components.process_cosmos.workflows.workflows import async_workflow_automations

from .garbage_collection import FULL_COLLECTIONS
from .link_delay import LinkDelay

LONGEST = 10.0
"""Seconds from a message's arrival after which the first action is no reaction, because the workflow waits on purpose.

A message that the gateway kept for longer, because Home Assistant was not connected, is not measured either.
"""

_DAY = 86_400.0
_MOST = 1000
"""Number of newest reactions kept for each automation."""

type _Kept = dict[str, deque[Reaction]]
"""Reactions by the unique id of the automation."""

_REACTIONS: HassKey[dict[str, _Kept]] = HassKey(f"{DOMAIN}_reactions")
"""By config entry, so that they outlast its reload."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reaction:
    """Seconds from a device's message to the first action of an automation, by what took them.

    ``gateway``: from when it handled the message until it was sent, also without a session. ``link``: until Home
    Assistant read it, beyond the shortest delay of the last minutes. ``home_assistant``: until the action, without
    ``garbage_collection``, which is subtracted from ``link`` too. ``at``: when, on the monotonic clock.
    """

    at: float
    gateway: float
    link: float
    home_assistant: float
    garbage_collection: float

    @property
    def seconds(self) -> float:
        """The whole reaction time."""
        return self.gateway + self.link + self.home_assistant + self.garbage_collection


PARTS = ("gateway", "link", "home_assistant", "garbage_collection")
"""The fields of a reaction that together are its time."""


@dataclass(frozen=True, slots=True)
class ReactionSummary:
    """The newest 1,000 reactions of one automation in the last 24 hours, against a ``budget`` in seconds."""

    reactions: Sequence[Reaction]
    budget: float

    def percentile(self, percent: int) -> float | None:
        """Return the nearest-rank percentile of the reaction times in seconds; None without reactions."""
        ordered = sorted(each.seconds for each in self.reactions)
        return ordered[ceil(len(ordered) * percent / 100) - 1] if ordered else None

    @property
    def slow(self) -> Sequence[Reaction]:
        """The reactions that took longer than the budget."""
        return [each for each in self.reactions if each.seconds > self.budget]


@dataclass(frozen=True, slots=True)
class _Arrival:
    """A device's message: seconds in the gateway and on the link, and when it ``arrived`` (monotonic)."""

    gateway: float
    link: float
    arrived: float


class ReactionTimes:
    """Measures the reactions to the devices of one site.

    An automation whose trigger has no delay is started while the state is written, and its context names the run in
    all its actions. So everything that starts inside ``caused_by`` belongs to the message. A run that first has to end
    another one (``mode: restart``) starts later and is not measured.
    """

    def __init__(self, hass: HomeAssistant, entry_id: str, budget: float) -> None:
        """Measure against ``budget`` seconds; ``async_start`` begins."""
        self.budget = budget
        self.automations: Mapping[str, str] = {}
        """Names of the automations made from our blueprints, by unique id."""
        self._hass = hass
        self._link_delay = LinkDelay()
        self._arrival: _Arrival | None = None
        self._runs: dict[str, tuple[str, _Arrival]] = {}
        """By the context id of a run without an action so far, in order of time: automation and message."""
        self._reactions = hass.data.setdefault(_REACTIONS, {}).setdefault(entry_id, {})

    @callback
    def async_start(self) -> CALLBACK_TYPE:
        """Watch automations and their actions; return a function that ends it."""
        removers = (
            self._hass.bus.async_listen(EVENT_AUTOMATION_TRIGGERED, self._triggered),
            self._hass.bus.async_listen(EVENT_CALL_SERVICE, self._acted),
        )

        def stop() -> None:
            for remove in removers:
                remove()

        return stop

    @callback
    def automations_changed(self) -> None:
        """Find the automations made from our blueprints."""
        self.automations = async_workflow_automations(self._hass)

    def session_opened(self) -> None:
        """Forget the clock of the gateway, which may have been started anew."""
        self._link_delay = LinkDelay()

    def note(self, heartbeat: Heartbeat) -> None:
        """Compare the clocks, because messages of devices may be rare."""
        if heartbeat.sent is not None:
            self._link_delay.measure(heartbeat.sent, monotonic())

    @contextmanager
    def caused_by(self, change: object) -> Iterator[None]:
        """Attribute the automations that start inside the block to ``change``, if it is a message of a device."""
        if isinstance(change, ValueChanged | EventHappened) and change.sent is not None:
            arrived = monotonic()
            waited = 0.0 if change.received is None else change.sent - change.received
            delay = self._link_delay.measure(change.sent, arrived)
            if waited <= LONGEST:
                self._arrival = _Arrival(waited, delay, arrived)
        try:
            yield
        finally:
            self._arrival = None

    def summary(self, automation: str) -> ReactionSummary:
        """Return the reactions of the automation with this unique id in the last 24 hours."""
        since = monotonic() - _DAY
        kept = self._reactions.get(automation, ())
        return ReactionSummary([each for each in kept if each.at > since], self.budget)

    @callback
    def _triggered(self, event: Event[Mapping[str, Any]]) -> None:
        automation = str(event.data.get("item_id"))
        if self._arrival is None or automation not in self.automations:
            return
        # Runs that did nothing, or wait; the oldest come first.
        since = self._arrival.arrived - LONGEST
        for context in [*takewhile(lambda run: self._runs[run][1].arrived < since, self._runs)]:
            del self._runs[context]
        self._runs[event.context.id] = (automation, self._arrival)

    @callback
    def _acted(self, event: Event[Mapping[str, Any]]) -> None:
        if run := self._runs.pop(event.context.id, None):
            automation, arrival = run
            now = monotonic()
            if now - arrival.arrived <= LONGEST:
                self._reactions.setdefault(automation, deque(maxlen=_MOST)).append(self._reaction(arrival, now))

    def _reaction(self, arrival: _Arrival, now: float) -> Reaction:
        collections = self._hass.data[FULL_COLLECTIONS]
        # A message that arrives during a collection is read after it.
        on_the_way = collections.seconds_between(arrival.arrived - arrival.link, arrival.arrived)
        afterwards = collections.seconds_between(arrival.arrived, now)
        return Reaction(
            at=now,
            gateway=arrival.gateway,
            link=arrival.link - on_the_way,
            home_assistant=now - arrival.arrived - afterwards,
            garbage_collection=on_the_way + afterwards,
        )
