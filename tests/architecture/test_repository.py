"""Checks of the repository as a whole: mirrors, paths in the documents, forbidden names."""

import json
import re
import subprocess

import pytest

from tests.support.documents import blocks

from .tree import PRODUCT, TOP, files

HOME = "https://github.com/process-cosmos/process-cosmos"
TEXT = (
    *("*.css", "*.html", "*.js", "*.json", "*.lock", "*.md", "*.py", "*.sh", "*.sql", "*.toml", "*.txt", "*.yaml"),
    *("scripts/*", ".ci/*", "addon/Dockerfile"),
)
# Pages name paths from the repository's top, or below the folder a section is about.
FOLDERS = (
    *("", "addon/process_cosmos_gateway", "custom_components/process_cosmos", "cloud/process_cosmos_cloud"),
    "testbed/process_cosmos_testbed",
)
# Written so that this file passes its own test.
FORBIDDEN = {
    "a package registry's host": r"pypi[.]org|pythonhosted[.]org|npmjs[.]|deb[.]debian[.]org|crates[.]io",
    "a path of one machine": r"[/]work/|[/]root/|[/]tmp/|bash[_]jobs|[.][.]/shared",
}


def test_the_mirrors_are_equal() -> None:
    assert len(files("custom_components/process_cosmos/contract/*.py")) > 5
    assert files("custom_components/process_cosmos/blueprints/*.yaml")
    check = subprocess.run(["scripts/mirror", "--check"], cwd=TOP, capture_output=True, text=True, check=False)
    assert (check.returncode, check.stdout) == (0, "")


def test_the_supervisor_finds_one_app() -> None:
    configs = files("config.yaml", "config.yml", "config.json", "*/config.yaml", "*/config.yml", "*/config.json")
    assert configs == ("addon/config.yaml",)


def test_the_oldest_home_assistant_is_the_same_everywhere() -> None:
    oldest = json.loads((TOP / "hacs.json").read_text())["homeassistant"]
    assert f'"homeassistant=={oldest}"' in (TOP / "pyproject.toml").read_text()
    blueprints = files("blueprints/*.yaml")
    assert blueprints
    assert [path for path in blueprints if f"min_version: {oldest}" not in (TOP / path).read_text()] == []


def test_blueprints_name_their_workflow_their_version_and_their_source() -> None:
    blueprints = files("blueprints/*.yaml")
    assert blueprints
    for path in blueprints:
        text = (TOP / path).read_text()
        assert f"source_url: {HOME}/blob/main/{path}\n" in text
        assert f"cosmos_workflow: {path.rsplit('/', 1)[1].removesuffix('.yaml')}\n" in text
        assert re.search(r'cosmos_version: "\d+\.\d+\.\d+"', text)


def test_the_projects_address_is_where_people_look() -> None:
    places = ("hacs.json", "repository.yaml", "addon/config.yaml", "custom_components/process_cosmos/manifest.json")
    assert [place for place in places[1:] if HOME not in (TOP / place).read_text()] == []


@pytest.mark.parametrize("page", ["docs/architecture.md", "docs/alert-protocol.md", "CONTRIBUTING.md"])
def test_every_path_that_a_page_names_exists(page: str) -> None:
    said = re.findall(r"`([\w./]+(?:/|\.(?:py|sql|yaml|json|md|toml)))`", (TOP / page).read_text())
    assert len(said) > 5
    assert [path for path in said if not any((TOP / root / path).exists() for root in FOLDERS)] == []


def test_every_module_in_a_picture_of_the_architecture_exists() -> None:
    drawn = set(re.findall(r"\b\w+\.py\b", " ".join(blocks("docs/architecture.md", "mermaid"))))
    assert len(drawn) > 50
    assert drawn - {path.rsplit("/", 1)[1] for path in files("*.py") if path.startswith(PRODUCT)} == set()


@pytest.mark.parametrize("what", FORBIDDEN)
def test_nothing_in_the_repository_depends_on_one_machine(what: str) -> None:
    texts = {path: (TOP / path).read_text(encoding="utf-8") for path in files(*TEXT)}
    assert len(texts) > 100
    pattern = re.compile(FORBIDDEN[what])
    assert {path: match[0] for path, text in texts.items() if (match := pattern.search(text))} == {}
