"""Tables of the messages that each side may send; ``decode`` refuses all others."""

from collections.abc import Mapping
from typing import Any, TypeAliasType, get_args

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


def _by_type[M](messages: Any) -> Mapping[str, type[M]]:  # noqa: ANN401 - an alias of a union
    """Return the classes of a union, also of those within it, by ``type``."""
    found: dict[str, type[M]] = {}
    for each in get_args(messages.__value__):
        found |= _by_type(each) if isinstance(each, TypeAliasType) else {each.type: each}
    return found


FROM_HOME_ASSISTANT: Mapping[str, type[FromHomeAssistant]] = _by_type(FromHomeAssistant)
"""Messages Home Assistant may send, by ``type``."""

FROM_GATEWAY: Mapping[str, type[FromGateway]] = _by_type(FromGateway)
"""Messages the gateway may send, by ``type``."""
