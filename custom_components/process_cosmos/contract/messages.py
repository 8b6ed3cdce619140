"""Tables of the messages that each side may send; ``decode`` refuses all others."""

from collections.abc import Mapping

from .alerts import CaughtUp, Notified, Propose, Transition
from .destinations import (
    ApproveReply,
    ChangeDestination,
    DestinationTested,
    DiscardRejected,
    ListRejected,
    RejectedEvents,
    RemoveDestination,
    SendAgain,
    SetCloud,
    SetWebhook,
    Status,
    TestDestination,
)
from .devices import (
    AvailabilityChanged,
    DeviceChanged,
    DeviceRemoved,
    EventHappened,
    MissedChangesReport,
    Snapshot,
    Subscribe,
    ValueChanged,
    WriteProperty,
)
from .session import Committed, GatewayHello, Heartbeat, HomeAssistantHello, Refused, Result, Stopping

type DestinationRequest = (
    SetWebhook
    | SetCloud
    | ChangeDestination
    | TestDestination
    | ApproveReply
    | RemoveDestination
    | ListRejected
    | SendAgain
    | DiscardRejected
)
type Request = Subscribe | WriteProperty | DestinationRequest
type FromHomeAssistant = HomeAssistantHello | Heartbeat | Stopping | Transition | CaughtUp | Result | Request
type DeviceChange = DeviceChanged | DeviceRemoved | ValueChanged | AvailabilityChanged | EventHappened
type FromGateway = (
    GatewayHello
    | Refused
    | Heartbeat
    | Committed
    | Notified
    | Propose
    | Result
    | Snapshot
    | MissedChangesReport
    | DeviceChange
    | Status
    | RejectedEvents
    | DestinationTested
)

FROM_HOME_ASSISTANT: Mapping[str, type[FromHomeAssistant]] = {
    message.type: message
    for message in (
        HomeAssistantHello,
        Heartbeat,
        Stopping,
        Transition,
        CaughtUp,
        Result,
        Subscribe,
        WriteProperty,
        SetWebhook,
        SetCloud,
        ChangeDestination,
        TestDestination,
        ApproveReply,
        RemoveDestination,
        ListRejected,
        SendAgain,
        DiscardRejected,
    )
}
"""Messages Home Assistant may send, by ``type``."""

FROM_GATEWAY: Mapping[str, type[FromGateway]] = {
    message.type: message
    for message in (
        GatewayHello,
        Refused,
        Heartbeat,
        Committed,
        Notified,
        Propose,
        Result,
        Snapshot,
        MissedChangesReport,
        DeviceChanged,
        DeviceRemoved,
        ValueChanged,
        AvailabilityChanged,
        EventHappened,
        Status,
        RejectedEvents,
        DestinationTested,
    )
}
"""Messages the gateway may send, by ``type``."""
