"""The mutants of `scripts/mutants` still match the code that they change."""

from pathlib import Path
from runpy import run_path

SCRIPT = Path(__file__).parents[3] / "scripts/tools/mutants.py"


def test_the_text_of_every_mutant_occurs_exactly_once() -> None:
    script = run_path(str(SCRIPT))
    assert len(script["MUTANTS"]) >= 6
    assert script["misfits"]() == []
