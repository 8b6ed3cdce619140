"""The version's own script, on a copy of the repository."""

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from .tree import TOP, files

VERSION = tomllib.loads((TOP / "addon/pyproject.toml").read_text())["project"]["version"]
NEXT = "73.58.91"
CHANGED = ("custom_components/process_cosmos/manifest.json", "addon/config.yaml", *files("*/pyproject.toml"))
# They list releases and library pins; a blueprint's version changes with the blueprint only.
OTHER_VERSIONS = ("*CHANGELOG.md", "requirements.lock", "*/leak_guard.yaml", "*/workflows/workflows.py")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """All text files of the repository."""
    for name in files("*"):
        if name.endswith((".png", ".svg")):
            continue
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(TOP / name, tmp_path / name)
    return tmp_path


def run(copy: Path, *arguments: str) -> tuple[int, list[str]]:
    ran = subprocess.run([copy / "scripts/version", *arguments], capture_output=True, text=True, check=False)
    assert not ran.stderr
    return ran.returncode, ran.stdout.splitlines()


def places(copy: Path, version: str) -> set[str]:
    """The files that contain ``version``, other than in the pin of a library."""
    whole = re.compile(
        rf"(?<![\d.])(?<!(?<!process-cosmos-gateway)(?<!process-cosmos-cloud)==){re.escape(version)}(?![\d.])"
    )
    return {
        str(path.relative_to(copy))
        for path in copy.rglob("*")
        if path.is_file()
        and not any(path.relative_to(copy).full_match(f"**/{pattern}") for pattern in OTHER_VERSIONS)
        and whole.search(path.read_text("utf-8"))
    }


def test_the_version_is_the_same_everywhere() -> None:
    assert run(TOP) == (0, [VERSION])


def test_writing_a_version_reaches_every_place_where_the_old_one_stood(copy: Path) -> None:
    assert places(copy, VERSION) == {*CHANGED}
    code, said = run(copy, NEXT)
    assert (code, said[-1]) == (0, NEXT)
    assert places(copy, VERSION) == set()
    assert places(copy, NEXT) == {*CHANGED, "tests/architecture/test_version.py"}
    assert json.loads((copy / "custom_components/process_cosmos/manifest.json").read_text())["version"] == NEXT
    assert yaml.safe_load((copy / "addon/config.yaml").read_text())["version"] == NEXT
    gateway, cloud = (
        tomllib.loads((copy / name / "pyproject.toml").read_text())["project"] for name in ("addon", "cloud")
    )
    assert gateway["version"] == cloud["version"] == NEXT
    assert f"process-cosmos-gateway=={NEXT}" in cloud["dependencies"]


def test_writing_a_version_begins_its_section_in_the_changelogs_once(copy: Path) -> None:
    old = (copy / "addon/CHANGELOG.md").read_text().removeprefix("# Changelog\n")
    assert run(copy, NEXT)[1][0] == f"addon/CHANGELOG.md: write what changed below ## {NEXT}"
    assert (copy / "addon/CHANGELOG.md").read_text() == f"# Changelog\n\n## {NEXT}\n{old}"
    assert re.search(
        rf"^## \[Unreleased\]\n\n## \[{NEXT}\] - \d{{4}}-\d\d-\d\d\n", (copy / "CHANGELOG.md").read_text(), re.MULTILINE
    )
    written = {name: (copy / name).read_text() for name in files("*.md", "*.toml", "*.json", "*.yaml")}
    assert run(copy, NEXT) == (0, [NEXT])
    assert {name: (copy / name).read_text() for name in written} == written


@pytest.mark.parametrize("place", [*CHANGED, "addon/CHANGELOG.md"])
def test_a_place_that_differs_is_named(copy: Path, place: str) -> None:
    text = (copy / place).read_text()
    (copy / place).write_text(text.replace(VERSION, NEXT))
    code, said = run(copy)
    assert code == 1
    assert f"{place}: {NEXT}" in said


def test_a_place_without_a_version_is_named(copy: Path) -> None:
    (copy / "addon/config.yaml").write_text("name: Process Cosmos\n")
    code, said = run(copy)
    assert code == 1
    assert "addon/config.yaml: no version found" in said


@pytest.mark.parametrize("wrong", ["1.2", "v1.2.3", "01.2.3", "1.2.3-rc", "--check"])
def test_only_the_version_of_a_release_is_written(copy: Path, wrong: str) -> None:
    before = (copy / "addon/config.yaml").read_text()
    assert run(copy, wrong)[0] == 2
    assert run(copy, NEXT, NEXT)[0] == 2
    assert (copy / "addon/config.yaml").read_text() == before
