"""The definition of a fault: a sentence, and a function that injects it."""

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any

from .site import Site


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How often a fault is repeated: the quick scale keeps every kind of strike and repeats it less.

    ``soak``: minutes of the soak, if not the default. ``plots``: the folder for plots; None: none are drawn.
    """

    quick: bool
    soak: float | None = None
    plots: Path | None = None

    def of[T](self, quick: T, full: T) -> T:
        """Return the figure for this scale."""
        return quick if self.quick else full


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. ``own_site``: no other fault may use its site afterwards.

    ``disk``: SQLite's files pass through the failing disk. ``settings``: options of the gateway that it needs.
    """

    name: str
    sentence: str
    inject: Callable[[Site, Scale], Coroutine[Any, Any, None]]
    _: KW_ONLY
    own_site: bool = False
    disk: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
