"""Request and response of the ``alert`` action."""

from collections.abc import Callable
from dataclasses import dataclass, field

from custom_components.process_cosmos.contract.alerts import AlertState
from custom_components.process_cosmos.contract.identifiers import Ulid

from .model import Alert
from .records import Content


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertRequest:
    """One call of the action. ``group`` None: the call always opens a new alert, with its id as the group.

    ``given``: names of the fields in the call. ``allowed``: whether the caller may answer the open alert of the group.
    """

    content: Content
    group: str | None = None
    given: frozenset[str] = frozenset()
    allowed: Callable[[Alert], bool] = field(default=lambda _: True)


@dataclass(frozen=True, slots=True, kw_only=True)
class RaisedAlert:
    """Response of the action, sent once the alert is on disk. ``new``: this call opened the alert.

    ``ignored``: fields of the call that only callers who may answer the group's open alert can change.
    """

    id: Ulid
    state: AlertState
    new: bool
    revision: int
    ignored: tuple[str, ...] = ()
