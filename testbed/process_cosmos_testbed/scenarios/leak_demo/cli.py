"""Plays the main job on real parts and shows what came of it: `scripts/demo`."""

import argparse
import asyncio
import fcntl
import shutil
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path

import orjson

from process_cosmos_testbed.home_assistant.client import HomeAssistantError, HomeAssistantUnreachableError
from process_cosmos_testbed.home_assistant.onboarding import OWNER, PASSWORD
from process_cosmos_testbed.processes import ProcessFailedError

from .house import ROOT, House
from .progress import Progress
from .report import table
from .result import Result
from .scenario import Play
from .setup import FlowError

FOLDER = ROOT / "build" / "demo"
FEWEST = 3
"""Leaks a phase needs: one before the gateway is killed, one while it is down, one after."""


def main(words: Sequence[str] | None = None) -> int:
    """Play; with `--check` return 1 unless every promise held and every fault really happened."""
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
    """Hold the demo's folder; exit if another demo plays there."""
    FOLDER.parent.mkdir(exist_ok=True)
    with FOLDER.with_suffix(".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit(f"demo: another one plays in {FOLDER}")
        yield


async def run(arguments: argparse.Namespace, result: Result) -> None:
    """Start everything, play, print the table, stop everything; a failure becomes a surprise of the result."""
    if (own := asyncio.current_task()) is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, own.cancel)
    progress = Progress()
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    house = House(FOLDER)
    try:
        progress.say("broker, cloud endpoint, gateway, devices, fault proxy, ledger, Home Assistant: starting")
        try:
            await house.start()
            await Play(house, result, progress, arguments.leaks).perform()
        except* (ProcessFailedError, FlowError, HomeAssistantError, HomeAssistantUnreachableError) as group:
            _tell_of_failure(group, result)
            if house.ledger.running:
                result.judgement = await house.ask("judge")
        progress.say("played to the end" if not result.surprises else "ended early")
        print(table(result))
        print(f"Logs of every process: {FOLDER}")
        if arguments.stay:
            print(f"Look at it: {house.url}  user {OWNER}  password {PASSWORD}  (Ctrl-C ends everything)")
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
    finally:
        progress.say("stopping everything")
        await house.stop()


def _tell_of_failure(group: BaseExceptionGroup, result: Result) -> None:
    for error in _leaves(group):
        first, *rest = str(error).splitlines()
        result.surprises.append(first)
        print("", first, *rest, sep="\n  ", file=sys.stderr)
        if not isinstance(error, ProcessFailedError):
            traceback.print_exception(error)


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in _leaves(inner)]
    return [error]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("scripts/demo", description=__doc__)
    parser.add_argument("--leaks", type=int, default=100, metavar="N", help="leaks in a phase (default: %(default)s)")
    parser.add_argument("--stay", action="store_true", help="leave everything running afterwards, to look at it")
    parser.add_argument("--check", action="store_true", help="exit 1 unless all promises held, all faults happened")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--setup-seconds", type=float, default=0.0, help=argparse.SUPPRESS)
    return parser
