"""The result of a run: its figures, and whether every promise held and every fault took effect."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Milliseconds from a device's publish to the command at its valve."""

    n: int
    p50: float | None
    p99: float | None
    max: float | None

    @classmethod
    def of(cls, milliseconds: Sequence[float]) -> Latency:
        """Return the figures of ``milliseconds`` (nearest rank)."""
        ordered = sorted(milliseconds)

        def rank(share: float) -> float | None:
            return round(ordered[max(0, math.ceil(share * len(ordered)) - 1)], 2) if ordered else None

        return cls(n=len(ordered), p50=rank(0.5), p99=rank(0.99), max=rank(1.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """One phase: its number, its name, its duration, and its figures."""

    number: int
    name: str
    seconds: float
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A promise that must hold, or a fault that must have taken effect."""

    name: str
    wanted: str
    seen: str
    held: bool


@dataclass(slots=True, kw_only=True)
class Result:
    """All figures of a run. ``judgement``: a ``DemoJudgement`` as JSON."""

    home_assistant: str
    setup_seconds: float
    leaks: int = 0
    judgement: dict[str, Any] = field(default_factory=dict)
    edge: list[float] = field(default_factory=list)
    edge_offline: list[float] = field(default_factory=list)
    queued_peak: int = 0
    in_flight_at_kill: int = 0
    drain_seconds: float | None = None
    phases: list[Phase] = field(default_factory=list)
    surprises: list[str] = field(default_factory=list)

    def checks(self) -> tuple[Check, ...]:
        """Return every promise and fault, with the wanted and the observed figure."""
        figure = self.judgement.get

        def none_of(name: str, sentence: str) -> Check:
            seen = figure(name, -1)
            return Check(name=sentence, wanted="0", seen=str(seen), held=seen == 0)

        def at_least(name: str, least: int, seen: int) -> Check:
            return Check(name=name, wanted=f"≥ {least}", seen=str(seen), held=seen >= least)

        return (
            none_of("lost", "lost on the way"),
            none_of("duplicates", "took effect twice"),
            none_of("order_violations", "out of order"),
            Check(
                name="accepted things that arrived at both destinations",
                wanted=str(figure("accepted", 0)),
                seen=str(figure("arrived", 0)),
                held=0 < figure("accepted", 0) == figure("arrived", 0),
            ),
            at_least("fault: events waiting while the cloud was cut off", self.leaks, self.queued_peak),
            at_least("fault: events in flight when the gateway was killed", 1, self.in_flight_at_kill),
            at_least("fault: repeats that receivers dropped", 1, figure("repeats_absorbed", 0)),
            Check(
                name="the scenario went as written",
                wanted="yes",
                seen="yes" if not self.surprises else f"{len(self.surprises)} surprises",
                held=not self.surprises,
            ),
        )

    @property
    def ok(self) -> bool:
        """Whether every promise held and every fault took effect."""
        return all(check.held for check in self.checks())

    def document(self) -> dict[str, Any]:
        """Return the JSON of `--json`."""
        figures = (
            "accepted",
            "arrived",
            "lost",
            "duplicates",
            "repeats_absorbed",
            "marked_repeats",
            "order_violations",
        )
        return {
            "ok": self.ok,
            "home_assistant": self.home_assistant,
            **{name: self.judgement.get(name) for name in figures},
            "edge_latency_ms": Latency.of(self.edge),
            "edge_latency_offline_ms": Latency.of(self.edge_offline),
            "queued_peak": self.queued_peak,
            "in_flight_at_kill": self.in_flight_at_kill,
            "drain_seconds": self.drain_seconds,
            "setup_seconds": self.setup_seconds,
            "phases": self.phases,
            "complaints": [*self.surprises, *self.judgement.get("complaints", ())],
        }
