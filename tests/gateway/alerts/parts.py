"""Gateway alerts on a real store and outbox, with Home Assistant simulated by the test."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from process_cosmos_gateway.alerts import Alerts
from process_cosmos_gateway.contract.alerts import (
    AlertState,
    Change,
    NotificationRequest,
    Notified,
    Propose,
    Replica,
    Severity,
    Transition,
    TransitionKind,
)
from process_cosmos_gateway.contract.cloud import InboxItem
from process_cosmos_gateway.contract.destinations import EventKind
from process_cosmos_gateway.contract.identifiers import NotificationKey, Position, Ulid
from process_cosmos_gateway.outbox import Delivered, DeliveryResult, Failed, Outbox
from process_cosmos_gateway.store import Store
from tests.gateway.store.parts import HandClock, new_ulids, opened

ULIDS = new_ulids()
LEAK = Ulid("01KAP3B0000000000000000001")
RUN = Ulid("01KAP3A0000000000000000001")


def key(
    level: int = 0, number: int = 0, *, revision: int = 1, to: str = "cloud", alert: Ulid = LEAK
) -> NotificationKey:
    """Return the key of a notification."""
    return NotificationKey(alert=alert, revision=revision, level=level, round=number, recipient=f"destination:{to}")


def request(notification: NotificationKey, due: float = 0.0, away: float | None = None) -> NotificationRequest:
    """Return a request due in ``due`` seconds, or ``away`` seconds while Home Assistant is away."""
    return NotificationRequest(
        key=notification, due_in=due, due_if_home_assistant_away_in=due if away is None else away
    )


def alert(**values: Any) -> Replica:  # noqa: ANN401
    """Return an open alert with ``values``."""
    whole: dict[str, Any] = {
        "id": LEAK,
        "group": "automation.leak",
        "state": AlertState.OPEN,
        "revision": 1,
        "answers_from": 1,
        "severity": Severity.CRITICAL,
        "message": "Water under the sink",
        "entities": ("binary_sensor.leak",),
        "answers": ("turn_on", "keep_off"),
        "count": 1,
        "until_in": 86400.0,
    }
    return Replica(**{**whole, **values})


def leak_opened(event: Ulid, requests: Sequence[NotificationRequest]) -> Transition:
    """Return the first transition of a record log; the same at every call."""
    change = Change(
        kind=TransitionKind.OPENED, alert=alert(), event=event, at=HandClock().now(), requests=tuple(requests)
    )
    return Transition(position=Position(run=RUN, n=1), changes=(change,))


@dataclass
class Gateway:
    """Gateway components, and the messages sent to Home Assistant."""

    store: Store
    outbox: Outbox
    alerts: Alerts
    clock: HandClock
    sent: list[Notified | Propose] = field(default_factory=list)
    records: int = 0

    async def opens_session(self, *, catches_up: bool = True, entry: str | None = None) -> None:
        """Begin a session; ``catches_up``: send ``caught_up`` at once."""
        self.sent.clear()
        self.alerts.session_opened(self.sent.append, entry)
        if catches_up:
            await self.alerts.caught_up()

    async def records_change(
        self,
        kind: TransitionKind,
        requests: Sequence[NotificationRequest] | None = None,
        *,
        proposal: str | None = None,
        **values: Any,  # noqa: ANN401
    ) -> Transition:
        """Send the next record of Home Assistant's log and return the transition."""
        change = Change(
            kind=kind,
            alert=alert(**values),
            event=ULIDS(),
            at=self.clock.now(),
            requests=None if requests is None else tuple(requests),
        )
        self.records += 1
        position = Position(run=RUN, n=self.records)
        transition = Transition(position=position, changes=(change,), proposal=proposal)
        await self.alerts.apply(transition)
        await self.alerts.process_due_requests()
        return transition

    async def passes(self, seconds: float, *, alive: bool = False) -> None:
        """Advance the clock; ``alive``: Home Assistant has just sent a frame."""
        self.clock.advance(seconds)
        if alive:
            self.alerts.heard_from_home_assistant()
        await self.alerts.process_due_requests()

    async def goes_away(self) -> None:
        """Close the session unannounced and wait until Home Assistant counts as away."""
        self.alerts.session_closed(announced=False)
        await self.passes(60)

    async def requested(self, destination: str = "cloud") -> list[tuple[int, int, int]]:
        """Return (revision, level, round) of the requests queued for ``destination``, held back or not."""
        question = "SELECT body FROM outbox_urgent WHERE only_for = ? ORDER BY sequence"
        rows = await self.store.read(lambda transaction: transaction.rows(question, destination))
        data = [orjson.loads(body)["data"] for (body,) in rows]
        return [(each["revision"], each["level"], each["round"]) for each in data]

    async def types(self, destination: str = "cloud") -> list[str]:
        """Return the type words of all events waiting for ``destination``."""
        return [delivery.type.split(".")[2] for delivery in await self.outbox.deliveries(destination, 500)]

    async def answers(self, result: DeliveryResult, destination: str = "cloud") -> int:
        """Settle all events waiting for ``destination`` with ``result``; return their number."""
        deliveries = await self.outbox.deliveries(destination, 500)
        await self.outbox.settle(destination, [(delivery, result) for delivery in deliveries])
        await self.alerts.process_due_requests()
        return len(deliveries)

    async def delivers(self, destination: str = "cloud") -> int:
        """Settle all events waiting for ``destination`` as delivered; return their number."""
        return await self.answers(Delivered(), destination)

    async def fails(self, destination: str = "cloud") -> int:
        """Settle all events waiting for ``destination`` as failed; return their number."""
        return await self.answers(Failed("HTTP 500"), destination)

    async def proposes(self, **values: Any) -> str:  # noqa: ANN401
        """Store an inbox item of the cloud endpoint; return the proposal's id."""
        whole = {"id": "item", "cursor": 1, "alert": LEAK, "by": "Eve", "age": 0.0, **values}
        item = InboxItem(**whole)
        await self.store.write(lambda transaction: self.alerts.add_proposals(transaction, [item], "cloud"))
        await self.alerts.process_due_requests()
        return f"cloud/{item.id}"

    def outcomes(self) -> dict[NotificationKey, bool]:
        """Return the notification outcomes sent to Home Assistant, by key."""
        return {message.key: message.reached for message in self.sent if isinstance(message, Notified)}

    def proposed(self) -> list[str]:
        """Return the ids of the proposals sent to Home Assistant."""
        return [message.id for message in self.sent if isinstance(message, Propose)]


@asynccontextmanager
async def gateway(
    folder: Path, clock: HandClock, destinations: Sequence[str] = ("cloud",), records: int = 0
) -> AsyncIterator[Gateway]:
    """Start a gateway in ``folder``; ``records``: the number of transitions already applied there."""
    async with opened(folder) as store:
        outbox = Outbox(store, clock)
        alerts = await Alerts.open(store, outbox, clock)
        for name in destinations:
            await outbox.register(name, (EventKind.ALERT,))
        yield Gateway(store, outbox, alerts, clock, records=records)
