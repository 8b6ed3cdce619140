"""The frame names everything, hides nothing and fails aloud; figures are no test's business."""

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from benchmarks import figures, load, machine
from benchmarks.__main__ import measure
from benchmarks.bench import TOP, Bench, Benchmark, library
from benchmarks.figures import Outcome, above_peer, at_least, at_most, median_of, of_limit
from benchmarks.table import BENCHMARKS
from process_cosmos_testbed.processes import ProcessFailedError

PROMISED = {
    *("accept.events_per_s", "accept.random_events_per_s", "accept_ws.events_per_s", "alarm.p99_ms"),
    *("edge.quiet_p50_ms", "edge.quiet_p99_ms", "edge.loaded_p99_ms", "edge.cpu_s_per_1000", "edge.steady_p99_ms"),
    *("edge_leak_guard.quiet_p50_ms", "edge_leak_guard.quiet_p99_ms", "edge_leak_guard.loaded_p99_ms"),
    *("edge_leak_guard.cpu_s_per_1000", "edge_leak_guard.steady_p99_ms", "edge_1000_devices.cpu_s_per_1000"),
    *("drain.events_per_s", "drain_1m.events_per_s", "drain_1m.last_to_first"),
    *("drain_1m.gateway_rss_mb", "drain_1m.cloud_rss_mb", "start_1m.seconds", "start_1m.rss_mb"),
    *("idle.rss_mb", "idle.cpu_percent", "idle.wakeups_per_s"),
    *("disk.bytes_per_event", "disk.returned_ratio", "disk.bytes_per_id"),
    *("disk.written_bytes_per_event", "growth.accept_100k", "growth.accept_1m", "growth.drain_100k", "growth.drain_1m"),
}


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the JSON of a quick run of one cheap benchmark."""
    folder = tmp_path_factory.mktemp("bench")
    words = (
        "--quick",
        "--wait",
        "0",
        "--only",
        "accept",
        "--json",
        folder / "bench.json",
        "--scratch",
        folder / "disk",
    )
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *words], cwd=TOP, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("fdatasync of this run: p50 ")
    assert not (folder / "disk").exists()
    found: dict[str, Any] = orjson.loads((folder / "bench.json").read_bytes())
    return found


def test_every_figure_that_was_promised_has_a_goal() -> None:
    assert {f"{benchmark.name}.{goal.figure}" for benchmark in BENCHMARKS for goal in benchmark.goals} == PROMISED


def test_a_full_run_takes_medians_of_at_least_three() -> None:
    assert all(benchmark.runs >= 3 for benchmark in BENCHMARKS)


def test_every_figure_of_a_run_stands_beside_a_limit_or_a_peer(quick: dict[str, Any]) -> None:
    accept = quick["accept"]
    beside = {*accept["limit"], *(name for numbers in accept["peer"].values() for name in numbers)}
    assert {"events_per_s", "random_events_per_s"} <= accept["runs"].keys() <= beside
    assert all(accept[name] > 0 for name in accept["runs"])


def test_each_peer_has_a_figure_or_a_reason_why_not(quick: dict[str, Any]) -> None:
    accept = quick["accept"]
    peers = {"persist_queue", "litequeue", "nats_fsync", "nats_default", "thingsboard_gateway"}
    assert {*accept["peer"], *accept["missing"]} == peers
    assert all(accept["missing"].values())


def test_a_run_says_on_what_machine_and_whether_it_was_quiet(quick: dict[str, Any]) -> None:
    assert quick["quick"] is True
    assert quick["machine"]["cores"] == os.cpu_count()
    assert 0 < quick["fdatasync"]["p50_ms"] <= quick["fdatasync"]["p99_ms"]
    assert quick["accept"]["quiet"]["found"] in (True, False)
    assert 0 <= quick["accept"]["others_share"] <= 1


def test_the_median_counts_of_figures_limits_and_peers() -> None:
    runs = [Outcome(figures={"a": n}, limits={"a": 10 * n}, peers={"b": {"a": 2 * n}}) for n in (5.0, 1.0, 3.0)]
    assert median_of(runs) == Outcome(figures={"a": 3.0}, limits={"a": 30.0}, peers={"b": {"a": 6.0}})


@pytest.mark.parametrize(
    ("goal", "met"),
    [
        (at_least("a", 100), True),
        (at_least("a", 101), False),
        (at_most("a", 99), False),
        (of_limit("a", 0.5), True),
        (of_limit("a", 0.6), False),
        (above_peer("a", "slow", 5), True),
        (above_peer("a", "slow", 6), False),
        (above_peer("a", "nobody"), False),
    ],
)
def test_a_goal_is_met_or_missed(goal: figures.Goal, met: object) -> None:
    outcome = Outcome(figures={"a": 100}, limits={"a": 200}, peers={"slow": {"a": 20}})
    assert goal.met(outcome) is met


def test_a_missed_goal_and_a_missing_peer_are_printed() -> None:
    outcome = Outcome(figures={"a": 1}, limits={"a": 4}, missing={"b": "no mirror"})
    printed = "\n".join(figures.lines("x", outcome, [at_least("a", 2)]))
    assert "≥ 2 MISSED" in printed
    assert "(0.25 of it)" in printed
    assert "peer.b" in printed
    assert "no mirror" in printed


def test_a_package_that_was_not_fetched_is_missing_with_a_reason() -> None:
    assert "is not in .tools/peers" in (library("no_such_package") or "")


async def test_a_benchmark_that_cannot_run_is_said_and_the_next_one_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def breaks(_: Bench) -> Outcome:
        raise ProcessFailedError("the gateway ended")

    async def works(bench: Bench) -> Outcome:
        (bench.folder("works") / "file").touch()
        return Outcome(figures={"a": 1.0}, limits={"a": 2.0})

    broken = Benchmark(name="broken", run=breaks, goals=())
    whole = Benchmark(name="whole", run=works, goals=(at_least("a", 1),))
    into: dict[str, Any] = {}
    assert await measure(Bench(tmp_path, quick=False), [broken, whole], 0, into) == 1
    assert into["broken"] == {"failed": "the gateway ended"}
    assert into["whole"]["runs"] == {"a": [1.0, 1.0, 1.0]}
    assert "FAILED: the gateway ended" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


@contextmanager
def busy_cores() -> Iterator[None]:
    """Keep every core busy inside the block."""
    spinning = [multiprocessing.get_context("spawn").Process(target=spin) for _ in range(os.cpu_count() or 1)]
    for process in spinning:
        process.start()
    try:
        yield
    finally:
        for process in spinning:
            process.kill()
            process.join()


def spin() -> None:
    while True:
        pass


async def test_a_machine_somebody_else_uses_is_not_called_quiet() -> None:
    with busy_cores():
        others = machine.Others()
        looks = [await machine.until_quiet(0) for _ in range(3)]
        assert others.share() > 0
    assert not looks[-1].found
    assert looks[-1].idle < 0.95


def test_an_event_of_the_benchmarks_takes_300_bytes() -> None:
    assert {len(event.encode(load.ulid())) for event in load.events(3)} == {load.ENCODED}
