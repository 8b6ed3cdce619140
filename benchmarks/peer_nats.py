"""NATS JetStream: ``nats_fsync | nats_default FOLDER NUMBER SERVER`` prints how many messages a second are accepted.

300 bytes, an acknowledgement each, 500 on their way at once. ``nats_fsync``: synced before the acknowledgement;
``nats_default``: as it comes, synced every two minutes.
"""

import asyncio
import importlib
import sys
import time
from pathlib import Path
from typing import Any

from process_cosmos_testbed.processes import ManagedProcess, accepts, free_ports

from .bench import PEERS
from .load import ENCODED

_UNDER_WAY = 500


async def main(name: str, folder: Path, number: int, server: Path) -> None:
    """Start a server with a stream on disk, publish, print."""
    sys.path.append(str(PEERS / "python"))
    nats: Any = importlib.import_module("nats")
    [port] = free_ports(1)
    sync = "sync_interval: always" if name == "nats_fsync" else ""
    configuration = folder / "nats.conf"
    configuration.write_text(f'listen: "127.0.0.1:{port}"\njetstream {{ store_dir: "{folder}/store"\n {sync} }}\n')
    process = ManagedProcess("nats", folder)
    await process.launch(server, "-c", configuration)
    try:
        await process.until_ready(lambda: accepts(port), "an open port")
        client = await nats.connect(f"nats://127.0.0.1:{port}")
        stream = client.jetstream()
        await stream.add_stream(name="bench", subjects=["bench"])
        waiting = iter(range(number))

        async def produce() -> None:
            for _ in waiting:
                await stream.publish("bench", b"x" * ENCODED)

        begun = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(_UNDER_WAY):
                tasks.create_task(produce())
        print(number / (time.perf_counter() - begun))
        await client.close()
    finally:
        await process.stop()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])))
