"""The machine a run stands on: what it is, how fast it syncs, and whether anybody else uses it."""

import asyncio
import os
import platform
import resource
import sqlite3
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import quantiles

_BLOCK = 4096
_QUIET_IDLE = 0.95
_QUIET_SPREAD = 1.3
_LOOPS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Quiet:
    """Whether the machine was quiet: ``idle`` share of its cores, ``spread`` of a loop's slowest to its fastest."""

    found: bool
    waited_s: float
    idle: float
    spread: float
    load: float


def describe(folder: Path) -> dict[str, object]:
    """Return what figures depend on, without the machine's name."""
    models = [line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    mounts = [line.split() for line in _lines("/proc/mounts")]
    inside = [mount for mount in mounts if folder.is_relative_to(mount[1])]
    return {
        "cores": os.cpu_count(),
        "cpu": models[0] if models else platform.machine(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "file_system": max(inside, key=lambda mount: len(mount[1]))[2] if inside else "unknown",
    }


def fdatasync(folder: Path, times: int, pause: float = 0.0) -> dict[str, float]:
    """Return p50 and p99 (ms) of writing 4 KiB at the end of a file and syncing it, ``pause`` seconds between two."""
    path, seconds = folder / "fdatasync", []
    with path.open("wb", buffering=0) as file:
        for _ in range(times):
            begun = time.perf_counter()
            file.write(b"\0" * _BLOCK)
            os.fdatasync(file.fileno())
            seconds.append(time.perf_counter() - begun)
            time.sleep(pause)
    path.unlink()
    cuts = quantiles(seconds, n=100)
    return {"p50_ms": round(1000 * cuts[49], 3), "p99_ms": round(1000 * cuts[98], 3)}


async def until_quiet(patience: float) -> Quiet:
    """Return when the machine is quiet, or after ``patience`` seconds with the last look at it."""
    begun = time.monotonic()
    while True:
        before = _busy()
        await asyncio.sleep(1)
        idle = max(0.0, 1 - (_busy() - before) / (os.cpu_count() or 1))
        spread, waited = _spread(), time.monotonic() - begun
        found = idle >= _QUIET_IDLE and spread <= _QUIET_SPREAD
        if found or waited >= patience:
            load = os.getloadavg()[0]
            figures = {"waited_s": waited, "idle": idle, "spread": spread, "load": load}
            return Quiet(found=found, **{name: round(value, 2) for name, value in figures.items()})


class Others:
    """How much of the machine other processes took while a benchmark ran (its own and its children's apart)."""

    def __init__(self) -> None:
        """Begin to count."""
        self._begun, self._busy, self._own = time.monotonic(), _busy(), _own()

    def share(self) -> float:
        """Return their share of all cores, 0 to 1; children count once they have ended."""
        seconds = (time.monotonic() - self._begun) * (os.cpu_count() or 1)
        return round(max(0.0, (_busy() - self._busy - (_own() - self._own)) / seconds), 2)


def as_json(quiet: Quiet) -> dict[str, object]:
    """Return ``quiet`` for the JSON."""
    return asdict(quiet)


def _busy() -> float:
    """Return the seconds all cores together have worked (``/proc/stat``: all but idle and waiting for the disk)."""
    numbers = [int(word) for word in _lines("/proc/stat")[0].split()[1:9]]
    return (sum(numbers) - numbers[3] - numbers[4]) / os.sysconf("SC_CLK_TCK")


def _own() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def _spread() -> float:
    """Return how much longer the slowest turn of a fixed loop took than the fastest."""
    seconds = []
    for _ in range(_LOOPS):
        begun = time.perf_counter()
        sum(number * number for number in range(100_000))
        seconds.append(time.perf_counter() - begun)
    return max(seconds) / min(seconds)


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()
