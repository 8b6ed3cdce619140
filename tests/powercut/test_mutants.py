"""The mutants still fit the code; `scripts/mutants` runs them."""

from pathlib import Path
from runpy import run_path

SCRIPT = Path(__file__).parents[2] / "scripts/mutants"


def test_every_mutant_finds_the_text_it_replaces() -> None:
    script = run_path(str(SCRIPT))
    assert len(script["MUTANTS"]) >= 6
    assert script["misfits"]() == []
