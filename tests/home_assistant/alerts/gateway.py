"""Fake gateway: the gateway side of a session in docs/alert-protocol.md, with a replica of the alerts."""

from dataclasses import dataclass, field

from custom_components.process_cosmos.contract.alerts import (
    AlertSummary,
    CaughtUp,
    NotificationRequest,
    Notified,
    Propose,
    Replica,
    Transition,
    TransitionKind,
)
from custom_components.process_cosmos.contract.codec import decode, encode
from custom_components.process_cosmos.contract.identifiers import NotificationKey, Position, Ulid
from custom_components.process_cosmos.contract.messages import FROM_HOME_ASSISTANT, FromHomeAssistant
from custom_components.process_cosmos.contract.session import Committed, GatewayHello, Heartbeat, Result
from tests.home_assistant.alerts.site import Site

GATEWAY = Ulid("01JD000000000000000000000G")


@dataclass
class Gateway:
    """Gateway that applies each transition after its cursor once; ``log``: the kinds of all changes in order."""

    site: Site
    cursor: Position | None = None
    replica: dict[Ulid, Replica] = field(default_factory=dict)
    positions: dict[Ulid, Position] = field(default_factory=dict)
    requests: dict[Ulid, tuple[NotificationRequest, ...]] = field(default_factory=dict)
    log: list[TransitionKind] = field(default_factory=list)
    events: list[Ulid] = field(default_factory=list)
    settled: dict[str, str | None] = field(default_factory=dict)
    results: list[Result] = field(default_factory=list)
    caught_up: bool = False
    entry: str | None = None

    async def connect(self) -> None:
        self.caught_up = False
        summaries = tuple(
            AlertSummary(
                alert=one.id,
                revision=one.revision,
                answers_from=one.answers_from,
                state=one.state,
                position=self.positions[one.id],
                group=one.group,
                severity=one.severity,
                message=one.message,
                entities=one.entities,
            )
            for one in self.replica.values()
        )
        hello = GatewayHello(
            schema=1,
            min_schema=1,
            version="0",
            site=GATEWAY,
            epoch=GATEWAY,
            cursor=self.cursor,
            summaries=summaries,
            entry=self.entry,
        )
        await self.site.alerts.gateway_sync.async_session_opened(hello, self.receive)
        await self.site.settle()

    def disconnect(self) -> None:
        self.site.alerts.gateway_sync.async_session_closed()

    async def receive(self, message: FromHomeAssistant) -> None:
        match decode(encode(message), FROM_HOME_ASSISTANT):
            case Transition() as transition:
                self.apply(transition)
            case CaughtUp():
                self.caught_up = True
            case Result() as result:
                self.results.append(result)

    def apply(self, transition: Transition) -> None:
        if self.cursor is not None and transition.position <= self.cursor:
            return
        self.cursor = transition.position
        if transition.proposal:
            self.settled[transition.proposal] = transition.code
        for change in transition.changes:
            self.log.append(change.kind)
            self.events.append(change.event)
            if (known := self.replica.get(change.alert.id)) and not known.state.alive:
                assert not change.alert.state.alive, "a closed alert was reopened"
            self.replica[change.alert.id] = change.alert
            self.positions[change.alert.id] = transition.position
            if change.requests is not None:
                self.requests[change.alert.id] = change.requests

    async def send_committed(self) -> None:
        """Confirm all transitions up to the current cursor; send a heartbeat if there are none."""
        message = Committed(position=self.cursor) if self.cursor else Heartbeat()
        await self.site.alerts.gateway_sync.async_receive(message)
        await self.site.settle()

    async def report_outcome(self, key: NotificationKey, *, reached: bool, age: float = 0.0) -> None:
        await self.site.alerts.gateway_sync.async_receive(Notified(key=key, reached=reached, age=age))
        await self.site.settle()

    async def propose(
        self, alert: str, answer: str | None, *, revision: int | None = 1, number: int = 1, age: float = 1.0
    ) -> None:
        proposal = Propose(
            id=f"proposal-{number}",
            alert=Ulid(alert),
            revision=revision,
            answer=answer,
            age=age,
            by="the control room",
            acknowledge_for=None if answer else 600.0,
        )
        await self.site.alerts.gateway_sync.async_receive(proposal)
        await self.site.settle()
