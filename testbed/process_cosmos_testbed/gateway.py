"""The gateway on a machine that can be told to fail: the shipped gateway, with the lab's clock, loop and disk below it.

``python -m process_cosmos_testbed.gateway --options FILE --control PORT [--disk] [--free MEGABYTES]
[--new-devices N]``. Nothing but this entry knows these parts, so no option or environment variable of a running gateway
can reach them. Commands, a line each at the control port: ``time skip SECONDS``, ``time shift SECONDS``, ``time now``,
``disk fail FAULT [AFTER] [TIMES]``, ``disk heal``, ``disk cut none|torn SEED`` (the power goes), ``disk counts``,
``disk free MEGABYTES``.
"""

import argparse
import asyncio
import os
from dataclasses import replace
from pathlib import Path

from process_cosmos_gateway.app import run
from process_cosmos_gateway.components import Machine
from process_cosmos_gateway.devices import NEW_A_MINUTE
from process_cosmos_gateway.logs import set_up_logs
from process_cosmos_gateway.options import Options, read_options

from .control import Command, Control
from .failing_disk import NAME, Disk, DiskVfs
from .shiftable_clock import ShiftableClock, SkippingLoop


async def serve(
    options: Options, control: int, loop: SkippingLoop, *, with_disk: bool, free: int, machine: Machine
) -> None:
    """Serve until SIGTERM, and obey the lab meanwhile."""
    clock, disk = ShiftableClock(loop), Disk()
    disk.set_free(free)
    commands: dict[str, dict[str, Command]] = {
        "time": {"skip": loop.skip, "shift": clock.shift, "now": lambda: clock.now().timestamp()}
    }
    vfs = None
    if with_disk:
        vfs = DiskVfs(disk)
        commands["disk"] = {
            "fail": disk.fail,
            "heal": disk.heal,
            "cut": disk.cut,
            "counts": disk.counts,
            "free": disk.set_free,
        }
    async with Control(commands, control):
        await run(options, machine=replace(machine, clock=clock, vfs=NAME if vfs else None, free_fn=disk.free_bytes))


def main() -> None:
    """Read the arguments and serve."""
    parser = argparse.ArgumentParser("process_cosmos_testbed.gateway", description=__doc__)
    parser.add_argument("--options", type=Path, required=True, help="the gateway's options (TOML)")
    parser.add_argument("--control", type=int, required=True, help="port for commands")
    parser.add_argument("--disk", action="store_true", help="SQLite's files go through a disk that can fail")
    parser.add_argument("--free", type=int, default=0, help="megabytes that the disk claims are free (0: as it is)")
    parser.add_argument("--new-devices", type=int, default=NEW_A_MINUTE, help="taken in within a minute")
    arguments = parser.parse_args()
    os.umask(0o077)
    options = read_options(arguments.options)
    set_up_logs(options.log_level)
    loop = SkippingLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        machine = Machine(new_devices=arguments.new_devices)
        with_disk, free = arguments.disk, arguments.free
        runner.run(serve(options, arguments.control, loop, with_disk=with_disk, free=free, machine=machine))


if __name__ == "__main__":
    main()
