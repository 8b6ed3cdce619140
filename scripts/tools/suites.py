"""Run the three suites, measure the branches they cover together, and close with one line for all of them.

Ends with 1 if a test fails, if too little is covered, as a whole or of a file, or if CI is set and a test was skipped.
"""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

TOP = Path(__file__).resolve().parents[2]
BUILD = TOP / "build" / "tests"
LEAST_BRANCHES = 95.0  # per cent of all branches
LEAST_OF_A_FILE = 90.0  # per cent of a file's lines and branches
# The flows in which people set the integration up: all their lines and branches.
WHOLLY_COVERED = ("custom_components/process_cosmos/config_flow.py", "custom_components/process_cosmos/flows/*.py")


@dataclass(frozen=True)
class Suite:
    """Tests that run in one pytest process, or spread over two."""

    name: str
    folders: tuple[str, ...]
    options: tuple[str, ...]


def suites() -> list[Suite]:
    """The suites, quickest first; Home Assistant's pytest plugin must see only its own tests."""
    plain = sorted(
        str(path.relative_to(TOP))
        for path in (TOP / "tests").iterdir()
        if path.is_dir() and any(path.rglob("test_*.py")) and path.name not in {"home_assistant", "system"}
    )
    both_cores = ("-n", "2", "--dist", "loadfile")
    found = [
        Suite("plain", tuple(plain), ("-p", "no:homeassistant", *both_cores)),
        Suite("home_assistant", ("tests/home_assistant",), ("-p", "home_assistant_first", *both_cores)),
        Suite("system", ("tests/system",), ("-p", "no:homeassistant")),
    ]
    return [suite for suite in found if all((TOP / folder).is_dir() for folder in suite.folders)]


def run(suite: Suite, *, full: bool) -> tuple[int, Counter[str], list[str]]:
    """Run one suite; return pytest's exit code, its outcomes, and why tests were skipped."""
    print(f"\n##### {suite.name}: {' '.join(suite.folders)}", flush=True)
    report = BUILD / f"{suite.name}.xml"
    command = [sys.executable, "-m", "coverage", "run", "-m", "pytest", *suite.options, "-rs", "--timeout", "300"]
    command += [*([] if full else ["-m", "not long"]), "--junitxml", str(report), *suite.folders]
    code = subprocess.run(command, cwd=TOP, check=False).returncode  # noqa: S603 - our own command
    if not report.exists():
        return code or 1, Counter(errors=1), []
    tests = ET.parse(report).getroot().iter("testcase")  # noqa: S314 - pytest wrote it just now
    outcomes: Counter[str] = Counter()
    skipped = []
    for test in tests:
        kinds = {child.tag for child in test} & {"failure", "error", "skipped"}
        outcomes[
            {"failure": "failed", "error": "errors", "skipped": "skipped"}[kinds.pop()] if kinds else "passed"
        ] += 1
        skipped += [f"{test.get('name')}: {reason.get('message')}" for reason in test.iter("skipped")]
    return code, outcomes, skipped


def measure() -> dict[str, Any]:
    """Combine what all processes measured, print the report, and return it (coverage's JSON report)."""
    for step in (["combine", "--quiet"], ["report"], ["json", "--quiet", "-o", str(BUILD / "coverage.json")]):
        subprocess.run([sys.executable, "-m", "coverage", *step], cwd=TOP, check=True)  # noqa: S603 - our own command
    report: dict[str, Any] = json.loads((BUILD / "coverage.json").read_bytes())
    return report


def too_little_covered(report: dict[str, Any]) -> list[str]:
    """Return a sentence for the whole, for each file, and for each flow that is covered too little or not measured."""
    totals = report["totals"]
    branches = 100 * totals["covered_branches"] / totals["num_branches"]
    complaints = []
    if branches < LEAST_BRANCHES:
        complaints.append(f"{branches:.2f} % of all branches are covered, the least is {LEAST_BRANCHES:.0f} %")
    covered = {name: file["summary"]["percent_covered"] for name, file in report["files"].items()}
    complaints += [
        f"{pattern} was not measured"
        for pattern in WHOLLY_COVERED
        if not any(fnmatchcase(name, pattern) for name in covered)
    ]
    for name in sorted(covered):
        least = 100.0 if any(fnmatchcase(name, pattern) for pattern in WHOLLY_COVERED) else LEAST_OF_A_FILE
        if covered[name] < least:
            complaints.append(f"{name} is covered to {covered[name]:.1f} %, the least is {least:.0f} %")
    return complaints


def main() -> int:
    """Run everything; return the exit code."""
    full = sys.argv[1:] == ["--full"]
    if sys.argv[1:] and not full:
        print("usage: scripts/test [--full]")
        return 2
    started = time.monotonic()
    BUILD.mkdir(parents=True, exist_ok=True)
    for old in BUILD.iterdir():
        old.unlink()
    os.environ["COVERAGE_FILE"] = str(BUILD / "coverage")  # children have folders of their own
    results = [run(suite, full=full) for suite in suites()]
    print("\n##### branches covered", flush=True)
    complaints = too_little_covered(measure())
    skipped = [line for _, _, lines in results for line in lines]
    if skipped:
        print(
            f"\n!!!!! NOT TESTED, {len(skipped)} skipped; each says what it needs:",
            *skipped,
            sep="\n  ",
        )
    if skipped and os.environ.get("CI"):
        complaints.append("a skipped test is a failure where CI is set")
    if not full:
        print("\nTests marked `long` were left out; `scripts/test --full` runs them too.")
    for complaint in complaints:
        print("!!!!!", complaint)
    outcomes = sum((counts for _, counts, _ in results), Counter())
    parts = [f"{outcomes[kind]} {kind}" for kind in ("failed", "passed", "skipped", "errors") if outcomes[kind]]
    print(f" {', '.join(parts)} in {time.monotonic() - started:.2f}s ".center(80, "="))
    return 1 if complaints or any(code for code, _, _ in results) else 0


if __name__ == "__main__":
    sys.exit(main())
