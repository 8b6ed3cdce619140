"""Run the benchmarks; ``scripts/bench --help`` has the options."""

import argparse
import asyncio
import shutil
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import apsw
import orjson

from process_cosmos_gateway.errors import RequestRefusedError, StoreError
from process_cosmos_testbed.processes import ProcessFailedError

from . import machine
from .bench import TOP, Bench, Benchmark
from .figures import Outcome, document, lines, median_of
from .load import HOLDING
from .table import BENCHMARKS

CANNOT_RUN = (
    ProcessFailedError,
    TimeoutError,
    OSError,
    StoreError,
    RequestRefusedError,
    apsw.Error,
    aiohttp.ClientError,
)
"""What ends one benchmark; the next one runs."""

_PATIENCE, _QUICK_PATIENCE = 120.0, 1.0


async def measure(bench: Bench, chosen: Sequence[Benchmark], patience: float, into: dict[str, object]) -> int:
    """Run each benchmark when the machine is quiet; print its figures as they come; return how many failed."""
    if told := asyncio.current_task():
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.cancel)  # what was started ends with this
    synced = machine.fdatasync(bench.scratch, bench.size(1000, 200))
    into["fdatasync"] = synced
    print(f"fdatasync of this run: p50 {synced['p50_ms']} ms, p99 {synced['p99_ms']} ms")
    failed = 0
    for benchmark in chosen:
        quiet = await machine.until_quiet(patience)
        if not quiet.found:
            print(f"no quiet machine within {patience:.0f} s: idle {quiet.idle:.0%}, spread {quiet.spread}")
        others = machine.Others()
        try:
            outcomes = await _outcomes(bench, benchmark)
        except CANNOT_RUN as error:
            failed += 1
            print(f"{benchmark.name}: FAILED: {error}")
            into[benchmark.name] = {"failed": str(error).partition("\n")[0] or type(error).__name__}
            continue
        goals = benchmark.goals
        share = others.share()
        said = {"quiet": machine.as_json(quiet), "others_share": share}
        into[benchmark.name] = {**document(outcomes, goals), **said}
        print(*lines(benchmark.name, median_of(outcomes), goals), sep="\n")
        print(f"    {len(outcomes)} run(s); other processes took {share:.0%} of the machine meanwhile", flush=True)
    return failed


async def _outcomes(bench: Bench, benchmark: Benchmark) -> list[Outcome]:
    outcomes = []
    for _ in range(1 if bench.quick else benchmark.runs):
        outcomes.append(await benchmark.run(bench))
        for folder in bench.scratch.iterdir():
            if not folder.name.startswith(HOLDING):
                shutil.rmtree(folder)
    return outcomes


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the options, run, write; end with 1 if a benchmark could not be run, never for a figure."""
    parser = argparse.ArgumentParser("scripts/bench", description="Figures, each beside a limit or a peer of this run.")
    names = [benchmark.name for benchmark in BENCHMARKS]
    parser.add_argument("--quick", action="store_true", help="small sizes, one run each: shows that it works, no more")
    parser.add_argument("--only", action="append", choices=names, help="this benchmark alone; may be repeated")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there")
    parser.add_argument("--wait", type=float, metavar="SECONDS", help="how long to wait for a quiet machine")
    parser.add_argument("--scratch", type=Path, default=TOP / "build/bench", help="folder on the disk to be measured")
    options = parser.parse_args(arguments)
    patience = options.wait if options.wait is not None else _QUICK_PATIENCE if options.quick else _PATIENCE
    chosen = [benchmark for benchmark in BENCHMARKS if not options.only or benchmark.name in options.only]
    with suppress(FileNotFoundError):
        shutil.rmtree(options.scratch)
    options.scratch.mkdir(parents=True)
    results: dict[str, object] = {
        "begun": datetime.now(UTC),
        "quick": options.quick,
        "machine": machine.describe(options.scratch.resolve()),
    }
    try:
        return 1 if asyncio.run(measure(Bench(options.scratch, options.quick), chosen, patience, results)) else 0
    except asyncio.CancelledError:
        print("told to stop; what was measured by then is kept")
        return 1
    finally:
        shutil.rmtree(options.scratch)
        if options.json:
            options.json.write_bytes(orjson.dumps(results, option=orjson.OPT_INDENT_2) + b"\n")


if __name__ == "__main__":
    sys.exit(main())
