"""The composition root: builds all components and runs them until the process is stopped."""

import asyncio
import fcntl
import logging
import secrets
import signal
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from errno import EACCES, EEXIST, EISDIR, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR, EPERM, EROFS
from functools import partial
from pathlib import Path
from socket import gethostname

from . import VERSION
from .alerts import Alerts
from .api.change_feed import ChangeFeed
from .api.identity import ensure_identity, server_context
from .api.ingress.page import About, StatusPage
from .api.local_programs.admission import Admission
from .api.local_programs.endpoint import EventsEndpoint
from .api.metrics import Metrics
from .api.pairing import Pairing, discovery_token
from .api.requests import Requests
from .api.server import Server
from .api.session import Services
from .api.status import StatusReader
from .clock import Clock, SystemClock
from .contract.destinations import Priority
from .contract.identifiers import UlidFactory
from .destinations import Destinations
from .devices import NEW_A_MINUTE, Devices
from .errors import FolderInvalidError, FolderTakenError
from .options import MEGABYTE, BrokerOptions, Options
from .outbox import Limits, Outbox
from .store import Store
from .store.disk_reserve import free_bytes
from .store.errors import StoreDamagedError, StoreReadOnlyError
from .supervisor import Supervisor

_LOGGER = logging.getLogger(__name__)


type SupervisorFn = Callable[[str, tuple[str, ...]], Supervisor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The system services used by the gateway; the lab replaces them to inject faults.

    ``vfs``: name of SQLite's VFS (None: the system's). ``free_fn``: returns the free bytes on the disk of a folder.
    ``new_devices``: number of new devices accepted in a minute.
    """

    clock: Clock = field(default_factory=SystemClock)
    vfs: str | None = None
    free_fn: Callable[[Path], int] = free_bytes
    new_devices: int = NEW_A_MINUTE


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
            await stack.enter_async_context(supervisor)
        else:
            await ensure_identity(options.data)
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
    """Build the components and run them until ``stop``, or until the Supervisor's broker changes."""
    clock = machine.clock
    make_ulids = partial(UlidFactory, lambda: int(clock.now().timestamp() * 1000), secrets.token_bytes)
    store = await Store.open(
        options.data,
        make_ulids(),
        vfs=machine.vfs,
        reserve=options.reserve_mb * MEGABYTE,
        free_fn=machine.free_fn,
    )
    try:
        outbox = Outbox(store, clock, _limits(options))
        ulids = make_ulids(await outbox.last_own_id_ms())
        alerts = await Alerts.open(store, outbox, clock)
        devices = Devices(
            store, outbox, clock, ulids, broker, readings=options.readings, new_a_minute=machine.new_devices
        )
        await devices.load()
        destinations = Destinations(store, outbox, alerts, clock)
        feed = ChangeFeed(clock, devices.devices)
        devices.watch(feed.publish)
        status = StatusReader(devices, destinations, outbox, store)
        requests = Requests(devices, destinations, outbox)
        parts = Services(alerts=alerts, feed=feed, requests=requests, status=status)
        producers = EventsEndpoint(outbox)
        metrics = Metrics(store, outbox, status, options.data, [producers.accept_seconds])
        admission = Admission(options.data, {"/ws/events": producers.serve, "/metrics": metrics.serve})
        access = Pairing(options.data, clock, supervised=supervisor is not None)
        # In the Supervisor's network an app is reached by its host name.
        address = gethostname()
        about = About(
            site=store.site,
            version=VERSION,
            url=f"http://{address}:{options.port}",
            data=options.data,
            broker=broker,
        )
        page = StatusPage(about, status, outbox, clock) if supervisor else None
        server = Server(parts, store, access, VERSION, admission, page=page)
        tls = None if supervisor else server_context(options.data)
        _LOGGER.info("Process Cosmos gateway %s, site %s, data in %s", VERSION, store.site, options.data)
        async with server.listen(options.host, options.port, tls), asyncio.TaskGroup() as tasks:
            running: list[asyncio.Task[object]] = [
                tasks.create_task(store.run(), name="store"),
                tasks.create_task(alerts.run(), name="alerts"),
                tasks.create_task(destinations.run(), name="destinations"),
                tasks.create_task(devices.run(), name="devices"),
                tasks.create_task(admission.run(), name="local programs"),
            ]
            ends: list[asyncio.Task[object]] = [tasks.create_task(stop.wait(), name="stop")]
            if supervisor is not None:
                token = discovery_token(options.data)
                offer = {"host": address, "port": options.port, "site": store.site, "token": token}
                announcement = supervisor.announce(offer, server.connected)
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


def _limits(options: Options) -> Limits:
    """Return the quotas set by options; the others depend on the free disk space."""
    chosen = {
        Priority.URGENT: options.outbox_urgent_mb,
        Priority.CHANGE: options.outbox_change_mb,
        Priority.READING: options.outbox_reading_mb,
    }
    return Limits(quota={priority: number * MEGABYTE for priority, number in chosen.items() if number is not None})


@contextmanager
def _lock_data_folder(folder: Path) -> Iterator[None]:
    """Create and lock the data folder: two gateways with one identity would receive each other's messages."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
    except BlockingIOError as error:
        raise FolderTakenError(
            f"Another gateway uses the data folder {folder}. Stop it, or set another folder for this one."
        ) from error
    except OSError as error:
        if error.errno in (EEXIST, ENOTDIR, ENAMETOOLONG, EISDIR, ELOOP, ENOENT):
            raise FolderInvalidError(
                f"{folder} cannot be the data folder ({error.strerror}). Set a folder that can be created."
            ) from error
        if error.errno not in (EACCES, EPERM, EROFS):
            raise
        raise StoreReadOnlyError(
            f"The data folder {folder} is not writable. Make it writable, and check the disk: a failing one is mounted"
            " read-only."
        ) from error
