"""The command line of the fault injection: ``scripts/faults``, or ``process-cosmos-testbed faults``."""

import argparse
import asyncio
import json
import time
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from process_cosmos_testbed.processes import cancel_on_sigterm
from process_cosmos_testbed.report import Progress

from .fault import Fault, Scale
from .runner import Runner, document
from .table import FAULTS

PHONES, SOAK = "F33", "F28"
"""F33 needs a whole Home Assistant instead of a site, and is left out of ``--quick``."""

_OWN_OPTIONS = frozenset(
    {
        *("data", "host", "port"),
        *(
            f"mqtt_{key}"
            for key in ("host", "port", "username", "password", "tls", "ca", "certificate", "key", "topics")
        ),
    }
)
"""Options the testbed sets itself: its gateways have folders, ports and a broker of their own."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the chosen faults; return 0 if every fault took effect and every promise held, else 1."""
    parser = _parser()
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.only) - {PHONES, *(fault.name for fault in FAULTS)})
    if unknown:
        parser.error(f"--only: there is no {', '.join(unknown)}")
    only = options.only or ([SOAK] if options.soak else [])
    chosen = [fault for fault in FAULTS if not only or fault.name in only]
    progress = Progress("faults")
    held = _run_on_sites(chosen, options, progress) if chosen else True
    if PHONES in only or not (only or options.quick):
        from .phone_faults import run_phone_faults  # noqa: PLC0415 - needs Home Assistant, the others do not

        held = asyncio.run(run_phone_faults(progress)) and held
    return 0 if held else 1


def _run_on_sites(chosen: Sequence[Fault], options: argparse.Namespace, progress: Progress) -> bool:
    seed = options.seed if options.seed is not None else time.time_ns() % 1_000_000
    progress.say(f"seed {seed}")
    result = asyncio.run(_run(chosen, seed, options, progress))
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    good, bad = "every fault struck, every promise held", "NOT every promise held, or not every fault struck"
    progress.say(good if result["ok"] else bad)
    return bool(result["ok"])


async def _run(
    faults: Sequence[Fault], seed: int, options: argparse.Namespace, progress: Progress
) -> Mapping[str, Any]:
    plots = None if options.json is None else options.json.resolve().parent
    scale = Scale(quick=options.quick, soak=options.soak, plots=plots)
    cancel_on_sigterm()
    runner = Runner(seed, scale, settings(options.options), progress, options.jobs)
    return document(seed, await runner.run(faults))


def settings(file: Path | None) -> Mapping[str, Any]:
    """Return a copy of the user's own options, without those that the testbed sets itself."""
    if file is None:
        return {}
    text = file.read_text("utf-8")
    own: Mapping[str, Any] = json.loads(text) if file.suffix == ".json" else tomllib.loads(text)
    return {key: value for key, value in own.items() if key not in _OWN_OPTIONS}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("faults", description="Inject faults into real processes and judge the result.")
    parser.add_argument("--quick", action="store_true", help="each kind of strike, less often: under 5 minutes")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="number of faults that run at a time")
    parser.add_argument("--seed", type=int, help="repeat a run's random choices (default: a new seed, printed)")
    parser.add_argument("--only", nargs="+", default=[], metavar="F", help="only these faults, e.g. F1 F15")
    parser.add_argument("--soak", type=float, metavar="MINUTES", help="only the soak (F28), for this long")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to this file")
    parser.add_argument("--options", type=Path, metavar="FILE", help="run with a copy of these options")
    return parser
