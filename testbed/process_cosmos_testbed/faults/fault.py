"""What a fault is: a sentence, and a function that plays it."""

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .site import Site


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much of a fault is played: the quick form keeps every kind of strike and repeats it less.

    ``soak``: minutes of the soak, if other than usual. ``plots``: the folder for pictures, None: none are drawn.
    """

    quick: bool
    soak: float | None = None
    plots: Path | None = None

    def of[T](self, quick: T, full: T) -> T:
        """Return the figure for this scale."""
        return quick if self.quick else full


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault. ``own_site``: it leaves a site behind that no other fault should be played on.

    ``disk``: SQLite's files go through the lab's disk. ``settings``: options of the gateway it needs.
    """

    name: str
    sentence: str
    play: Callable[[Site, Scale], Coroutine[Any, Any, None]]
    own_site: bool = False
    disk: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
