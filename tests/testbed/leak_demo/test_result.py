"""A run is only good when every promise held and every fault really happened."""

from dataclasses import replace
from typing import Any

import pytest

from process_cosmos_testbed.scenarios.leak_demo.judge import DemoJudgement
from process_cosmos_testbed.scenarios.leak_demo.report import table
from process_cosmos_testbed.scenarios.leak_demo.result import Latency, Result

GOOD = Result(
    home_assistant="2026.11.0",
    setup_seconds=1.0,
    judgement=DemoJudgement(accepted=300, arrived=300, repeats_absorbed=3),
    leaks=100,
    queued_peak=100,
    in_flight_at_kill=1,
    drain_seconds=2.0,
)


def test_a_run_with_all_promises_held_and_all_faults_seen_is_good() -> None:
    assert GOOD.ok
    assert "NOT HELD" not in table(GOOD)


@pytest.mark.parametrize(
    "figures",
    [
        {"lost": 1},
        {"duplicates": 1},
        {"order_violations": 1},
        {"repeats_absorbed": 0},
        {"arrived": 299},
        {"accepted": 0, "arrived": 0},
    ],
    ids="-".join,
)
def test_a_broken_promise_makes_the_run_bad(figures: dict[str, Any]) -> None:
    bad = replace(GOOD, judgement=replace(GOOD.judgement, **figures))
    assert not bad.ok
    assert not bad.document()["ok"]
    assert "NOT HELD" in table(bad)


def test_a_fault_that_never_happened_makes_the_run_bad() -> None:
    assert not replace(GOOD, queued_peak=99).ok
    assert replace(GOOD, leaks=10, queued_peak=58).ok
    assert not replace(GOOD, in_flight_at_kill=0).ok
    assert not replace(GOOD, surprises=["the gateway did not come back"]).ok


def test_a_run_that_was_never_judged_is_bad() -> None:
    never_judged = replace(GOOD, judgement=Result(home_assistant="2026.11.0", setup_seconds=1.0).judgement)
    assert sum(not check.held for check in never_judged.checks()) == 5


def test_latencies_are_given_by_nearest_rank() -> None:
    assert Latency.of([float(number) for number in range(1, 101)]) == Latency(n=100, p50=50.0, p99=99.0, max=100.0)
    assert Latency.of([]) == Latency(n=0, p50=None, p99=None, max=None)
