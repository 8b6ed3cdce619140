"""The command line of the leak demo: ``scripts/demo``, or ``process-cosmos-testbed demo``."""

import argparse
import asyncio
import fcntl
import shutil
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path

import orjson

from process_cosmos_testbed.home_assistant.onboarding import OWNER, PASSWORD
from process_cosmos_testbed.processes import ROOT, ProcessFailedError, TestbedError, cancel_on_sigterm
from process_cosmos_testbed.report import Progress

from .report import table
from .result import Result
from .scenario import LeakDemo
from .site import DemoSite

FOLDER = ROOT / "build" / "demo"
FEWEST = 3
"""Leaks a phase needs: one before the gateway is killed, one while it is down, one after."""

_FAILURES = (TestbedError, TimeoutError)


def main(words: Sequence[str] | None = None) -> int:
    """Run the demo; with `--check` return 1 unless every promise held and every fault took effect."""
    parser = _parser()
    arguments = parser.parse_args(words)
    if arguments.leaks < FEWEST:
        parser.error(f"--leaks: at least {FEWEST}")
    result = Result(
        home_assistant=version("homeassistant"), setup_seconds=arguments.setup_seconds, leaks=arguments.leaks
    )
    try:
        with only_one():
            asyncio.run(run(arguments, result))
    except KeyboardInterrupt, asyncio.CancelledError:
        sys.exit("demo: stopped, and everything it started")
    if arguments.json:
        arguments.json.write_bytes(orjson.dumps(result.document(), option=orjson.OPT_INDENT_2))
    if arguments.check and not result.ok:
        print("demo: not every promise held, or not every fault happened", file=sys.stderr)
        return 1
    return 0


@contextmanager
def only_one() -> Iterator[None]:
    """Lock the demo's folder inside the block; exit if another demo runs there."""
    FOLDER.parent.mkdir(exist_ok=True)
    # Beside the folder, because each run deletes the folder.
    with FOLDER.with_suffix(".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit(f"demo: another one runs in {FOLDER}")
        yield


async def run(arguments: argparse.Namespace, result: Result) -> None:
    """Start everything, run the scenario, print the table, stop everything; a failure becomes a surprise."""
    cancel_on_sigterm()
    progress = Progress("demo")
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    site = DemoSite(FOLDER)
    progress.say("broker, cloud endpoint, gateway, proxies, Home Assistant, devices: starting")
    try:
        async with site.started():
            try:
                await site.background.beside(LeakDemo(site, result, progress).run())
            except _FAILURES as error:
                _report_failure(error, result)
                result.judgement = await site.observer.judge()
            _show(result, progress)
            if arguments.stay:
                print(f"Look at it: {site.home_assistant.url}  user {OWNER}  password {PASSWORD}  (Ctrl-C ends it)")
                with suppress(asyncio.CancelledError):  # by Ctrl-C; what runs is then stopped in order
                    await asyncio.Event().wait()
            progress.say("stopping everything")
    except _FAILURES as error:  # something did not start
        _report_failure(error, result)
        _show(result, progress)


def _show(result: Result, progress: Progress) -> None:
    progress.say("ran to the end" if not result.surprises else "ended early")
    print(table(result))
    print(f"Logs of every process: {FOLDER}")


def _report_failure(error: Exception, result: Result) -> None:
    first, *rest = str(error).splitlines() or [type(error).__name__]
    result.surprises.append(first)
    print("", first, *rest, sep="\n  ", file=sys.stderr)
    if not isinstance(error, ProcessFailedError):
        traceback.print_exception(error)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("scripts/demo", description=__doc__)
    parser.add_argument("--leaks", type=int, default=100, metavar="N", help="leaks in a phase (default: %(default)s)")
    parser.add_argument("--stay", action="store_true", help="leave everything running afterwards, to look at it")
    parser.add_argument("--check", action="store_true", help="exit 1 unless all promises held, all faults happened")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file")
    parser.add_argument("--setup-seconds", type=float, default=0.0, help=argparse.SUPPRESS)
    return parser
