"""Messages that open, keep and close a session between Home Assistant and the gateway."""

from dataclasses import dataclass
from typing import ClassVar

from .alerts import AlertSummary
from .identifiers import Position, Ulid

SCHEMA = 1
"""The schema this code speaks; ``wire/CHANGELOG.md`` has what each one changed."""

MIN_SCHEMA = 1
"""The oldest schema this code still understands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HomeAssistantHello:
    """Home Assistant → gateway, the first frame: who calls. Answered by ``GatewayHello`` or ``Refused``.

    ``instance``: the id of the Home Assistant; a gateway serves one. ``run``: the run of the integration's memory.
    ``entry``: the id of the config entry whose memory it is, which a backup keeps and a site that is set up anew does
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
    """Gateway → Home Assistant: the position it has applied, and what its replica of the alerts says.

    ``cursor``: None before the first transition. ``epoch``: new when the store is new or came out of a backup.
    ``entry``: the config entry that ``cursor`` and ``summaries`` come from; None: not known.
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
    """The session is not to be: ``code`` (``errors.Code``) and a sentence. The sender closes after it."""

    type: ClassVar[str] = "refused"
    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """Either way, at least once a second: the sender lives. From the gateway also: ``position`` is on its disk.

    From Home Assistant also: everything up to change number ``sequence`` was processed, ``MissedChangesReport`` included.
    """

    type: ClassVar[str] = "receipt"
    position: Position | None = None
    sequence: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopping:
    """Home Assistant → gateway: this stop is announced; Home Assistant counts as away only after 5 minutes."""

    type: ClassVar[str] = "stopping"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Why a request was refused: a stable code, and a sentence for a person, without secrets."""

    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The reply to the request with this ``id``, either way: ``problem`` is None when it was done."""

    type: ClassVar[str] = "result"
    id: str
    problem: Problem | None = None
