"""Measures a process while it is under load, and compares the figures with their bounds."""

import math
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field

from process_cosmos_gateway.contract.destinations import Priority
from process_cosmos_testbed.processes import ManagedProcess, until

from .site import Site

URGENT_SECONDS = 0.2
MOST_MEGABYTES = 150
MOST_LOGGED = 1.0
"""Megabytes of log that a process may write in a minute."""

QUICK_PATIENCE = math.inf
"""A quick run records how long waits were and judges none: other processes share the cores."""

_PERCENT = 0.99
_WAIT_SECONDS = 10.0


@dataclass
class Waits:
    """Consecutive waits of one kind, in seconds. ``begun``: the start of the wait that has not ended."""

    over: list[float] = field(default_factory=list)
    begun: float | None = None

    @contextmanager
    def one(self) -> Iterator[None]:
        """Record the duration of the block; a block that fails counts as not ended."""
        self.begun = time.monotonic()
        yield
        self.over.append(time.monotonic() - self.begun)
        self.begun = None

    def until_now(self) -> Sequence[float]:
        """Return all waits; one that has not ended lasts until now."""
        return [*self.over, *([] if self.begun is None else [time.monotonic() - self.begun])]


@dataclass
class Bounds:
    """The figures of one fault. ``patience``: the factor by which bounds in milliseconds are relaxed."""

    site: Site
    patience: float

    def check(self, name: str, figure: float, most: float) -> None:
        """Record a figure, and whether it exceeds its bound."""
        self.site.figures[name] = round(figure, 2)
        if figure > most:
            self.site.exceeded.append(f"{name}: {figure:.2f}, {most:g} at most")

    def check_waits(self, name: str, seconds: Sequence[float], most: float) -> None:
        """Record the 99th percentile of waits in milliseconds; ``most``: seconds. Without a wait the fault fails."""
        self.site.prove(f"waits judged: {name}", len(seconds))
        if seconds:
            slow = sorted(seconds)[min(len(seconds) - 1, int(len(seconds) * _PERCENT))]
            self.check(f"{name}_p99_ms", slow * 1000, self.patience * most * 1000)

    @asynccontextmanager
    async def held(
        self, name: str, process: ManagedProcess | None = None, *, urgent: bool = True
    ) -> AsyncIterator[None]:
        """Judge memory and log of ``process`` inside the block; of the gateway, the default, ``urgent`` events, too."""
        process = process or self.site.gateway
        begun, logged = time.monotonic(), process.log.stat().st_size
        process.forget_peak()
        yield
        ended = time.monotonic()
        grown = (process.log.stat().st_size - logged) / 1e6
        self.check(f"log_mb_a_minute {name}", grown * 60 / (ended - begun), MOST_LOGGED)
        self.check(f"rss_mb {name}", process.megabytes("VmHWM"), MOST_MEGABYTES)
        if urgent and process is self.site.gateway:
            await self._check_urgent(name, begun, ended)

    async def _check_urgent(self, name: str, begun: float, ended: float) -> None:
        """Judge the urgent events recorded meanwhile; one without an acknowledgement has waited until now."""
        attempts = self.site.ledger.sent(Priority.URGENT, begun, ended)
        with suppress(TimeoutError):
            await until(lambda: all(each.acknowledged_at for each in attempts), "acknowledgements", _WAIT_SECONDS)
        now = time.monotonic()
        self.check_waits(f"urgent {name}", [each.waited(now) for each in attempts], URGENT_SECONDS)
