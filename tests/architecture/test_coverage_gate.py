"""The bounds of coverage in ``scripts/test``: too little as a whole, of a file or of a flow is a failure."""

import importlib.util
import sys
from copy import deepcopy
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from .tree import TOP

FLOW = "custom_components/process_cosmos/flows/forms.py"
CONFIG_FLOW = "custom_components/process_cosmos/config_flow.py"
OTHER = "cloud/process_cosmos_cloud/server.py"
ENOUGH: dict[str, Any] = {
    "totals": {"covered_branches": 950, "num_branches": 1000},
    "files": {
        name: {"summary": {"percent_covered": covered}}
        for name, covered in ((FLOW, 100.0), (CONFIG_FLOW, 100.0), (OTHER, 90.0))
    },
}


@pytest.fixture(scope="module")
def suites() -> ModuleType:
    """The script that ``scripts/test`` runs."""
    spec = importlib.util.spec_from_file_location("suites", TOP / "scripts/tools/suites.py")
    assert spec
    assert spec.loader
    module = sys.modules["suites"] = importlib.util.module_from_spec(spec)  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def report() -> dict[str, Any]:
    """The least that passes."""
    return deepcopy(ENOUGH)


def test_the_least_coverage_passes(suites: ModuleType, report: dict[str, Any]) -> None:
    assert suites.too_little_covered(report) == []


def test_too_few_branches_as_a_whole_are_named(suites: ModuleType, report: dict[str, Any]) -> None:
    report["totals"]["covered_branches"] = 949
    assert suites.too_little_covered(report) == ["94.90 % of all branches are covered, the least is 95 %"]


@pytest.mark.parametrize(("name", "covered", "least"), [(OTHER, 89.9, 90), (FLOW, 99.9, 100), (CONFIG_FLOW, 99.9, 100)])
def test_a_file_that_is_covered_too_little_is_named(
    suites: ModuleType, report: dict[str, Any], name: str, covered: float, least: int
) -> None:
    report["files"][name]["summary"]["percent_covered"] = covered
    assert suites.too_little_covered(report) == [f"{name} is covered to {covered} %, the least is {least} %"]


@pytest.mark.parametrize("name", [FLOW, CONFIG_FLOW])
def test_a_flow_that_was_not_measured_is_a_complaint(suites: ModuleType, report: dict[str, Any], name: str) -> None:
    del report["files"][name]
    [complaint] = suites.too_little_covered(report)
    assert complaint.endswith("was not measured")


def test_the_flows_that_must_be_covered_wholly_exist(suites: ModuleType) -> None:
    assert all([*TOP.glob(pattern)] for pattern in suites.WHOLLY_COVERED)


@pytest.mark.parametrize(("complaints", "code"), [([], 0), (["a file is covered too little"], 1)])
def test_a_complaint_about_coverage_fails_the_run(
    suites: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    *,
    complaints: list[str],
    code: int,
) -> None:
    monkeypatch.setattr(suites, "BUILD", tmp_path)
    monkeypatch.setattr(suites, "suites", list)
    monkeypatch.setattr(suites, "measure", dict)
    monkeypatch.setattr(suites, "too_little_covered", lambda _: complaints)
    monkeypatch.setattr(sys, "argv", ["scripts/test"])
    monkeypatch.setenv("COVERAGE_FILE", "")
    assert suites.main() == code
    assert all(f"!!!!! {complaint}" in capsys.readouterr().out for complaint in complaints)
