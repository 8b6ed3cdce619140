"""The running gateway: builds its components and runs them until the process is stopped."""

import asyncio
import fcntl
import logging
import signal
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from errno import EACCES, EEXIST, EISDIR, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR, EPERM, EROFS
from pathlib import Path

from .api.identity import ensure_identity, server_context
from .api.pairing import discovery_token
from .components import VERSION, Machine, build, open_store
from .errors import StartError
from .options import BrokerOptions, Options
from .store.errors import READ_ONLY, StoreDamagedError
from .supervisor import Supervisor

_LOGGER = logging.getLogger(__name__)

type SupervisorFn = Callable[[str, tuple[str, ...]], Supervisor]


async def run(options: Options, supervisor_fn: SupervisorFn = Supervisor, machine: Machine | None = None) -> None:
    """Serve until SIGTERM or SIGINT; raise ``StartError`` or ``StoreError`` on failure.

    Every accepted event is then on disk; events that are not were never confirmed, and their senders repeat them.
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        stack.enter_context(_lock_data_folder(options.data))
        supervisor = None
        if options.supervisor_token:
            supervisor = supervisor_fn(options.supervisor_token, options.topics)
            stack.push_async_callback(supervisor.aclose)
        else:
            await ensure_identity(options.data)
        # Each turn is a complete start: another broker, or the recovery of a damaged store.
        while not stop.is_set():
            broker = options.broker
            if broker is None and supervisor is not None:
                broker = await supervisor.broker()
            await _serve(options, machine or Machine(), broker, supervisor, stop)
    _LOGGER.info("Stopped")


async def _serve(
    options: Options,
    machine: Machine,
    broker: BrokerOptions | None,
    supervisor: Supervisor | None,
    stop: asyncio.Event,
) -> None:
    """Run the components until ``stop``, or until the Supervisor's broker changes."""
    store = await open_store(options, machine)
    try:
        built = await build(store, options, machine, broker, supervised=supervisor is not None)
        tls = None if supervisor else server_context(options.data)
        _LOGGER.info("Process Cosmos gateway %s, site %s, data in %s", VERSION, store.site, options.data)
        async with built.server.listen(options.host, options.port, tls), asyncio.TaskGroup() as tasks:
            running: list[asyncio.Task[object]] = [
                tasks.create_task(store.run(), name="store"),
                tasks.create_task(built.alerts.run(), name="alerts"),
                tasks.create_task(built.destinations.run(), name="destinations"),
                tasks.create_task(built.devices.run(), name="devices"),
                tasks.create_task(built.admission.run(), name="local programs"),
            ]
            ends: list[asyncio.Task[object]] = [tasks.create_task(stop.wait(), name="stop")]
            if supervisor is not None:
                token = discovery_token(options.data)
                offer = {"host": built.address, "port": options.port, "site": store.site, "token": token}
                announcement = supervisor.announce(offer, built.server.connected)
                running.append(tasks.create_task(announcement, name="discovery"))
                if options.broker is None:
                    broker_change = supervisor.wait_for_broker_change(broker)
                    ends.append(tasks.create_task(broker_change, name="broker of the Supervisor"))
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for task in (*running, *ends):
                task.cancel()
    except* StoreDamagedError:
        _LOGGER.exception("The store is damaged; opening it again to recover it")
    finally:
        await store.close()


@contextmanager
def _lock_data_folder(folder: Path) -> Iterator[None]:
    """Create and lock the data folder: two gateways with one identity would receive each other's messages."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (folder / "lock").open("w") as lock:
            # The kernel releases this lock also after SIGKILL, unlike a file with a process id.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
    except BlockingIOError as error:
        message = f"Another gateway uses the data folder {folder}. Stop it, or set another folder for this one."
        raise StartError(message, "start_folder_taken") from error
    except OSError as error:
        if error.errno in (EEXIST, ENOTDIR, ENAMETOOLONG, EISDIR, ELOOP, ENOENT):
            message = f"{folder} cannot be the data folder ({error.strerror}). Set a folder that can be created."
            raise StartError(message, "start_folder_invalid") from error
        if error.errno not in (EACCES, EPERM, EROFS):
            raise
        raise StartError(
            f"The data folder {folder} is not writable. Make it writable, and check the disk: a failing one is mounted"
            " read-only.",
            READ_ONLY,
        ) from error
