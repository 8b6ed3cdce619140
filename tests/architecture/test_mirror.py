"""The mirror's own script, on a house of its own."""

import shutil
import subprocess
from pathlib import Path

import pytest

from .tree import TOP


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A contract, a blueprint, and in the mirror a file that has no source."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(TOP / "scripts/mirror", tmp_path / "scripts")
    for name, text in {
        "addon/process_cosmos_gateway/contract/codec.py": "new = 1\r\n",
        "blueprints/automation/process_cosmos/leak_guard.yaml": "mode: parallel\n",
        "custom_components/process_cosmos/contract/codec.py": "old = 1\n",
        "custom_components/process_cosmos/contract/gone.py": "",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(text.encode())
    return tmp_path


def mirror(house: Path, *arguments: str) -> tuple[int, list[str]]:
    ran = subprocess.run([house / "scripts/mirror", *arguments], capture_output=True, text=True, check=False)
    return ran.returncode, [line.split()[0].rpartition("/")[2] for line in ran.stdout.splitlines()]


def test_a_check_names_what_differs_and_changes_nothing(house: Path) -> None:
    for _ in range(2):
        assert mirror(house, "--check") == (1, ["codec.py", "gone.py", "leak_guard.yaml"])


def test_mirroring_makes_the_copies_equal_to_the_byte_and_takes_away_what_has_no_source(house: Path) -> None:
    assert mirror(house)[0] == 0
    assert mirror(house, "--check") == (0, [])
    copies = house / "custom_components/process_cosmos"
    assert (copies / "contract/codec.py").read_bytes() == b"new = 1\r\n"
    assert not (copies / "contract/gone.py").exists()


def test_an_unknown_option_does_nothing(house: Path) -> None:
    assert mirror(house, "--chek")[0] == 2
    assert mirror(house, "--check")[0] == 1
