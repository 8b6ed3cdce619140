"""What benchmarks give: figures, limits and peers; medians of them, and how they are printed."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

type Numbers = Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one run of a benchmark gave.

    ``limits``: by figure, what the machine allows; ``peers``: by name, then figure; ``missing``: peers, and why.
    """

    figures: Numbers
    limits: Numbers = field(default_factory=dict)
    peers: Mapping[str, Numbers] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Goal:
    """What a figure should be. ``met`` looks at the outcome."""

    figure: str
    text: str
    met: Callable[[Outcome], bool]


def at_least(figure: str, least: float) -> Goal:
    """Return the goal that ``figure`` is ``least`` or more."""
    return Goal(figure, f"≥ {least:,g}", lambda outcome: outcome.figures[figure] >= least)


def at_most(figure: str, most: float) -> Goal:
    """Return the goal that ``figure`` is ``most`` or less."""
    return Goal(figure, f"≤ {most:,g}", lambda outcome: outcome.figures[figure] <= most)


def of_limit(figure: str, share: float) -> Goal:
    """Return the goal that ``figure`` is at least this share of its limit."""

    def met(outcome: Outcome) -> bool:
        return outcome.figures[figure] >= share * outcome.limits[figure]

    return Goal(figure, f"≥ {share:g} of its limit", met)


def above_peer(figure: str, peer: str, times: float = 1.0) -> Goal:
    """Return the goal to be ``times`` faster than a peer; a peer that is missing cannot be beaten."""

    def met(outcome: Outcome) -> bool:
        return peer in outcome.peers and outcome.figures[figure] >= times * outcome.peers[peer][figure]

    return Goal(figure, f"≥ {times:g} times {peer}" if times != 1 else f"> {peer}", met)


def median_of(outcomes: Sequence[Outcome]) -> Outcome:
    """Return the median of each number over the runs."""
    first = outcomes[0]
    return Outcome(
        figures=_medians([outcome.figures for outcome in outcomes]),
        limits=_medians([outcome.limits for outcome in outcomes]),
        peers={
            name: _medians([outcome.peers[name] for outcome in outcomes if name in outcome.peers])
            for name in dict.fromkeys(name for outcome in outcomes for name in outcome.peers)
        },
        missing=first.missing,
    )


def _medians(runs: Sequence[Numbers]) -> Numbers:
    return {name: median(run[name] for run in runs) for name in runs[0]}


def document(outcomes: Sequence[Outcome], goals: Sequence[Goal]) -> dict[str, object]:
    """Return a benchmark's part of the JSON: its figures by name, ``limit``, ``peer`` and ``missing`` beside them."""
    outcome = median_of(outcomes)
    return {
        **_rounded(outcome.figures),
        "limit": _rounded(outcome.limits),
        "peer": {name: _rounded(numbers) for name, numbers in outcome.peers.items()},
        "missing": dict(outcome.missing),
        "goals": [{"figure": goal.figure, "goal": goal.text, "met": goal.met(outcome)} for goal in goals],
        "runs": {name: [_short(run.figures[name]) for run in outcomes] for name in outcome.figures},
    }


def lines(name: str, outcome: Outcome, goals: Sequence[Goal]) -> Iterator[str]:
    """Yield the table's lines for one benchmark: each figure, then what stands beside it."""
    for figure, value in outcome.figures.items():
        of_figure = [goal for goal in goals if goal.figure == figure]
        said = "; ".join(f"{goal.text} {'met' if goal.met(outcome) else 'MISSED'}" for goal in of_figure)
        yield f"{f'{name}.{figure}':<36} {_short(value):>12,}   {said}"
        beside = {"limit": outcome.limits, **{f"peer.{peer}": numbers for peer, numbers in outcome.peers.items()}}
        for who, numbers in beside.items():
            if figure in numbers:
                ratio = f"({value / numbers[figure]:.2f} of it)" if numbers[figure] else ""
                yield f"    {who:<32} {_short(numbers[figure]):>12,}   {ratio}"
    for peer, reason in outcome.missing.items():
        yield f"    {f'peer.{peer}':<32} {'missing':>12}   {reason}"


def _rounded(numbers: Numbers) -> dict[str, float]:
    return {name: _short(value) for name, value in numbers.items()}


def _short(value: float) -> float:
    """Return ``value`` with as many digits as mean something."""
    return round(value) if abs(value) >= 1000 else float(f"{value:.3g}")  # noqa: PLR2004 - four digits are enough
