"""The components of a gateway, built from its options."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from socket import gethostname

from .alerts import Alerts
from .api.change_feed import ChangeFeed
from .api.ingress.page import About, StatusPage
from .api.local_programs.admission import Admission
from .api.local_programs.endpoint import EventsEndpoint
from .api.metrics_endpoint import MetricsEndpoint
from .api.pairing import Pairing
from .api.requests import Requests
from .api.server import Server
from .api.session import Services
from .api.status import StatusReader
from .clock import Clock, SystemClock
from .contract.destinations import Priority
from .contract.identifiers import UlidFactory
from .destinations import Destinations
from .devices import NEW_A_MINUTE, Devices
from .options import MEGABYTE, BrokerOptions, Options
from .outbox import Limits, Outbox
from .store import Store
from .store.disk_reserve import free_bytes

VERSION = version("process-cosmos-gateway")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The system services used by the gateway; the testbed replaces them to inject faults.

    ``vfs``: name of SQLite's VFS (None: the system's). ``free_fn``: returns the free bytes on the disk of a folder.
    ``new_devices``: number of new devices accepted in a minute.
    """

    clock: Clock = field(default_factory=SystemClock)
    vfs: str | None = None
    free_fn: Callable[[Path], int] = free_bytes
    new_devices: int = NEW_A_MINUTE

    def ulids(self, last_ms: int | None = None) -> UlidFactory:
        """Return a factory of ULIDs by this clock; ``last_ms``: time of the newest one made before a restart."""
        return UlidFactory(lambda: int(self.clock.now().timestamp() * 1000), secrets.token_bytes, last_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class Components:
    """The components that run; ``address``: the host name at which Home Assistant reaches the server."""

    alerts: Alerts
    destinations: Destinations
    devices: Devices
    admission: Admission
    server: Server
    address: str


async def open_store(options: Options, machine: Machine) -> Store:
    """Open the database in the data folder; raise ``StoreError``."""
    reserve = options.reserve_mb * MEGABYTE
    return await Store.open(options.data, machine.ulids(), vfs=machine.vfs, reserve=reserve, free_fn=machine.free_fn)


async def build(
    store: Store, options: Options, machine: Machine, broker: BrokerOptions | None, *, supervised: bool
) -> Components:
    """Build all components on an open store; raise ``StoreError``."""
    clock = machine.clock
    outbox = Outbox(store, clock, _limits(options))
    # ULIDs must increase even if the clock was set back while the gateway was stopped.
    ulids = machine.ulids(await outbox.last_own_id_ms())
    alerts = await Alerts.open(store, outbox, clock)
    status_changed = store.watch_writes()
    devices = Devices(
        store,
        outbox,
        clock,
        ulids,
        broker,
        readings=options.readings,
        new_a_minute=machine.new_devices,
        on_broker_change=status_changed.set,
    )
    # Before the feed is built, which starts with the current values.
    await devices.load()
    destinations = Destinations(store, outbox, alerts, clock, on_link_change=status_changed.set)
    feed = ChangeFeed(clock, devices.devices)
    devices.watch(feed.publish)
    status = StatusReader(devices, destinations, outbox, store, status_changed)
    requests = Requests(devices, destinations, outbox)
    producers = EventsEndpoint(outbox)
    metrics = MetricsEndpoint(store, outbox, status, options.data, producers.accept_seconds)
    admission = Admission(options.data, {"/ws/events": producers.serve, "/metrics": metrics.serve})
    # In the Supervisor's network an app is reached by its host name.
    address = gethostname()
    url = f"http://{address}:{options.port}"
    about = About(site=store.site, version=VERSION, url=url, data=options.data, broker=broker)
    server = Server(
        Services(alerts=alerts, feed=feed, requests=requests, status=status, clock=clock),
        store,
        Pairing(options.data, clock, supervised=supervised),
        VERSION,
        admission,
        page=StatusPage(about, status, outbox, clock) if supervised else None,
    )
    return Components(
        alerts=alerts,
        destinations=destinations,
        devices=devices,
        admission=admission,
        server=server,
        address=address,
    )


def _limits(options: Options) -> Limits:
    """Return the quotas set by options; the others depend on the free disk space."""
    chosen = {
        Priority.URGENT: options.outbox_urgent_mb,
        Priority.CHANGE: options.outbox_change_mb,
        Priority.READING: options.outbox_reading_mb,
    }
    return Limits(quota={priority: number * MEGABYTE for priority, number in chosen.items() if number is not None})
