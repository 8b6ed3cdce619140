"""The result of a run: its figures, and whether every promise held and every fault took effect."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from .judge import DemoJudgement


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


class Check(NamedTuple):
    """A promise that must hold, or a fault that must have taken effect."""

    name: str
    wanted: str
    seen: int
    held: bool


def _none(name: str, seen: int) -> Check:
    return Check(name, "0", seen, seen == 0)


def _at_least(name: str, least: int, seen: int) -> Check:
    return Check(name, f"≥ {least}", seen, seen >= least)


@dataclass(slots=True, kw_only=True)
class Result:
    """All figures of a run. Until it is judged its violations are -1, which is no pass."""

    home_assistant: str
    setup_seconds: float
    leaks: int = 0
    judgement: DemoJudgement = field(default_factory=lambda: DemoJudgement(lost=-1, duplicates=-1, order_violations=-1))
    edge: list[float] = field(default_factory=list)
    edge_offline: list[float] = field(default_factory=list)
    queued_peak: int = 0
    in_flight_at_kill: int = 0
    drain_seconds: float | None = None
    phases: list[Phase] = field(default_factory=list)
    surprises: list[str] = field(default_factory=list)

    def checks(self) -> tuple[Check, ...]:
        """Return every promise and fault, with the wanted and the observed figure."""
        judged = self.judgement
        all_arrived = 0 < judged.accepted == judged.arrived
        return (
            _none("lost on the way", judged.lost),
            _none("took effect twice", judged.duplicates),
            _none("out of order", judged.order_violations),
            Check(
                "accepted things that arrived at both destinations", str(judged.accepted), judged.arrived, all_arrived
            ),
            _at_least("fault: events waiting while the cloud was cut off", self.leaks, self.queued_peak),
            _at_least("fault: events in flight when the gateway was killed", 1, self.in_flight_at_kill),
            _at_least("fault: repeats that receivers dropped", 1, judged.repeats_absorbed),
            _none("surprises: steps that did not go as written", len(self.surprises)),
        )

    @property
    def complaints(self) -> Sequence[str]:
        """What went otherwise than written, and every violation of a promise."""
        return [*self.surprises, *self.judgement.complaints]

    @property
    def ok(self) -> bool:
        """Whether every promise held and every fault took effect."""
        return all(check.held for check in self.checks())

    def document(self) -> dict[str, Any]:
        """Return the JSON of `--json`."""
        return {
            "ok": self.ok,
            "home_assistant": self.home_assistant,
            **asdict(self.judgement),
            "edge_latency_ms": Latency.of(self.edge),
            "edge_latency_offline_ms": Latency.of(self.edge_offline),
            "queued_peak": self.queued_peak,
            "in_flight_at_kill": self.in_flight_at_kill,
            "drain_seconds": self.drain_seconds,
            "setup_seconds": self.setup_seconds,
            "phases": self.phases,
            "complaints": self.complaints,
        }
