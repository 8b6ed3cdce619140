"""What one call of ``alert`` asks for, and what it returns."""

from collections.abc import Callable
from dataclasses import dataclass, field

from custom_components.process_cosmos.contract.alerts import AlertState
from custom_components.process_cosmos.contract.identifiers import Ulid

from .model import Alert
from .records import Content


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertRequest:
    """One call of the action. ``group`` None: nobody else's, always a new alert.

    ``given``: the fields that the call names. ``allowed``: whether the caller may answer the open alert of the group.
    """

    content: Content
    group: str | None = None
    given: frozenset[str] = frozenset()
    allowed: Callable[[Alert], bool] = field(default=lambda _: True)


@dataclass(frozen=True, slots=True, kw_only=True)
class RaisedAlert:
    """What the action returns: it is on disk. ``new``: opened by this call.

    ``ignored``: fields of the call that need the right to answer the open alert of its group.
    """

    id: Ulid
    state: AlertState
    new: bool
    revision: int
    ignored: tuple[str, ...] = ()
