"""Programs and examples in the documents, for the tests that run them."""

import re
from collections.abc import Sequence
from pathlib import Path

TOP = Path(__file__).parents[2]

PAGES: Sequence[Path] = (
    *(TOP / "README.md", TOP / "CONTRIBUTING.md", TOP / "SECURITY.md"),
    *sorted(TOP.glob("docs/**/*.md")),
    *sorted(TOP.glob("wire/*.md")),
    *sorted(TOP.glob("addon/*.md")),
)

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def blocks(page: str, language: str) -> list[str]:
    """Return the code blocks of a page (its path in the repository) in a language; empty: blocks without one."""
    return [text for said, text in _BLOCK.findall((TOP / page).read_text("utf-8")) if said == language]


def languages() -> dict[str, int]:
    """Return how many blocks all pages have, by page and language."""
    found: dict[str, int] = {}
    for page in PAGES:
        for language, _ in _BLOCK.findall(page.read_text("utf-8")):
            key = f"{page.relative_to(TOP)}:{language}"
            found[key] = found.get(key, 0) + 1
    return found


def command_lines(page: str, language: str) -> list[str]:
    """Return the lines of a page's shell blocks, without comments."""
    lines = (line for text in blocks(page, language) for line in text.splitlines())
    return [said for line in lines if (said := line.split(" # ")[0].strip())]
