"""Messages that open, maintain and close a session between Home Assistant and the gateway."""

from dataclasses import dataclass
from typing import ClassVar

from .alerts import AlertSummary
from .identifiers import Position, Ulid


@dataclass(frozen=True, slots=True, kw_only=True)
class Versions:
    """The members of a hello that are read first: they never change, so that any two versions can name each other."""

    schema: int
    min_schema: int
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HomeAssistantHello:
    """Home Assistant → gateway: the first frame of a session. Answered by ``GatewayHello`` or ``Refused``.

    ``instance``: id of the Home Assistant instance; a gateway serves one. ``run``: the run of the integration's record
    log. ``entry``: id of the config entry that owns the log, which a restored backup preserves and a new set-up does
    not; None: the caller only makes requests.
    """

    type: ClassVar[str] = "home_assistant_hello"
    schema: int
    min_schema: int
    version: str
    instance: str
    run: Ulid
    entry: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayHello:
    """Gateway → Home Assistant: the position applied so far, and summaries of the alerts in its replica.

    ``cursor``: None before the first transition. ``epoch``: changes when the store is created or restored from a
    backup. ``entry``: the config entry that ``cursor`` and ``summaries`` belong to; None: unknown.
    """

    type: ClassVar[str] = "gateway_hello"
    schema: int
    min_schema: int
    version: str
    site: Ulid
    epoch: Ulid
    cursor: Position | None
    summaries: tuple[AlertSummary, ...]
    entry: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Refusal that ends the session: a ``code`` (``errors.Code``) and a sentence. The sender then closes."""

    type: ClassVar[str] = "refused"
    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """Sign of life, sent in both directions every ``HEARTBEAT_EVERY``.

    From Home Assistant, ``sequence``: changes up to this number, and the ``MissedChangesReport``, have been processed.
    Such a change is confirmed within a second. From the gateway, ``sent``: as in ``ValueChanged``.
    """

    type: ClassVar[str] = "heartbeat"
    # Not raised before people are notified of the missed changes; otherwise a crash would lose the report.
    sequence: int | None = None
    sent: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """Gateway → Home Assistant: transitions up to ``position`` are stored and survive a power failure."""

    type: ClassVar[str] = "committed"
    position: Position


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopping:
    """Home Assistant → gateway: Home Assistant is stopping, and counts as away only after 5 minutes instead of one."""

    type: ClassVar[str] = "stopping"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Reason for refusing a request: a stable code, and a sentence for people, without secrets."""

    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Reply to the request with this ``id``, in either direction; ``problem`` is None if it succeeded."""

    type: ClassVar[str] = "result"
    id: str
    problem: Problem | None = None
