"""``MODULE...`` prints the memory (MB) of a process that has imported these and does nothing: the limit of ours."""

import importlib
import os
import sys
from pathlib import Path

from .bench import Bench

GATEWAY, CLOUD = "process_cosmos_gateway.app", "process_cosmos_cloud.serving"


async def bare_mb(bench: Bench, module: str) -> float:
    """Return what importing ``module`` takes."""
    return await bench.child("bare", module)


def main(names: list[str]) -> None:
    """Import, look, print."""
    for name in names:
        importlib.import_module(name)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    print(pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20))


if __name__ == "__main__":
    main(sys.argv[1:])
