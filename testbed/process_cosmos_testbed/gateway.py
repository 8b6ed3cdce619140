"""The shipped gateway on a machine that fails on command: with the testbed's clock, event loop and disk below it.

``python -m process_cosmos_testbed.gateway --options FILE --control PORT [--disk] [--free MEGABYTES]
[--new-devices N]``. Only this entry point supplies these parts, so no option or environment variable of a shipped
gateway can enable them. Commands at the control port: ``time skip SECONDS``, ``time shift SECONDS``, ``time now``,
``disk fail FAULT [AFTER] [TIMES]``, ``disk heal``, ``disk cut none|torn SEED`` (power cut), ``disk counts``,
``disk free MEGABYTES``.
"""

import argparse
import asyncio
import os
from pathlib import Path

from process_cosmos_gateway.app import run
from process_cosmos_gateway.components import Machine
from process_cosmos_gateway.devices import NEW_A_MINUTE
from process_cosmos_gateway.logs import set_up_logs
from process_cosmos_gateway.options import read_options

from .control import Commands, controlled
from .failing_disk import NAME, DiskVfs, FailingDisk
from .shiftable_clock import ShiftableClock, SkippingLoop


async def serve(arguments: argparse.Namespace, loop: SkippingLoop) -> None:
    """Run the gateway until SIGTERM, and obey the control port meanwhile."""
    options = read_options(arguments.options)
    set_up_logs(options.log_level)
    clock, disk = ShiftableClock(loop), FailingDisk()
    disk.set_free(arguments.free)
    vfs = DiskVfs(disk) if arguments.disk else None  # registered with SQLite for as long as it is referenced
    commands: dict[str, Commands] = {
        "time": {"skip": loop.skip, "shift": clock.shift, "now": lambda: clock.now().timestamp()}
    }
    if vfs is not None:
        commands["disk"] = {
            "fail": disk.fail,
            "heal": disk.heal,
            "cut": disk.cut,
            "counts": disk.counts,
            "free": disk.set_free,
        }
    machine = Machine(
        new_devices=arguments.new_devices, clock=clock, vfs=NAME if vfs else None, free_fn=disk.free_bytes
    )
    async with controlled(commands, arguments.control):
        await run(options, machine=machine)


def main() -> None:
    """Read the arguments and serve."""
    parser = argparse.ArgumentParser("process_cosmos_testbed.gateway", description=__doc__)
    parser.add_argument("--options", type=Path, required=True, help="the gateway's options (TOML)")
    parser.add_argument("--control", type=int, required=True, help="port for commands")
    parser.add_argument("--disk", action="store_true", help="let SQLite's files pass through a failing disk")
    parser.add_argument("--free", type=int, default=0, help="free megabytes that the disk reports (0: the real figure)")
    parser.add_argument("--new-devices", type=int, default=NEW_A_MINUTE, help="new devices accepted in a minute")
    arguments = parser.parse_args()
    os.umask(0o077)  # as the shipped entry point does, in whose place this one runs
    loop = SkippingLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(serve(arguments, loop))


if __name__ == "__main__":
    main()
