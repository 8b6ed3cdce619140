"""What every benchmark gets: a folder, a size, the peers that are there."""

import itertools
import shutil
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from process_cosmos_testbed.processes import run_once

from .figures import Goal, Outcome

TOP = Path(__file__).resolve().parents[1]
PEERS = TOP / ".tools/peers"


@dataclass
class Bench:
    """One run of ``scripts/bench``. ``quick``: small sizes and one run each, to see that it works."""

    scratch: Path
    quick: bool
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    def size(self, full: int, quick: int) -> int:
        """Return how many of something this run takes."""
        return quick if self.quick else full

    def folder(self, name: str) -> Path:
        """Return a new empty folder on the disk that is measured."""
        folder = self.scratch / f"{name}-{next(self._numbers)}"
        folder.mkdir(parents=True)
        return folder

    async def child(self, module: str, *words: str | Path) -> float:
        """Run a module of the benchmarks as a process of its own; return the number it prints."""
        return float(await run_once(sys.executable, "-m", f"benchmarks.{module}", *words, limit=600))


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """One benchmark: ``name`` is the first word of its figures; ``runs``: how many the median is of."""

    name: str
    run: Callable[[Bench], Awaitable[Outcome]]
    goals: Sequence[Goal]
    runs: int = 3


def program(name: str) -> Path | None:
    """Return where a peer's program is, None if it is not there."""
    unpacked = PEERS / "nats/usr/sbin" / name
    found = str(unpacked) if unpacked.exists() else shutil.which(name)
    return Path(found) if found else None


def library(name: str, folder: str = "python") -> str | None:
    """Return why a peer's Python package is missing, None if it is there."""
    return None if (PEERS / folder / name).is_dir() else f"it is not in {PEERS.relative_to(TOP)}: no package index?"
