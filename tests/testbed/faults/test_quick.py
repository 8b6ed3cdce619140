"""The quick run of all faults, as users start it: every fault takes effect, every promise holds."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from process_cosmos_gateway.contract.destinations import Priority
from process_cosmos_testbed.faults.table import FAULTS
from process_cosmos_testbed.judge import PROMISES

TOP = Path(__file__).parents[3]
NAMES = [fault.name for fault in FAULTS]
COLUMNS = {
    *("fault", "priority", "ok", "lost", "lost_within_bound", "recovered", "unknown", "unexpected"),
    *("duplicate_effects", "order_violations", "dropped_counted"),
}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    """What a quick run with a fixed seed wrote."""
    file = tmp_path_factory.mktemp("faults") / "faults.json"
    faults = ("-m", "process_cosmos_testbed", "faults")
    command = [sys.executable, *faults, "--quick", "--jobs", "2", "--seed", "4", "--json", str(file)]
    subprocess.run(command, cwd=TOP, check=False)
    document: Mapping[str, Any] = json.loads(file.read_text())
    return document


@pytest.mark.timeout(400)
def test_every_fault_has_a_result_for_each_priority(report: Mapping[str, Any]) -> None:
    assert {f"F{number}" for number in (*range(1, 21), 26, 27, 28, 29, 30, 31, 32, 34)} == set(NAMES)
    rows = [(row["fault"], row["priority"]) for row in report["results"]]
    assert rows == [(name, priority) for name in NAMES for priority in Priority]
    assert all(row.keys() >= COLUMNS for row in report["results"])


@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", NAMES)
def test_a_fault_really_strikes_and_breaks_no_promise(report: Mapping[str, Any], name: str) -> None:
    [fault] = [fault for fault in report["faults"] if fault["fault"] == name]
    assert fault["error"] is None, fault["error"]
    assert fault["proof"]
    assert min(fault["proof"].values()) > 0
    rows = [row for row in report["results"] if row["fault"] == name]
    broken = {promise: sum(row[promise] for row in rows) for promise in PROMISES}
    assert broken == dict.fromkeys(PROMISES, 0), "\n".join([json.dumps(fault, indent=1), *map(str, rows)])
    assert sum(row["ok"] + row["recovered"] for row in rows) > 0
